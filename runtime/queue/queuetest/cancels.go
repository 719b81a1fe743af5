package queuetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"moonseal/runtime/queue"
)

func cancelTests() []test {
	return []test{
		{"CancelWaiting", testCancelWaiting},
		{"CancelDueAndBlocked", testCancelDue},
		{"CancelRunning", testCancelRunning},
		{"CancelRetried", testCancelRetried},
	}
}

func (r *rig) wantCancel(run string, want queue.Cancelled) {
	r.t.Helper()
	if was := r.Cancel(run); was != want {
		r.t.Errorf("%s was %q, want %q", run, was, want)
	}
}

func testCancelWaiting(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.add(queue.Job{Run: "1", Playbook: "p"}, r.in(time.Hour))
	r.wantCancel("1", queue.WasWaiting)
	r.wantCancel("1", queue.NotFound)
	if !r.add(queue.Job{Run: "2", Playbook: "p"}, time.Time{}) {
		t.Error("the cancelled run keeps its playbook")
	}
	r.wantBegan("2")
	r.wantWaiting()
}

func testCancelDue(t *testing.T, open Open) {
	r := start(t, open, queue.Options{Concurrency: 1})
	r.hold("l", "other")
	r.add(queue.Job{Run: "1"}, time.Time{})
	r.wantBegan("1")
	r.add(queue.Job{Run: "blocked", Locks: []string{"l", "k"}}, time.Time{})
	r.add(queue.Job{Run: "behind", Locks: []string{"k"}}, time.Time{})
	r.wantWaiting("blocked l", "behind")
	r.wantCancel("blocked", queue.WasWaiting)
	r.end("1", queue.Done())
	r.wantBegan("behind")
}

func testCancelRunning(t *testing.T, open Open) {
	var causes []error
	r := start(t, open, queue.Options{Work: func(ctx context.Context, _ queue.Job) queue.Result {
		<-ctx.Done()
		causes = append(causes, context.Cause(ctx))
		if len(causes) == 1 {
			return queue.Wait(time.Time{})
		}
		return queue.Done()
	}})
	r.add(queue.Job{Run: "1"}, time.Time{})
	for range 2 { // its result counts, and the next call is a new one
		r.wantBegan()
		r.wantCancel("1", queue.WasRunning)
	}
	r.wantIdle(true)
	r.wantCancel("1", queue.NotFound)
	if len(causes) != 2 || !errors.Is(causes[0], queue.ErrCancelled) || !errors.Is(causes[1], queue.ErrCancelled) {
		t.Errorf("causes: %v", causes)
	}
}

func testCancelRetried(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.add(queue.Job{Run: "1"}, time.Time{})
	r.wantBegan("1")
	r.end("1", queue.Retry(errors.New("no process")))
	r.wantCancel("1", queue.WasWaiting)
	r.sleep(time.Minute)
	r.wantBegan()
}

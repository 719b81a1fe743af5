package queuetest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"moonseal/runtime/queue"
)

func stopTests() []test {
	return []test{
		{"StopWaitsForWhatRuns", testStopWaits},
		{"StopEndsWorkWhenItsTimeIsOver", testStopEnds},
		{"StopBeforeStart", testStopBeforeStart},
		{"HaltBeginsNothingMore", testHalt},
		{"StartOutlivesItsContext", testStartContext},
		{"Misuse", testMisuse},
	}
}

func testStopWaits(t *testing.T, open Open) {
	r := start(t, open, queue.Options{Concurrency: 1})
	r.add(queue.Job{Run: "1"}, time.Time{})
	r.wantBegan("1")
	r.add(queue.Job{Run: "2"}, time.Time{})
	stopped := make(chan error, 1)
	go func() { stopped <- r.Stop(context.WithoutCancel(t.Context())) }()
	synctest.Wait()
	r.add(queue.Job{Run: "3"}, time.Time{})
	if err := r.Stop(t.Context()); !errors.Is(err, queue.ErrClosed) || len(stopped) != 0 {
		t.Errorf("a second Stop: %v", err)
	}
	if err := r.Idle(t.Context()); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("Idle while it stops: %v", err)
	}
	r.end("1", queue.Done())
	r.check(<-stopped)
	r.wantBegan()
	r.wantClosed()
}

func (r *rig) wantClosed() {
	r.t.Helper()
	if _, err := r.Enqueue(queue.Job{Run: "new", Playbook: "new"}, time.Time{}); !errors.Is(err, queue.ErrClosed) {
		r.t.Errorf("Enqueue: %v", err)
	}
	if _, err := r.Sync(r.t.Context()); !errors.Is(err, queue.ErrClosed) {
		r.t.Errorf("Sync: %v", err)
	}
	if err := r.Start(r.t.Context()); !errors.Is(err, queue.ErrClosed) {
		r.t.Errorf("Start: %v", err)
	}
	if r.Wake("2") || r.Cancel("2") != queue.NotFound {
		r.t.Error("a closed queue was changed")
	}
}

func testStopEnds(t *testing.T, open Open) {
	var cause error
	r := start(t, open, queue.Options{Work: func(ctx context.Context, _ queue.Job) queue.Result {
		<-ctx.Done()
		cause = context.Cause(ctx)
		return queue.Wait(time.Time{})
	}})
	r.add(queue.Job{Run: "1"}, time.Time{})
	synctest.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	before := r.clock.Now()
	r.check(r.Stop(ctx))
	if took := r.clock.Now().Sub(before); took != time.Minute || !errors.Is(cause, queue.ErrStopped) {
		t.Errorf("after %v: %v", took, cause)
	}
}

func testStopBeforeStart(t *testing.T, open Open) {
	r := newRig(t, open, queue.Options{})
	r.add(queue.Job{Run: "1"}, r.in(time.Hour))
	r.wantIdle(true)
	r.add(queue.Job{Run: "2"}, time.Time{})
	r.wantIdle(false)
	r.check(r.Stop(t.Context()))
	r.wantClosed()
}

func testHalt(t *testing.T, open Open) {
	r := start(t, open, queue.Options{Concurrency: 2})
	r.add(queue.Job{Run: "1"}, time.Time{})
	r.wantBegan("1")
	r.Halt()
	r.Halt()
	r.add(queue.Job{Run: "2"}, time.Time{})
	r.end("1", queue.Wait(time.Time{})) // it is due again at once
	r.sleep(time.Minute)
	r.wantBegan()
	r.wantWaiting("1", "2")
	r.check(r.Stop(t.Context()))
	r.wantBegan()
}

func testStartContext(t *testing.T, open Open) {
	r := newRig(t, open, queue.Options{})
	ctx, cancel := context.WithCancel(startContext(t))
	r.check(r.Start(ctx))
	r.add(queue.Job{Run: "1"}, time.Time{})
	r.wantBegan("1")
	cancel()
	r.add(queue.Job{Run: "2"}, time.Time{})
	r.wantBegan("2")
	if err := r.calls["1"].cause(); err != nil {
		t.Errorf("the end of Start's context reaches Work: %v", err)
	}
}

func testMisuse(t *testing.T, open Open) {
	r := newRig(t, open, queue.Options{})
	for _, j := range []queue.Job{{}, {Run: "1"}, {Playbook: "p"}} {
		if _, err := r.Enqueue(j, time.Time{}); err == nil {
			t.Errorf("%+v was taken", j)
		}
	}
	for _, n := range []int{-1, 0, 10_001} {
		if r.SetConcurrency(n) == nil {
			t.Errorf("a concurrency of %d was taken", n)
		}
	}
	r.check(r.Start(startContext(t)))
	if r.Start(t.Context()) == nil {
		t.Error("started twice")
	}
}

package queue

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	for tries, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 9: 256 * time.Second, 10: longestBackoff, 1000: longestBackoff} {
		if got := backoff(tries); got != want {
			t.Errorf("%d: %v, want %v", tries, got, want)
		}
	}
}

// granted returns a queue without a gate, and its only job, which has a slot.
func granted(t *testing.T) (*memory, *entry) {
	t.Helper()
	q, err := New(t.Context(), Options{Concurrency: 1, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Work: func(context.Context, Job) Result { return Done() }})
	if err != nil {
		t.Fatal(err)
	}
	m := q.(*memory)
	if _, err := m.Enqueue(Job{Run: "1", Playbook: "p"}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	e := m.index.byRun["1"]
	m.index.ripen(m.now())
	m.index.activate(e, &call{since: m.now(), end: func(error) {}})
	return m, e
}

func TestCancelBetweenWorkAndItsResult(t *testing.T) {
	for name, r := range map[string]Result{"done": Done(), "wait": Wait(time.Now().Add(time.Hour)), "locks": WaitForLocks([]string{"l"})} {
		t.Run(name, func(t *testing.T) {
			m, e := granted(t)
			if was := m.Cancel("1"); was != WasRunning {
				t.Errorf("%q", was)
			}
			m.finish(e, r, false)
			if w := m.Waiting(); len(w) != 1 || w[0].At.After(m.now()) || w[0].Lock != "" {
				t.Fatalf("not due again: %+v", w)
			}
			var cause error
			m.opt.Work = func(ctx context.Context, _ Job) Result {
				cause = context.Cause(ctx)
				return Done()
			}
			m.grant(t.Context(), m.now())
			m.workers.Wait()
			if !errors.Is(cause, ErrCancelled) || m.Has("1") {
				t.Errorf("cause %v", cause)
			}
		})
	}
}

func TestHaltBetweenGrantAndWork(t *testing.T) {
	m, e := granted(t)
	m.Halt()
	if m.begin(t.Context(), e) || len(m.Running()) != 0 || len(m.Waiting()) != 1 {
		t.Errorf("running %v, waiting %v", m.Running(), m.Waiting())
	}
	m, e = granted(t)
	m.Halt()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ErrCancelled)
	if !m.begin(ctx, e) {
		t.Error("a cancelled run does not see that it is")
	}
}

package queue

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("MOONSEAL_TEST_QUEUE"); dir != "" {
		workUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// started opens and starts a queue, and stops it at the test's end.
func started(t testing.TB, o Options) *Queue {
	t.Helper()
	q := opened(t, o)
	must(t, q.Start(t.Context()))
	return q
}

func opened(t testing.TB, o Options) *Queue {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Concurrency == 0 {
		o.Concurrency = 4
	}
	if o.Work == nil {
		o.Work = func(context.Context, Job) Result { return Done() }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	q, err := Open(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { stop(t, q) })
	return q
}

func stop(t testing.TB, q *Queue) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // what runs is told to end
	if err := q.Stop(ctx); err != nil && !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func enqueue(t testing.TB, q *Queue, j Job, at time.Time) bool {
	t.Helper()
	if j.Playbook == "" {
		j.Playbook = "playbook of " + j.Run
	}
	added, err := q.Enqueue(t.Context(), j, at)
	must(t, err)
	return added
}

func idle(t testing.TB, q *Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := q.Idle(ctx); err != nil {
		t.Fatalf("not idle: %v; running %v, waiting %v", err, q.Running(), q.Waiting())
	}
}

// next gives what comes from ch within five seconds.
func next[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(5 * time.Second):
		t.Fatal("nothing came in 5 s")
		panic("unreachable")
	}
}

// hands is a Work that tells of each job and waits to be told its result.
type hands struct {
	began chan Job
	mu    sync.Mutex
	give  map[string]chan Result
	now   atomic.Int32
	most  atomic.Int32
}

func newHands() *hands { return &hands{began: make(chan Job, 100), give: map[string]chan Result{}} }

func (h *hands) of(run string) chan Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.give[run] == nil {
		h.give[run] = make(chan Result, 1)
	}
	return h.give[run]
}

func (h *hands) work(ctx context.Context, j Job) Result {
	n := h.now.Add(1)
	defer h.now.Add(-1)
	for m := h.most.Load(); n > m && !h.most.CompareAndSwap(m, n); m = h.most.Load() {
	}
	h.began <- j
	select {
	case r := <-h.of(j.Run):
		return r
	case <-ctx.Done():
		return Wait(time.Time{})
	}
}

func (h *hands) none(t *testing.T) {
	t.Helper()
	select {
	case j := <-h.began:
		t.Fatalf("%s began", j.Run)
	case <-time.After(50 * time.Millisecond):
	}
}

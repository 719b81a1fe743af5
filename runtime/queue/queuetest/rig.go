package queuetest

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/queue"
)

// rig is a queue whose Work waits for the test to say its result.
type rig struct {
	queue.Queue
	t     *testing.T
	clock *setClock

	mu         sync.Mutex
	calls      map[string]*call  // that run now
	began      []string          // since the test looked last
	most       int               // calls at once
	held       map[string]string // the journal's locks
	heldErr    error
	asked      int    // calls of Held
	onHeld     func() // called before Held returns
	unfinished []queue.Waiting
	warnings   []string
}

// call is a call of Work.
type call struct {
	cause  func() error // why its context has ended
	result chan func() queue.Result
}

// newRig returns a rig that was not started; o is completed with what it lacks.
func newRig(t *testing.T, open Open, o queue.Options, unfinished ...queue.Waiting) *rig {
	t.Helper()
	r := &rig{t: t, clock: &setClock{Clock: clockwork.NewRealClock()}, calls: map[string]*call{}, held: map[string]string{}, onHeld: func() {}, unfinished: unfinished}
	if o.Concurrency == 0 {
		o.Concurrency = 4
	}
	if o.Work == nil {
		o.Work = r.work
	}
	o.Held, o.Unfinished, o.Clock, o.Log = r.readHeld, r.readUnfinished, r.clock, slog.New(&logbook{r: r})
	r.Queue = open(t, o)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		cancel()
		if err := r.Stop(ctx); err != nil && !errors.Is(err, queue.ErrClosed) {
			t.Error(err)
		}
	})
	return r
}

// start returns a rig that was started.
func start(t *testing.T, open Open, o queue.Options, unfinished ...queue.Waiting) *rig {
	t.Helper()
	r := newRig(t, open, o, unfinished...)
	r.check(r.Start(startContext(t)))
	return r
}

type key struct{} // of a value that has to reach Work

func startContext(t *testing.T) context.Context {
	return context.WithValue(t.Context(), key{}, "value")
}

func (r *rig) work(ctx context.Context, j queue.Job) queue.Result {
	c := &call{cause: func() error { return context.Cause(ctx) }, result: make(chan func() queue.Result, 1)}
	r.begin(ctx, j, c)
	var result func() queue.Result
	select {
	case result = <-c.result:
	case <-ctx.Done():
		// A result that was set before counts.
		select {
		case result = <-c.result:
		default:
			result = func() queue.Result { return queue.Wait(time.Time{}) }
		}
	}
	r.mu.Lock()
	delete(r.calls, j.Run)
	r.mu.Unlock()
	return result()
}

func (r *rig) begin(ctx context.Context, j queue.Job, c *call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls[j.Run] != nil {
		r.t.Errorf("%s is worked on twice at once", j.Run)
	}
	if ctx.Value(key{}) != "value" {
		r.t.Error("a value of Start's context does not reach Work")
	}
	r.calls[j.Run] = c
	r.began = append(r.began, j.Run)
	r.most = max(r.most, len(r.calls))
}

func (r *rig) readHeld(context.Context) (map[string]string, error) {
	r.mu.Lock()
	r.asked++
	held, err, onHeld := maps.Clone(r.held), r.heldErr, r.onHeld
	r.mu.Unlock()
	onHeld()
	return held, err
}

func (r *rig) readUnfinished(context.Context) ([]queue.Waiting, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.unfinished), nil
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// hold makes run the holder of a lock in the journal, "" is none.
func (r *rig) hold(lock, run string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if run == "" {
		delete(r.held, lock)
	} else {
		r.held[lock] = run
	}
}

// add enqueues a job, by default of a playbook of its own.
func (r *rig) add(j queue.Job, at time.Time) bool {
	r.t.Helper()
	if j.Playbook == "" {
		j.Playbook = "playbook of " + j.Run
	}
	added, err := r.Enqueue(j, at)
	r.check(err)
	return added
}

// in returns the time after d.
func (r *rig) in(d time.Duration) time.Time { return r.clock.Now().Add(d) }

// end lets the Work on a run return.
func (r *rig) end(run string, result queue.Result) {
	r.t.Helper()
	r.endWith(run, func() queue.Result { return result })
}

func (r *rig) endWith(run string, result func() queue.Result) {
	r.t.Helper()
	r.mu.Lock()
	c := r.calls[run]
	r.mu.Unlock()
	if c == nil {
		r.t.Fatalf("%s is not being worked on", run)
	}
	c.result <- result
	synctest.Wait()
}

// sleep lets time pass.
func (r *rig) sleep(d time.Duration) {
	r.clock.Sleep(d)
	synctest.Wait()
}

// wantBegan expects that the Work on exactly these runs began since the last call.
func (r *rig) wantBegan(runs ...string) {
	r.t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.began) // those that begin together have no order
	slices.Sort(runs)
	if !slices.Equal(r.began, runs) {
		r.t.Fatalf("began %v, want %v", r.began, runs)
	}
	r.began = nil
}

// wantWaiting expects these jobs in this order, each as "run" or "run lock".
func (r *rig) wantWaiting(want ...string) {
	r.t.Helper()
	synctest.Wait()
	var got []string
	for _, w := range r.Waiting() {
		got = append(got, strings.TrimSpace(w.Job.Run+" "+w.Lock))
	}
	if !slices.Equal(got, want) {
		r.t.Fatalf("waiting %v, want %v", got, want)
	}
}

func (r *rig) wantIdle(want bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Nanosecond)
	defer cancel()
	if err := r.Idle(ctx); (err == nil) != want {
		r.t.Fatalf("idle: %v, want %v", err, want)
	}
}

// setClock is a clock that can be set; its timers do not notice, as a machine's
// do not.
type setClock struct {
	clockwork.Clock
	ahead atomic.Int64
}

func (c *setClock) Now() time.Time { return c.Clock.Now().Add(time.Duration(c.ahead.Load())) }

func (c *setClock) set(by time.Duration) { c.ahead.Add(int64(by)) }

// logbook keeps the messages of warnings and errors.
type logbook struct {
	slog.Handler
	r *rig
}

func (l *logbook) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (l *logbook) Handle(_ context.Context, rec slog.Record) error {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	l.r.warnings = append(l.r.warnings, rec.Message)
	return nil
}

// warned counts the warnings that contain text.
func (r *rig) warned(text string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.warnings {
		if strings.Contains(w, text) {
			n++
		}
	}
	return n
}

package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"moonseal/runtime/problem"
)

// work calls Options.Work for a job that was granted.
func (m *memory) work(ctx context.Context, e *entry) {
	if !m.begin(ctx, e) {
		return
	}
	var r Result
	// Deferred, so that the slot is free even if Work ends its goroutine.
	defer func() { m.finish(e, r, errors.Is(context.Cause(ctx), ErrCancelled)) }()
	r = m.call(ctx, e.job)
}

// begin reports whether Work must be called: after Halt only for a run that was cancelled;
// the others are left to the next start.
func (m *memory) begin(ctx context.Context, e *entry) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.halted || errors.Is(context.Cause(ctx), ErrCancelled) {
		return true
	}
	e.call.end(nil)
	m.index.wait(e, e.at)
	m.announce()
	return false
}

func (m *memory) call(ctx context.Context, j Job) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			m.opt.Log.Error("panic while working on a run", slog.String("run", j.Run), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			r = Retry(&problem.Error{Kind: problem.Internal, Call: "queue", Message: fmt.Sprintf("panic: %v", p)})
		}
	}()
	return m.opt.Work(ctx, j)
}

// finish frees the slot of a job that Work has returned from, and ends the job or
// makes it wait. sawCancel says that Work's context had ended by Cancel.
func (m *memory) finish(e *entry, r Result, sawCancel bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.call.end(nil)
	again := e.call.again
	e.cancelled = e.cancelled && !sawCancel
	if e.cancelled { // Work is called again to see it
		again = m.now()
	}
	if r.kind == done && again.IsZero() {
		m.index.remove(e)
	} else {
		m.next(e, r, again)
	}
	m.announce()
}

// next makes a job wait for what its result says, or until the time again, if that is
// earlier.
func (m *memory) next(e *entry, r Result, again time.Time) {
	now := m.now()
	at, tries, locks := now, 0, []string(nil)
	switch r.kind {
	case none:
		r.err = &problem.Error{Kind: problem.Internal, Call: "queue", Message: "the work had no result"}
		fallthrough
	case retry:
		tries, locks = e.tries+1, e.job.Locks
		at = now.Add(backoff(tries))
	case wait:
		at = m.orNow(r.until)
	case waitForLocks:
		locks = r.locks
	case done:
		at = again
	}
	if !again.IsZero() && !again.After(now) {
		locks = nil // only Work knows whether the run still waits for them
	}
	at = earlier(at, again)
	if tries > 0 {
		m.opt.Log.Warn("cannot work on a run now", slog.String("run", e.job.Run), slog.Time("again", at), slog.Any("err", r.err))
	}
	m.index.wait(e, at)
	e.tries, e.job.Locks = tries, locks
}

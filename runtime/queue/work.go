package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/riverqueue/river"

	"moonseal/runtime/problem"
)

// worker is what River calls for a job.
type worker struct {
	river.WorkerDefaults[args]
	q *Queue
}

// Work calls Options.Work and writes its Result. An error tells River that
// nothing was written: the job is left for the next Open.
func (w *worker) Work(ctx context.Context, j *river.Job[args]) error {
	q := w.q
	e, work, ok := q.take(ctx, j.ID)
	if !ok {
		return errors.New("not made available by the gate") // River sets it aside; a grant or the next Open takes it back
	}
	var r Result
	if work == nil {
		r = Wait(e.at) // stopping: it is next at the next start
	} else {
		r = q.call(work, e.job)
		work.end(nil)
	}
	q.mu.Lock()
	e.state, e.ends = settling, r.kind == done
	q.mu.Unlock()
	return q.settle(context.WithoutCancel(ctx), e, j, r)
}

// call is a context for Work and its end.
type call struct {
	ctx context.Context //nolint:containedctx // made under the lock, used after it
	end context.CancelCauseFunc
}

// take begins the work on a job; there is none to do while the queue stops.
func (q *Queue) take(ctx context.Context, id int64) (e *entry, work *call, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e = q.index.byID[id]
	if e == nil || e.state != granted {
		return nil, nil, false
	}
	e.state, e.since = running, q.opt.Clock.Now()
	if q.halted && !errors.Is(e.cause, ErrCancelled) {
		return e, nil, true
	}
	ctx, cancel := context.WithCancelCause(ctx)
	e.cancel = cancel
	if e.cause != nil {
		cancel(e.cause)
	}
	return e, &call{ctx: ctx, end: cancel}, true
}

func (q *Queue) call(c *call, j Job) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			q.opt.Log.Error("panic while working on a run", slog.String("run", j.Run), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			r = Retry(&problem.Error{Kind: problem.Internal, Call: "queue", Message: fmt.Sprintf("panic: %v", p)})
		}
	}()
	r = q.opt.Work(c.ctx, j)
	if r.kind == none {
		r = Retry(&problem.Error{Kind: problem.Internal, Call: "queue", Message: "the work had no result"})
	}
	return r
}

// settle writes what became of a job, and frees its slot. It tries until it
// succeeds: what cannot be written keeps its slot, its locks and its playbook.
func (q *Queue) settle(ctx context.Context, e *entry, j *river.Job[args], r Result) error {
	for tries := 0; ; tries++ {
		err := q.settleOnce(ctx, e, j, r)
		if err == nil {
			return nil
		}
		if tries == 0 {
			q.opt.Log.Error("cannot write what became of a run; trying again each second",
				slog.String("run", e.job.Run), slog.Any("err", storeError(q.store.path, err)))
		}
		timer := q.opt.Clock.NewTimer(lookAgain)
		select {
		case <-timer.Chan():
		case <-q.hard:
			timer.Stop()
			return err
		}
	}
}

func (q *Queue) settleOnce(ctx context.Context, e *entry, j *river.Job[args], r Result) error {
	if err := q.begin(ctx); err != nil {
		return err
	}
	defer q.end()
	q.mu.Lock()
	ends := e.ends && e.wake.IsZero() // whoever woke it meanwhile knows more than the result
	q.mu.Unlock()
	if ends {
		if _, err := q.store.finish(ctx, j, nil, time.Time{}); err != nil {
			return err
		}
		q.update(func(x *index) { x.remove(e) })
		return nil
	}
	q.mu.Lock()
	tries, at := 0, r.until
	if r.kind == retry {
		tries = e.tries + 1
		at = q.opt.Clock.Now().Add(backoff(tries))
	}
	at = earlier(at, e.wake)
	q.mu.Unlock()
	if at.IsZero() {
		at = q.opt.Clock.Now()
	}
	next := argsOf(e.job, tries)
	id, err := q.store.finish(ctx, j, &next, at)
	if err != nil {
		return err
	}
	if r.kind == retry {
		q.opt.Log.Warn("cannot work on a run now", slog.String("run", e.job.Run), slog.Time("again", at), slog.Any("err", r.err))
	}
	q.update(func(x *index) { x.again(e, id, tries, at) })
	return nil
}

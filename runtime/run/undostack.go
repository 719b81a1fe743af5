package run

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"
	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

const (
	undoTimeout  = 2 * time.Minute
	undoAttempts = 3
)

// undo is one piece of clean-up that the journal knows.
type undo struct {
	n       int
	effect  *effect // nil for a script's own
	fn      string
	args    json.RawMessage
	label   string // the step's
	done    bool
	failed  int             // how often it was kept before
	granted json.RawMessage // what the playbook was granted when the change was made; see [journal.UndoSpec]
	since   time.Time       // its latest attempt in this process
	rest    time.Duration   // from then on it is left alone
	fun     *lua.LFunction  // a script's own function, once the body has come to it
}

// undoStack is the clean-up that the run owes, in the order in which it was journaled. It
// runs last in, first out; one that fails is retried, and then kept in the journal for
// `moonseal cleanup`.
type undoStack struct {
	rec    *recorder
	clock  clockwork.Clock
	log    *slog.Logger
	jitter func() float64
	trace  func(Point, string)

	once     func(context.Context, *undo) error         // does one attempt
	wait     func(context.Context, time.Duration) error // between attempts
	redacted func(error) *problem.Error

	undos     []*undo
	announced bool
}

// push adds an undo that is journaled.
func (st *undoStack) push(u *undo) { st.undos = append(st.undos, u) }

// next is the number of the next undo.
func (st *undoStack) next() int { return len(st.undos) }

// void drops the undo of a call of which not even a part has happened.
func (st *undoStack) void(e *effect) {
	for _, u := range st.undos {
		u.done = u.done || u.effect == e
	}
}

// unclaimed returns the first function of ctx:defer that the body has not come to yet, nil
// for none.
func (st *undoStack) unclaimed() *undo {
	for _, u := range st.undos {
		if u.fn == deferFn && u.fun == nil {
			return u
		}
	}
	return nil
}

func (st *undoStack) pending() bool {
	return slices.ContainsFunc(st.undos, func(u *undo) bool { return !u.done })
}

// announce logs, once, that the clean-up is under way.
func (st *undoStack) announce() {
	if !st.announced {
		st.announced = true
		st.log.Info("cleaning up", EventKey, EventCleanUp)
	}
}

// run runs the pending undos that match, the latest first. Clean-up continues when the run
// is cancelled, under a bound of its own. An error means that this process cannot continue.
func (st *undoStack) run(ctx context.Context, match func(*undo) bool) error {
	ctx = context.WithoutCancel(ctx)
	for _, u := range slices.Backward(st.undos) {
		if u.done || !match(u) {
			continue
		}
		if err := st.attempts(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

func anyUndo(*undo) bool { return true }

func (st *undoStack) attempts(ctx context.Context, u *undo) error {
	if st.rests(u) > undoTimeout {
		return nil // it is kept already, and nothing can have changed
	}
	for attempt := 1; ; attempt++ {
		if pause := st.rests(u); pause > 0 {
			if err := st.wait(ctx, pause); err != nil {
				return err
			}
		}
		err := st.once(ctx, u)
		if isControl(err) {
			return err
		}
		if err == nil {
			if err := st.rec.write(ctx, journal.UndoDone{Stamp: st.rec.stamp(), N: u.n}); err != nil {
				return err
			}
			u.done = true
			st.trace(BetweenUndos, u.fn)
			return nil
		}
		failed := st.redacted(err)
		u.since = st.clock.Now()
		u.rest = max(Retry{Backoff: time.Second, Max: InProcess}.wait(attempt, st.jitter()), failed.RetryAfter.Sub(u.since))
		if !failed.Kind.Retryable() || attempt == undoAttempts || u.rest > undoTimeout {
			return st.keep(ctx, u, failed)
		}
	}
}

// rests returns how long an undo is left alone from now on, by durations of the clock.
func (st *undoStack) rests(u *undo) time.Duration {
	if u.since.IsZero() {
		return 0
	}
	return u.rest - st.clock.Since(u.since)
}

// keep leaves an undo that failed to `moonseal cleanup`.
func (st *undoStack) keep(ctx context.Context, u *undo, failed *problem.Error) error {
	next := u.since.Add(max(roundWait(u.failed), u.rest))
	u.failed++
	if !failed.Kind.Retryable() {
		u.rest = DefaultGiveUp // not again in this process
	}
	st.log.Error("clean-up failed; it is kept", EventKey, EventCleanUp, "function", u.fn, "undo_of", u.label, "error", failed.Error(),
		"hint", "moonseal cleanup list shows it, moonseal cleanup retry tries again")
	return st.rec.write(ctx, journal.UndoFailed{Stamp: st.rec.stamp(), N: u.n, Error: failed, NextAt: next.UTC()})
}

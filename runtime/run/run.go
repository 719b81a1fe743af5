package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"
	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/account"
	"moonseal/runtime/bind"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
	"moonseal/runtime/secret"
)

// Journal is where a run's records go: the journal itself, or the wire to the
// process that owns it.
type Journal interface {
	// Write returns when the records are synced.
	Write(ctx context.Context, recs ...journal.Record) error
	// WriteLazy lets the records go with the next commit.
	WriteLazy(ctx context.Context, recs ...journal.Record) error
	// HeldBy returns which of the values a pending undo of another unfinished run
	// holds, and which run that is.
	HeldBy(ctx context.Context, values []string, except string) (map[string]string, error)
}

// Options are what a run needs. All but what may be nil are required.
type Options struct {
	Registry *bind.Registry
	History  *journal.History
	Journal  Journal
	Clock    clockwork.Clock
	Logger   *slog.Logger // gets each log line, redacted; the journal gets them too
	Network  *grant.Network
	Account  *account.Store
	Secrets  secret.Source
	Redactor *secret.Redactor
	Mode     Mode
	Drain    <-chan struct{} // closed when the run is to stop, after a step or at a wait; nil: never
	Grace    time.Duration   // how long the call under way may continue once the run is cancelled
	Hurry    context.Context //nolint:containedctx // a signal, which ends when a cancelled run is not to wait for it; nil: never
	Window   Window          // when the appliance may be changed; nil: always
	// Jitter returns a number in [0, 1), for back-offs.
	Jitter func() float64
	// Trace is called at points at which a crash is worth a test; see [Point].
	Trace func(p Point, what string)
	// Reach is called before a function may reach outside, which can end the
	// process; its error ends the run. May be nil.
	Reach func() error
	// OnHang is called with a function that continues for GracePeriod after its context has
	// ended; it ends the process. May be nil.
	OnHang func(call string)
	// GracePeriod also bounds the body of a run that is ending, which only claims its
	// deferred functions. 0: no bound.
	GracePeriod time.Duration
}

// Mode is what Execute does with the run.
type Mode string

// The modes.
const (
	Continue Mode = ""        // resumes it where it is
	Cancel   Mode = "cancel"  // starts nothing any more, undoes, and ends it as cancelled
	Cleanup  Mode = "cleanup" // tries the pending undos of a run that has ended
	Replay   Mode = "replay"  // resumes it, and stops after one step, so that the next process replays it
)

// Replaying is the status of an outcome that is not one yet: the run is to be resumed at once.
const Replaying journal.Status = "replaying"

// Point is a place between two things that a crash can come between.
type Point string

// The points. What they name is the function or the step.
const (
	BeforeMark   Point = "before-mark"   // an effect is about to be marked
	AfterMark    Point = "after-mark"    // its mark is synced
	AfterAnswer  Point = "after-answer"  // its answer was read, and is not journaled
	AfterStep    Point = "after-step"    // the step's result is synced
	BetweenUndos Point = "between-undos" // an undo is journaled as done
	BeforeEnd    Point = "before-end"    // all is done but the journal's last record
)

// Outcome is how Execute ended.
type Outcome struct {
	Status journal.Status // an outcome, or Waiting, or Parked
	Reason string         // why it was skipped or parked, or what it waits for
	Until  time.Time      // when a waiting run continues
	Error  *problem.Error // why it failed, waits or parked
	Left   []string       // what a cancelled run may have made, or has half made
}

// Run is one execution in this process. It keeps the flow: which step runs, what an error
// leads to, and how the run ends. Where it is in its history is the cursor's, what it owes
// is on the undo stack, and what it logs goes through the logbook.
type Run struct {
	opt      Options
	id       string
	playbook Playbook
	state    *sandbox.State
	binding  *bind.Binding
	lua      *luaContext

	rec      *recorder
	cursor   *cursor
	undos    *undoStack
	log      *logbook
	marks    *marks
	work     *workTimer
	watchdog watchdog

	loading bool
	current *step  // the step whose function runs
	hook    bool   // a hook runs
	asking  string // "a poll" or "a probe" while its function runs, which changes nothing
	now     time.Time

	failures int       // waits at the step that fails
	failing  time.Time // since when it does
}

// New readies a run in state, which it owns from now on. While the playbook is
// loaded, until [Run.Execute], only pure functions may be called.
func New(state *sandbox.State, opt Options) *Run {
	h := opt.History
	if opt.Trace == nil {
		opt.Trace = func(Point, string) {}
	}
	r := &Run{
		opt: opt, id: h.Run.ID, state: state, loading: true, now: h.Run.Created, failures: h.Run.Failures, failing: h.Run.FailingSince,
		watchdog: watchdog{clock: opt.Clock, grace: opt.GracePeriod, onHang: opt.OnHang},
	}
	r.rec = &recorder{journal: opt.Journal, clock: opt.Clock, run: r.id, epoch: h.Run.Epoch, quota: journal.QuotaOf(h)}
	r.cursor = &cursor{
		rec: r.rec, seen: map[stepKey]bool{}, rowsRecorded: len(h.Records),
		ending: h.Run.Outcome != "" || opt.Mode == Cancel || opt.Mode == Cleanup,
	}
	r.marks = newMarks(r.rec, h.Hooks)
	r.log = newLogbook(r.rec, &opt, r.marks, func() string {
		if r.current == nil {
			return ""
		}
		return r.current.label()
	})
	r.undos = &undoStack{
		rec: r.rec, clock: opt.Clock, log: r.log.engine, jitter: opt.Jitter, trace: opt.Trace, once: r.undo, redacted: r.log.redacted,
		wait: func(ctx context.Context, d time.Duration) error { return r.work.wait(ctx, d, nil) },
	}
	r.binding = opt.Registry.Bind(state.L, r, func(l *lua.LState, err error) { sandbox.Raise(l, r.log.masked(err)) })
	restore(h, r.cursor, r.undos)
	if by := h.Run.Latest.Sub(opt.Clock.Now()); by > 0 {
		// The clock was set back: what an earlier process waits for comes when the journal
		// will have it once this one has resumed, see [journal.Run.Latest].
		r.cursor.setBack(by)
		if !r.failing.IsZero() {
			r.failing = r.failing.Add(-by)
		}
	}
	// The rest is held once, and only as long as it is needed.
	r.opt.History = &journal.History{Run: h.Run, Decisions: h.Decisions, Before: h.Before}
	return r
}

// Warn writes into the run's log why it does less than it should.
func (r *Run) Warn(message string, why error) {
	r.log.engine.Warn(message, "error", why.Error())
}

// Binding returns the modules and built-ins for the run's state.
func (r *Run) Binding() *bind.Binding { return r.binding }

// Execute runs the playbook until it ends or stops half-way. An error means
// that this process cannot continue: the journal cannot be written, or ctx ended
// for a reason other than [ErrCancelled]. The run is then as the journal has it.
func (r *Run) Execute(ctx context.Context, p Playbook) (*Outcome, error) {
	r.playbook, r.loading = p, false
	r.work = newWorkTimer(r.opt.Clock, p.Timeout, r.opt.History.Run.Worked)
	r.work.grace, r.work.hurry = r.opt.Grace, cmp.Or(r.opt.Hurry, context.Background())
	r.rec.work = r.work
	r.lua = newLuaContext(r)
	r.state.Seal()
	defer r.log.logDropped()
	r.log.renewals.hosts = r.marks.withPrefix(hostMark)
	r.log.renewals.decided(r.opt.History.Decisions)
	if r.opt.Mode != Cleanup {
		if err := r.rec.lazy(ctx, journal.RunResumed{Stamp: r.rec.stamp()}); err != nil {
			return nil, err
		}
	}
	if before := r.opt.History.Before; before != nil && r.opt.History.Run.Started.IsZero() {
		r.log.engine.Warn("the run before was cancelled, and left: "+strings.Join(before.Left, "; "), "run_before", before.Run)
	}
	if !r.cursor.ending {
		r.runHook(ctx, "start", event{Status: string(journal.Running)})
	}
	bodyErr := r.body(ctx)
	if c, ok := errors.AsType[*CancelledError](context.Cause(ctx)); ok {
		r.log.renewals.decided(c.Decisions)
	}
	if early := r.endedEarly(ctx, bodyErr); early != nil {
		bodyErr = early
	}
	if errors.Is(bodyErr, errWorkUsed) {
		bodyErr = r.outOfTime(ctx, bodyErr)
	}
	var c *control
	switch {
	case r.opt.Mode == Cleanup:
		return r.cleanup(ctx)
	case r.cursor.ending && r.opt.History.Run.Outcome != "":
		// The outcome stands; the body ran to claim the deferred functions.
		return r.finish(ctx, nil)
	case r.cursor.ending:
		return r.finish(ctx, r.cancelled(ctx))
	case errors.As(bodyErr, &c) && c.stop != nil:
		return nil, c.stop
	case errors.As(bodyErr, &c) && !c.outcome.Status.Outcome():
		return c.outcome, nil
	case errors.As(bodyErr, &c):
		return r.finish(ctx, c.outcome)
	case errors.Is(context.Cause(ctx), ErrCancelled):
		return r.finish(ctx, r.cancelled(ctx))
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case bodyErr != nil:
		return r.finish(ctx, &Outcome{Status: journal.Failed, Error: problem.From(bodyErr)})
	default:
		return r.finish(ctx, &Outcome{Status: journal.Done})
	}
}

// endedEarly parks a run whose body has ended before it came to all steps that the
// journal has: it depends on something outside of steps, and what it would end as is not
// what the run has done. nil if it has not ended, or has come to all of them.
func (r *Run) endedEarly(ctx context.Context, bodyErr error) error {
	var c *control
	ended := !errors.As(bodyErr, &c) || c.stop == nil && c.outcome.Status == journal.Skipped
	missed := r.cursor.missed()
	if r.cursor.ending || !ended || ctx.Err() != nil || errors.Is(bodyErr, errWorkUsed) || missed == nil {
		return nil //nolint:nilerr // bodyErr is the caller's
	}
	at := r.cursor.place
	var cause *problem.Error
	if bodyErr != nil && c == nil {
		cause = r.log.redacted(bodyErr)
		if cause.Place != nil {
			at = cause.Place
		}
	}
	where := ""
	if at != nil {
		where = fmt.Sprintf(" after %s:%d", at.File, at.Line)
	}
	return r.park(ctx, fmt.Sprintf("the script has ended%s, before it came to step %q, which this run has started: it depends on something outside of steps",
		where, missed.label()), cause)
}

// body calls the playbook's run function. A run that only cleans up may have none: its
// scripts no longer load.
func (r *Run) body(ctx context.Context) error {
	if r.playbook.Run == nil {
		return nil
	}
	ctx, stop := r.work.context(ctx)
	defer stop()
	if r.cursor.ending && r.opt.GracePeriod > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer r.opt.Clock.AfterFunc(r.opt.GracePeriod, cancel).Stop()
	}
	_, err := r.state.Call(ctx, r.state.L, r.playbook.Run, r.lua.value)
	if used := r.work.used(ctx); used != nil && err != nil && !isControl(err) {
		return used
	}
	return err
}

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
	// HeldBy tells which of the values a pending undo of another unfinished run
	// holds, and whose it is.
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
	Drain    <-chan struct{} // closed when the run is to stop where a step has ended, or where it waits; nil: never
	Grace    time.Duration   // how long the call under way may continue once the run is cancelled
	Hurry    context.Context //nolint:containedctx // a signal, which ends when a cancelled run is not to wait for it; nil: never
	Window   Window          // when the appliance may be changed; nil: always
	// Jitter returns a number in [0, 1), for back-offs.
	Jitter func() float64
	// Trace is told of points at which a crash is worth a test; see [Point].
	Trace func(p Point, what string)
	// Reach is called before a function may reach outside, which can end the
	// process; its error ends the run. May be nil.
	Reach func() error
	// OnHang is told of a function that continues for GracePeriod after its context has
	// ended; it ends the process. May be nil.
	OnHang func(call string)
	// GracePeriod also bounds the body of a run that is ending: it only returns the deferred
	// functions back. 0 is no bound.
	GracePeriod time.Duration
}

// Mode says what Execute does with the run.
type Mode string

// The modes.
const (
	GoOn    Mode = ""        // takes it up where it is
	Cancel  Mode = "cancel"  // begins nothing any more, undoes, and ends it as cancelled
	Cleanup Mode = "cleanup" // tries the pending undos of a run that has ended
	Replay  Mode = "replay"  // takes it up, and stops after one step, so that the next process replays it
)

// Replaying is the status of an outcome that only says: take it up again.
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

// Run is one execution in this process.
type Run struct {
	opt      Options
	id       string
	epoch    int64
	playbook Playbook
	state    *sandbox.State
	binding  *bind.Binding
	ctxValue *lua.LUserData

	steps    []*step // as journaled, then as they come
	next     int     // the next step's number
	seen     map[stepKey]bool
	current  *step  // the step whose function runs
	hook     bool   // a hook runs
	asking   string // "a poll" or "a probe" while its function runs, which changes nothing
	loading  bool
	ending   bool // the outcome is journaled; nothing new may begin
	now      time.Time
	reached  *problem.Place // the line of the last call of ctx
	records  int            // ctx:record calls so far
	recorded int            // of them, those that the journal had
	undos    []*undo
	cleaned  bool // the clean-up was announced

	journaled  int     // steps that the journal had
	deferSteps []*step // the steps of deferred functions
	approval   *step   // of the first change, in mode ask; nil until asked for
	hooks      map[string]bool
	failures   int       // waits at the step that fails
	failing    time.Time // since when it does
	work       *workTimer
	hosts      []string    // that the run works on
	early      []earlyLine // of renewal.log, from before the first of them was known
	buffered   *[]logLine  // takes the log lines that go with a record; see commitStep
	logBroken  bool        // a renewal.log cannot be written, which was said
	logger     *slog.Logger
	scriptLog  *slog.Logger // of what scripts and modules say
	room       logRoom
	quota      *journal.Quota
}

// New readies a run in state, which it owns from now on. While the playbook is
// loaded, until [Run.Execute], only pure functions may be called.
func New(state *sandbox.State, opt Options) *Run {
	h := opt.History
	r := &Run{
		opt: opt, id: h.Run.ID, epoch: h.Run.Epoch, state: state, loading: true, seen: map[stepKey]bool{},
		failures: h.Run.Failures, failing: h.Run.FailingSince, now: h.Run.Created, hooks: map[string]bool{}, recorded: len(h.Records),
		ending: h.Run.Outcome != "" || opt.Mode == Cancel || opt.Mode == Cleanup,
	}
	if r.opt.Trace == nil {
		r.opt.Trace = func(Point, string) {}
	}
	r.logger = slog.New(opt.Redactor.Handler(&logHandler{run: r, next: opt.Logger.Handler()}))
	r.scriptLog = slog.New(opt.Redactor.Handler(&logHandler{run: r, next: opt.Logger.Handler(), script: true}))
	r.room.used = h.LogSize
	r.quota = journal.QuotaOf(h)
	r.binding = opt.Registry.Bind(state.L, r, func(l *lua.LState, err error) { sandbox.Raise(l, r.masked(err)) })
	r.restore(h)
	r.setBack(h.Run.Latest)
	r.opt.History = &journal.History{Run: h.Run, Decisions: h.Decisions, Before: h.Before} // the rest is held once, and only as long as it is needed
	return r
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
	r.ctxValue = r.newContext()
	r.state.Seal()
	defer r.logDropped()
	r.hosts = r.marked(hostMark)
	r.decided(r.opt.History.Decisions)
	if r.opt.Mode != Cleanup {
		if err := r.lazy(ctx, journal.RunResumed{Stamp: r.stamp()}); err != nil {
			return nil, err
		}
	}
	if before := r.opt.History.Before; before != nil && r.opt.History.Run.Started.IsZero() {
		r.logger.Warn("the run before was cancelled, and left: "+strings.Join(before.Left, "; "), "run_before", before.Run)
	}
	if !r.ending {
		r.runHook(ctx, "start", event{Status: string(journal.Running)})
	}
	bodyErr := r.body(ctx)
	if c, ok := errors.AsType[*CancelledError](context.Cause(ctx)); ok {
		r.decided(c.Decisions)
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
	case r.ending && r.opt.History.Run.Outcome != "":
		// The outcome stands; the body ran to give the deferred functions back.
		return r.finish(ctx, nil)
	case r.ending:
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
	if r.ending || !ended || ctx.Err() != nil || errors.Is(bodyErr, errWorkUsed) || r.next >= r.journaled {
		return nil //nolint:nilerr // bodyErr is the caller's
	}
	at := r.reached
	var cause *problem.Error
	if bodyErr != nil && c == nil {
		cause = r.redacted(bodyErr)
		if cause.Place != nil {
			at = cause.Place
		}
	}
	where := ""
	if at != nil {
		where = fmt.Sprintf(" after %s:%d", at.File, at.Line)
	}
	return r.park(ctx, fmt.Sprintf("the script has ended%s, before it came to step %q, which this run has begun: it depends on something outside of steps",
		where, r.steps[r.next].label()), cause)
}

// body calls the playbook's run function. A run that only cleans up may have none: its
// scripts no longer load.
func (r *Run) body(ctx context.Context) error {
	if r.playbook.Run == nil {
		return nil
	}
	ctx, stop := r.work.context(ctx)
	defer stop()
	if r.ending && r.opt.GracePeriod > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer r.opt.Clock.AfterFunc(r.opt.GracePeriod, cancel).Stop()
	}
	_, err := r.state.Call(ctx, r.state.L, r.playbook.Run, r.ctxValue)
	if used := r.work.used(ctx); used != nil && err != nil && !isControl(err) {
		return used
	}
	return err
}

func (r *Run) stamp() journal.Stamp {
	return journal.Stamp{Run: r.id, Epoch: r.epoch, At: r.opt.Clock.Now().UTC(), Worked: r.work.work()}
}

// write syncs records. A journal that cannot be written ends this process's
// work: what comes after would not be known.
func (r *Run) write(ctx context.Context, recs ...journal.Record) error {
	// A cancel must not tear a record from the work that it tells of.
	if err := r.opt.Journal.Write(context.WithoutCancel(ctx), recs...); err != nil {
		return &control{stop: err}
	}
	r.quota.Add(recs...)
	return nil
}

func (r *Run) lazy(ctx context.Context, recs ...journal.Record) error {
	if err := r.opt.Journal.WriteLazy(context.WithoutCancel(ctx), recs...); err != nil {
		return &control{stop: err}
	}
	r.quota.Add(recs...)
	return nil
}

// replaying reports whether the body has yet to come to where the journal ends.
func (r *Run) replaying() bool { return r.next < r.journaled || r.ending }

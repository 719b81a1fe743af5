package run

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

// Kinds of steps in the journal.
const (
	kindStep  = "step"
	kindPoll  = "poll"
	kindSleep = "sleep"

	kindApprove = "approve"
)

// step is one step, as the journal has it and as it proceeds.
type step struct {
	stepKey

	n        int
	kind     string
	state    journal.StepState
	attempt  int // of the last start; 0: never started
	deadline time.Time
	result   json.RawMessage
	err      *problem.Error
	started  time.Time
	ended    time.Time
	effects  []*effect
	options  stepOptions
}

func (s *step) label() string { return s.stepKey.String() }

func (s *step) final() bool { return s.state == journal.StepIsDone || s.state == journal.StepIsFailed }

// start is the record of the step's current attempt.
func (s *step) start(stamp journal.Stamp) journal.StepStarted {
	return journal.StepStarted{Stamp: stamp, Step: s.n, Kind: s.kind, Name: s.name, Key: s.key, Attempt: s.attempt}
}

// enter returns the step that the body has come to: the recorded one, or a new one. A
// body that has come to another one than is recorded parks the run.
func (r *Run) enter(ctx context.Context, kind string, k stepKey, opts stepOptions) (*step, error) {
	if err := r.mayStep(kind); err != nil {
		return nil, err
	}
	s, err := r.cursor.enter(kind, k)
	if mismatch, ok := errors.AsType[*mismatchError](err); ok {
		return nil, r.park(ctx, mismatch.Error(), nil)
	}
	if err != nil {
		return nil, err
	}
	s.options = opts
	return s, nil
}

func (r *Run) mayStep(kind string) error {
	call := "ctx:" + kind
	switch {
	case r.current != nil:
		return misuse(call, fmt.Sprintf("called inside step %q", r.current.label()), "a step's function may not start another step: return from it first")
	case r.hook:
		return misuse(call, "called inside a hook", "a hook observes; it has no steps")
	}
	return nil
}

// replay answers from the journal if the step has ended.
func (r *Run) replay(s *step) (lua.LValue, error, bool) {
	switch s.state {
	case journal.StepIsDone:
		r.now = s.ended
		plain, err := r.opt.Registry.Decode(s.result)
		if err != nil {
			return nil, err, true
		}
		v, err := r.binding.ToLua(plain)
		return v, err, true
	case journal.StepIsFailed:
		r.now = s.ended
		e := *s.err
		return nil, &e, true
	default:
		return nil, nil, false
	}
}

// runStep is ctx:step and ctx:poll.
func (r *Run) runStep(L *lua.LState, kind, name string, opts stepOptions, fn *lua.LFunction) (lua.LValue, error) {
	ctx := L.Context()
	k := stepKey{name, opts.Key}
	if err := cmp.Or(r.mayStep(kind), r.cursor.check(kind, k)); err != nil {
		return nil, err
	}
	if err := sandbox.CheckStep(fn); err != nil { // before it has a number, and the same each time
		return nil, err
	}
	s, err := r.enter(ctx, kind, k, opts)
	if err != nil {
		return nil, err
	}
	if v, err, ok := r.replay(s); ok {
		s.result = nil // the body comes to it once
		return v, err
	}
	call := func(ctx context.Context) (any, error) { return r.callOnce(ctx, L, s, fn) }
	if kind == kindPoll {
		call = (&poll{run: r, L: L, step: s, fn: fn}).wait
	}
	return r.attempts(ctx, s, call)
}

// attempts starts the step again and again, until it is done, has failed for
// good, or the run has to wait.
func (r *Run) attempts(ctx context.Context, s *step, call func(context.Context) (any, error)) (lua.LValue, error) {
	for round := 1; ; round++ {
		s.attempt++
		started := s.start(r.rec.stamp())
		if s.deadline.IsZero() && s.options.Within > 0 {
			s.deadline = started.At.Add(s.options.Within)
		}
		started.Deadline = s.deadline
		if s.started.IsZero() {
			s.started = started.At
		}
		if err := r.rec.lazy(ctx, started); err != nil {
			return nil, err
		}
		r.runHook(ctx, "step", attemptEvent(s, nil))
		result, err := r.attempt(ctx, s, call)
		if err == nil {
			return r.done(ctx, s, result)
		}
		if err := r.attemptFailed(ctx, s, round, err); err != nil {
			return nil, err
		}
	}
}

// attempt runs the step's function once, under its own time limit.
func (r *Run) attempt(ctx context.Context, s *step, call func(context.Context) (any, error)) (any, error) {
	if s.options.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.options.Timeout)
		defer cancel()
	}
	r.current = s
	defer func() { r.current = nil }()
	for _, e := range s.effects {
		e.met = false
	}
	result, err := call(ctx)
	if err == nil { // whatever the script has caught, no step is done with an open call
		err = r.resolveOpen(ctx, s, "")
	}
	if u, ok := errors.AsType[*unresolved](err); ok {
		err = u.cause
	}
	return result, err
}

// callOnce calls a step's function and returns its first result as plain data.
func (r *Run) callOnce(ctx context.Context, L *lua.LState, s *step, fn *lua.LFunction) (any, error) {
	values, err := r.callFrozen(ctx, L, fn)
	if err != nil {
		return nil, err
	}
	return r.firstResult(s, values)
}

// callFrozen calls a step's function, which may change nothing from outside of it.
func (r *Run) callFrozen(ctx context.Context, L *lua.LState, fn *lua.LFunction) ([]lua.LValue, error) {
	thaw := r.state.Freeze(fn)
	values, err := r.state.Call(ctx, L, fn)
	if changed := thaw(); err == nil {
		err = changed
	}
	return values, err
}

func (r *Run) firstResult(s *step, values []lua.LValue) (any, error) {
	if len(values) == 0 {
		return nil, nil
	}
	plain, err := r.binding.FromLua(values[0])
	if err != nil {
		return nil, misuse("ctx:"+s.kind, fmt.Sprintf("the result of step %q: %s", s.label(), err), "a step returns plain data or what a module returned")
	}
	return plain, nil
}

func (r *Run) done(ctx context.Context, s *step, result any) (lua.LValue, error) {
	raw, err := r.opt.Registry.Encode(result)
	if err != nil {
		e := misuse("ctx:"+s.kind, fmt.Sprintf("the result of step %q cannot be journaled: %s", s.label(), err), "")
		return nil, r.failedForGood(ctx, s, e)
	}
	rec := journal.StepDone{Stamp: r.rec.stamp(), Step: s.n, Result: raw}
	if e, _ := r.rec.exceeds(r.cursor.purpose(), "ctx:"+s.kind, fmt.Sprintf("step %q", s.label()), rec); e != nil {
		e.Place = r.cursor.place
		return nil, r.failedForGood(ctx, s, e)
	}
	if err := r.log.commitStep(ctx, s, rec, slog.LevelInfo, "done", "attempt", s.attempt, "seconds", rec.At.Sub(s.started).Seconds()); err != nil {
		return nil, err
	}
	s.state, s.result, s.ended, r.now = journal.StepIsDone, raw, rec.At, rec.At
	r.failures, r.failing = 0, time.Time{} // they are that step's
	r.opt.Trace(AfterStep, s.label())
	if (r.opt.Mode == Replay || draining(r.opt.Drain)) && !r.cursor.ending {
		return nil, &control{outcome: &Outcome{Status: Replaying}}
	}
	v, err, _ := r.replay(s)
	return v, err
}

// failedForGood journals the step's error and returns it.
func (r *Run) failedForGood(ctx context.Context, s *step, e *problem.Error) error {
	rec := journal.StepFailed{Stamp: r.rec.stamp(), Step: s.n, Attempt: s.attempt, Error: e, Final: true}
	if err := r.log.commitStep(ctx, s, rec, slog.LevelError, "failed", "attempt", s.attempt, "error", e.Error()); err != nil {
		return err
	}
	s.state, s.err, s.ended, r.now = journal.StepIsFailed, e, rec.At, rec.At
	r.failures, r.failing = 0, time.Time{}
	copied := *e
	return &copied
}

// stepProblem returns an attempt's error as the problem that is journaled, or an error
// that ends the body.
func (r *Run) stepProblem(ctx context.Context, s *step, err error) (*problem.Error, error) {
	switch {
	case isControl(err):
		return nil, err
	case ctx.Err() != nil:
		// Cancelled, interrupted, or out of the playbook's time: not this step's fault.
		return nil, err
	}
	e := r.log.redacted(err)
	e.Step = s.label()
	return e, nil
}

// sleep is a step that waits. Its deadline is absolute and journaled when the body first
// comes to it.
func (r *Run) sleep(L *lua.LState, d time.Duration) error {
	ctx := L.Context()
	s, err := r.enter(ctx, kindSleep, stepKey{kindSleep, strconv.Itoa(r.cursor.next + 1)}, stepOptions{Within: d})
	if err != nil {
		return err
	}
	if _, err, ok := r.replay(s); ok {
		return err
	}
	if s.attempt == 0 {
		s.attempt = 1
		rec := s.start(r.rec.stamp())
		s.deadline = rec.At.Add(d)
		rec.Deadline = s.deadline
		if err := r.rec.write(ctx, rec); err != nil {
			return err
		}
	}
	left := s.deadline.Sub(r.opt.Clock.Now())
	if left >= InProcess {
		return r.suspend(ctx, &Outcome{Status: journal.Waiting, Reason: "sleep", Until: s.deadline})
	}
	if left > 0 {
		if err := r.wait(ctx, left); err != nil {
			return err
		}
	}
	_, err = r.done(ctx, s, nil)
	return err
}

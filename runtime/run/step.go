package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

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

type stepKey struct{ name, key string }

// step is one step, as the journal has it and as it proceeds.
type step struct {
	n         int
	kind      string
	name, key string
	state     journal.StepState
	attempt   int // of the last start; 0: never started
	deadline  time.Time
	result    json.RawMessage
	err       *problem.Error
	started   time.Time
	ended     time.Time
	effects   []*effect
	options   stepOptions
}

func (s *step) label() string {
	if s.key == "" {
		return s.name
	}
	return s.name + "[" + s.key + "]"
}

func (s *step) final() bool { return s.state == journal.StepIsDone || s.state == journal.StepIsFailed }

// enter returns the step that the body has come to: the journal's, or a new one.
func (r *Run) enter(ctx context.Context, kind, name, key string, opts stepOptions) (*step, error) {
	if err := r.mayStep(kind, name, key); err != nil {
		return nil, err
	}
	n := r.next
	if !r.ending { // before it counts as seen
		if err := r.begins("ctx:"+kind, journal.StepStarted{Step: n, Kind: kind, Name: name, Key: key}, n >= len(r.steps)); err != nil {
			return nil, err
		}
	}
	if kind != kindSleep {
		r.seen[stepKey{name, key}] = true
	}
	if n < len(r.steps) {
		s := r.steps[n]
		if s.kind != kind || s.name != name || s.key != key {
			if r.ending { // what it would come to is not done any more
				return nil, &control{outcome: &Outcome{Status: journal.Skipped}}
			}
			return nil, r.park(ctx, fmt.Sprintf(
				"the journal has %s %q as step %d of this run, and the script now comes to %s %q: it depends on something outside of steps",
				s.kind, s.label(), n+1, kind, (&step{name: name, key: key}).label()), nil)
		}
		r.next++
		s.options = opts
		if r.ending && !s.final() {
			return nil, &control{outcome: &Outcome{Status: journal.Skipped}}
		}
		return s, nil
	}
	if r.ending {
		return nil, &control{outcome: &Outcome{Status: journal.Skipped}}
	}
	s := &step{n: n, kind: kind, name: name, key: key, options: opts}
	r.steps = append(r.steps, s)
	r.next++
	return s, nil
}

func (r *Run) mayStep(kind, name, key string) error {
	call := "ctx:" + kind
	switch {
	case r.current != nil:
		return misuse(call, fmt.Sprintf("called inside step %q", r.current.label()), "a step's function may not begin another step: return from it first")
	case r.hook:
		return misuse(call, "called inside a hook", "a hook observes; it has no steps")
	}
	if kind == kindSleep {
		return nil
	}
	if !utf8.ValidString(name) || !utf8.ValidString(key) {
		return misuse(call, fmt.Sprintf("step %q is not named in UTF-8", (&step{name: name, key: key}).label()), "")
	}
	k := stepKey{name, key}
	if r.seen[k] {
		return misuse(call, fmt.Sprintf("step %q comes twice in this run", (&step{name: name, key: key}).label()), "in a loop give each step a key: ctx:step(name, { key = host }, fn)")
	}
	return nil
}

// settled answers from the journal where the step has ended.
func (r *Run) settled(s *step) (lua.LValue, error, bool) {
	switch s.state {
	case journal.StepIsDone:
		r.now = s.ended
		v, err := r.decode(s)
		return v, err, true
	case journal.StepIsFailed:
		r.now = s.ended
		e := *s.err
		return nil, &e, true
	default:
		return nil, nil, false
	}
}

func (r *Run) decode(s *step) (lua.LValue, error) {
	plain, err := r.opt.Registry.Decode(s.result)
	if err != nil {
		return nil, err
	}
	return r.binding.ToLua(plain)
}

// runStep is ctx:step and ctx:poll.
func (r *Run) runStep(L *lua.LState, kind, name string, opts stepOptions, fn *lua.LFunction) (lua.LValue, error) {
	ctx := L.Context()
	if err := r.mayStep(kind, name, opts.Key); err != nil {
		return nil, err
	}
	if err := sandbox.CheckStep(fn); err != nil { // before it has a number, and the same each time
		return nil, err
	}
	s, err := r.enter(ctx, kind, name, opts.Key, opts)
	if err != nil {
		return nil, err
	}
	if v, err, ok := r.settled(s); ok {
		s.result = nil // the body comes to it once
		return v, err
	}
	call := func(ctx context.Context) (any, error) { return r.callOnce(ctx, L, s, fn) }
	if kind == kindPoll {
		call = func(ctx context.Context) (any, error) { return r.callUntil(ctx, L, s, fn) }
	}
	return r.attempts(ctx, s, call)
}

// attempts starts the step again and again, until it is done, has failed for
// good, or the run has to wait.
func (r *Run) attempts(ctx context.Context, s *step, call func(context.Context) (any, error)) (lua.LValue, error) {
	for round := 1; ; round++ {
		s.attempt++
		started := journal.StepStarted{Stamp: r.stamp(), Step: s.n, Kind: s.kind, Name: s.name, Key: s.key, Attempt: s.attempt}
		if s.deadline.IsZero() && s.options.Within > 0 {
			s.deadline = started.At.Add(s.options.Within)
		}
		started.Deadline = s.deadline
		if s.started.IsZero() {
			s.started = started.At
		}
		if err := r.lazy(ctx, started); err != nil {
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
	if err == nil { // whatever the script has caught: no step is done with an open call
		err = r.settleOpen(ctx, s, "")
	}
	if u, ok := errors.AsType[*unsettled](err); ok {
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
		return nil, misuse("ctx:"+s.kind, fmt.Sprintf("the result of step %q: %s", s.label(), err), "a step returns plain data or what a module gave")
	}
	return plain, nil
}

func (r *Run) done(ctx context.Context, s *step, result any) (lua.LValue, error) {
	raw, err := r.opt.Registry.Encode(result)
	if err != nil {
		e := misuse("ctx:"+s.kind, fmt.Sprintf("the result of step %q cannot be journaled: %s", s.label(), err), "")
		return nil, r.failedForGood(ctx, s, e)
	}
	rec := journal.StepDone{Stamp: r.stamp(), Step: s.n, Result: raw}
	if e := r.fits("ctx:"+s.kind, fmt.Sprintf("step %q", s.label()), rec); e != nil {
		return nil, r.failedForGood(ctx, s, e)
	}
	if err := r.commitStep(ctx, s, rec, slog.LevelInfo, "done", "attempt", s.attempt, "seconds", rec.At.Sub(s.started).Seconds()); err != nil {
		return nil, err
	}
	s.state, s.result, s.ended, r.now = journal.StepIsDone, raw, rec.At, rec.At
	r.failures, r.failing = 0, time.Time{} // they are that step's
	r.opt.Trace(AfterStep, s.label())
	if (r.opt.Mode == Replay || r.draining()) && !r.ending {
		return nil, &control{outcome: &Outcome{Status: Replaying}}
	}
	return r.decode(s)
}

// failedForGood journals the step's error and returns it.
func (r *Run) failedForGood(ctx context.Context, s *step, e *problem.Error) error {
	rec := journal.StepFailed{Stamp: r.stamp(), Step: s.n, Attempt: s.attempt, Error: e, Final: true}
	if err := r.commitStep(ctx, s, rec, slog.LevelError, "failed", "attempt", s.attempt, "error", e.Error()); err != nil {
		return err
	}
	s.state, s.err, s.ended, r.now = journal.StepIsFailed, e, rec.At, rec.At
	r.failures, r.failing = 0, time.Time{}
	copied := *e
	return &copied
}

// stepProblem returns an attempt's error as the problem that is journaled, and
// tells errors that end the body.
func (r *Run) stepProblem(ctx context.Context, s *step, err error) (*problem.Error, error) {
	switch {
	case isControl(err):
		return nil, err
	case ctx.Err() != nil:
		// Cancelled, interrupted, or out of the playbook's time: not this step's fault.
		return nil, err
	}
	e := r.redacted(err)
	e.Step = s.label()
	return e, nil
}

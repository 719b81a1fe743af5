package run

import (
	"context"
	"fmt"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// unsettled ends an attempt at a step, uncatchably: a call of it may have happened, and
// its probe cannot tell yet. It does not unwrap, so that nothing takes it for its cause.
type unsettled struct{ cause error }

func (*unsettled) Control() {}

func (u *unsettled) Error() string { return u.cause.Error() }

// recover returns the result of a call that may have happened and that the script makes
// again: what came of it, or what comes of making it anew.
func (r *Run) recover(c *bind.Call, inv *bind.Invocation, s *step, e *effect) (any, error) {
	spec := inv.Func.Impl.Effect
	if s.options.probe == nil && spec.Probe == nil && spec.Repeatable {
		return r.do(c, inv, s, e, false)
	}
	if err := r.resolve(c, inv, s, e); err != nil {
		return nil, err
	}
	if e.state == done {
		return r.answer(c, inv, s, e)
	}
	fresh := s.newEffect(e.fn, e.args)
	c.Progress = func(v any) error { return r.progress(c.Context, s, fresh, v) }
	return r.lookAndDo(c, inv, s, fresh)
}

// settleOpen decides the open calls of fn in the step, of all functions for "". One that
// is not known yet is a failure of the step that no pcall catches.
func (r *Run) settleOpen(ctx context.Context, s *step, fn string) error {
	for _, e := range s.effects {
		if e.state != open || fn != "" && e.fn != fn {
			continue
		}
		if err := r.settleOne(ctx, s, e); err != nil {
			if isControl(err) || ctx.Err() != nil {
				return err
			}
			return &unsettled{err}
		}
	}
	return nil
}

// settleOne decides an open call that the script does not make again. What may be done
// twice counts as not made.
func (r *Run) settleOne(ctx context.Context, s *step, e *effect) error {
	inv, err := r.opt.Registry.DecodeCall(e.fn, e.args)
	if err != nil {
		return r.cannotTell(ctx, s, fmt.Sprintf("nobody can tell whether %s has happened", e.fn), r.redacted(err))
	}
	if s.options.probe == nil && inv.Func.Impl.Effect.Repeatable {
		return r.notDone(ctx, s, e, false)
	}
	c := r.call(ctx, inv.Func)
	c.Earlier = r.progressOf(s, e.fn, &callArgs{raw: e.args})
	return r.resolve(c, inv, s, e)
}

// resolve asks whether an open call has happened; without an error it is done, or not
// done, from then on. An error that waiting can mend leaves it open.
func (r *Run) resolve(c *bind.Call, inv *bind.Invocation, s *step, e *effect) error {
	spec := inv.Func.Impl.Effect
	if s.options.probe != nil {
		return r.resolveByScript(c, inv, s, e)
	}
	if spec.Probe == nil {
		return r.cannotTell(c.Context, s, e.fn+" may have happened, and cannot be asked about", nil)
	}
	result, happened, err := spec.Probe(c, inv.Recv, inv.Args, e.look)
	switch {
	case err != nil && (isControl(err) || c.Context.Err() != nil):
		return err
	case err != nil && !problem.From(err).Kind.Retryable():
		return r.cannotTell(c.Context, s, fmt.Sprintf("nobody can tell whether %s has happened", e.fn), r.redacted(err))
	case err != nil:
		return err
	case happened:
		r.logger.Info("found done", "function", e.fn)
		_, err = r.effectDone(c.Context, s, e, result)
		return err
	}
	return r.notDone(c.Context, s, e, false)
}

// cannotTell parks the run. One that is ending does not park: the clean-up that has made
// the call is kept instead.
func (r *Run) cannotTell(ctx context.Context, s *step, what string, cause *problem.Error) error {
	reason := fmt.Sprintf("step %s: %s", s.label(), what)
	if !r.ending {
		return r.park(ctx, reason, cause)
	}
	e := &problem.Error{Kind: problem.Conflict, Message: reason, Work: problem.Unknown, Hint: "look at the appliance; moonseal cleanup forget drops it"}
	if cause != nil {
		e.Message += ": " + cause.Error()
	}
	return e
}

// resolveByScript settles it by the step's probe option: a value says that it
// happened, false that it surely did not, nil that nobody can tell.
func (r *Run) resolveByScript(c *bind.Call, inv *bind.Invocation, s *step, e *effect) error {
	value, err := r.askScript(c, s)
	switch {
	case err != nil:
		return err
	case value == lua.LNil:
		return r.cannotTell(c.Context, s, fmt.Sprintf("the script's probe cannot tell whether %s has happened", e.fn), nil)
	case value == lua.LFalse:
		return r.notDone(c.Context, s, e, false)
	}
	result, err := r.scriptsResult(inv, s, value)
	if err != nil {
		return err
	}
	_, err = r.effectDone(c.Context, s, e, result)
	return err
}

// askScript returns the answer of the step's probe option, nil for none.
func (r *Run) askScript(c *bind.Call, s *step) (lua.LValue, error) {
	current, asking := r.current, r.asking
	r.current, r.asking = s, "a probe"
	defer func() { r.current, r.asking = current, asking }()
	values, err := r.state.Call(c.Context, r.state.L, s.options.probe)
	if err != nil || len(values) == 0 {
		return lua.LNil, err
	}
	return values[0], nil
}

// scriptsResult reads what a step's probe option returned as the result of the call.
func (r *Run) scriptsResult(inv *bind.Invocation, s *step, value lua.LValue) (any, error) {
	plain, err := r.firstResult(s, []lua.LValue{value})
	if err != nil {
		return nil, err
	}
	raw, err := r.opt.Registry.Encode(plain)
	if err != nil {
		return nil, err
	}
	result, err := r.opt.Registry.DecodeResult(inv.Func, raw)
	if err != nil {
		return nil, misuse("probe", err.Error(), "a probe returns what "+inv.Func.Full()+" would have returned")
	}
	return result, nil
}

// answer returns the result of a call that has happened.
func (r *Run) answer(c *bind.Call, inv *bind.Invocation, s *step, e *effect) (any, error) {
	if len(e.result) == 0 && inv.Func.Returns != "" {
		return r.asked(c, inv, s, e)
	}
	result, err := r.opt.Registry.DecodeResult(inv.Func, e.result)
	if err != nil {
		return nil, r.noResult(c.Context, s, e, r.redacted(err))
	}
	e.met = true
	return result, nil
}

// asked returns the result of a call of which a person says that it has happened, and no
// more: the probe knows what it returned, or nobody does.
func (r *Run) asked(c *bind.Call, inv *bind.Invocation, s *step, e *effect) (result any, err error) {
	happened := false
	switch probe := inv.Func.Impl.Effect.Probe; {
	case s.options.probe != nil:
		var value lua.LValue
		if value, err = r.askScript(c, s); err == nil && lua.LVAsBool(value) {
			happened = true
			result, err = r.scriptsResult(inv, s, value)
		}
	case probe != nil:
		result, happened, err = probe(c, inv.Recv, inv.Args, e.look)
	}
	switch {
	case err != nil && (isControl(err) || c.Context.Err() != nil || problem.From(err).Kind.Retryable()):
		return nil, err
	case err != nil:
		return nil, r.noResult(c.Context, s, e, r.redacted(err))
	case !happened:
		return nil, r.noResult(c.Context, s, e, nil)
	}
	if result, err = r.reread(inv.Func, result); err != nil {
		return nil, err
	}
	e.met = true
	return result, nil
}

func (r *Run) noResult(ctx context.Context, s *step, e *effect, cause *problem.Error) error {
	name := CallName(journal.Effect{Step: s.n, N: e.n})
	return r.cannotTell(ctx, s, fmt.Sprintf("%s counts as done, and what it returned is not known: moonseal resume %s --as %s=done --result %s=JSON says it",
		e.fn, r.id, name, name), cause)
}

func (r *Run) redacted(err error) *problem.Error {
	e := shortened(r.opt.Redactor.Problem(problem.From(err)))
	e.RetryAfter = r.notBefore(e.RetryAfter)
	return e
}

// masked returns an error of a module as a script may see it: a peer may have sent
// back what it was sent.
func (r *Run) masked(err error) error {
	if isControl(err) {
		return err
	}
	return r.redacted(err)
}

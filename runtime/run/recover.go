package run

import (
	"context"
	"fmt"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
)

// recover settles a call that may have happened.
func (r *Run) recover(c *bind.Call, inv *bind.Invocation, s *step, e *effect) (any, error) {
	spec := inv.Func.Impl.Effect
	if s.options.probe != nil {
		return r.recoverByScript(c, inv, s, e)
	}
	if spec.Probe == nil {
		if spec.Repeatable {
			return r.do(c, inv, s, e, false)
		}
		return nil, r.park(c.Context, fmt.Sprintf("step %s: %s may have happened, and cannot be asked about", s.label(), e.fn), nil)
	}
	result, happened, err := spec.Probe(c, inv.Recv, inv.Args, e.look)
	switch {
	case err != nil && (isControl(err) || c.Context.Err() != nil):
		return nil, err
	case err != nil && !problem.From(err).Kind.Retryable():
		return nil, r.park(c.Context, fmt.Sprintf("step %s: nobody can tell whether %s has happened", s.label(), e.fn), r.redacted(err))
	case err != nil:
		return nil, err // the effect stays open, and the next attempt asks again
	case happened:
		r.logger.Info("found done", "function", e.fn)
		return r.effectDone(c.Context, s, e, result)
	}
	return r.again(c, inv, s, e)
}

// again makes a call anew that surely has not happened.
func (r *Run) again(c *bind.Call, inv *bind.Invocation, s *step, e *effect) (any, error) {
	if err := r.notDone(c.Context, s, e, false); err != nil {
		return nil, err
	}
	fresh := s.newEffect(e.fn, e.args)
	c.Progress = func(v any) error { return r.progress(c.Context, s, fresh, v) }
	return r.lookAndDo(c, inv, s, fresh)
}

// settle asks a last time about a call that may have happened, for a step that is
// not attempted again. What may be done twice needs no answer.
func (r *Run) settle(ctx context.Context, s *step, e *effect) (happened, known bool, err error) {
	inv, err := r.opt.Registry.DecodeCall(e.fn, e.args)
	if err != nil {
		return false, false, err
	}
	spec := inv.Func.Impl.Effect
	if spec.Repeatable {
		return false, true, r.notDone(ctx, s, e, false)
	}
	if spec.Probe == nil || s.options.probe != nil {
		return false, false, nil
	}
	c := r.call(ctx, inv.Func)
	c.Earlier = e.progress
	result, happened, err := spec.Probe(c, inv.Recv, inv.Args, e.look)
	switch {
	case err != nil && (isControl(err) || ctx.Err() != nil):
		return false, false, err
	case err != nil:
		return false, false, nil //nolint:nilerr // it cannot tell
	case happened:
		_, err = r.effectDone(ctx, s, e, result)
		return true, true, err
	}
	return false, true, r.notDone(ctx, s, e, false)
}

// recoverByScript settles it by the step's probe option: a value says that it
// happened, false that it surely did not, nil that nobody can tell.
func (r *Run) recoverByScript(c *bind.Call, inv *bind.Invocation, s *step, e *effect) (any, error) {
	values, err := r.state.Call(c.Context, r.state.L, s.options.probe)
	if err != nil {
		return nil, err
	}
	switch {
	case len(values) == 0 || values[0] == lua.LNil:
		return nil, r.park(c.Context, fmt.Sprintf("step %s: the script's probe cannot tell whether %s has happened", s.label(), e.fn), nil)
	case values[0] == lua.LFalse:
		return r.again(c, inv, s, e)
	}
	plain, err := r.firstResult(s, values)
	if err != nil {
		return nil, err
	}
	raw, err := r.opt.Registry.Encode(plain)
	if err != nil {
		return nil, err
	}
	result, err := r.opt.Registry.DecodeResult(inv.Func, raw)
	if err != nil {
		return nil, misuse("probe", err.Error(), "a probe returns what "+e.fn+" would have given")
	}
	return r.effectDone(c.Context, s, e, result)
}

func (r *Run) redacted(err error) *problem.Error {
	e := *problem.From(err)
	e.Message, e.Server = r.opt.Redactor.Redact(e.Message), r.opt.Redactor.Redact(e.Server)
	return &e
}

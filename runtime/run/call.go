package run

import (
	"context"
	"fmt"

	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
)

// Invoke implements [bind.Host].
func (r *Run) Invoke(inv *bind.Invocation) (any, error) {
	f := inv.Func
	if err := r.mayCall(f); err != nil {
		return nil, err
	}
	ctx := inv.Context
	if ctx == nil {
		ctx = context.Background() // while loading, and only pure functions run then
	}
	defer r.watchdog.watch(ctx, f.Full())()
	if f.Impl.Effect != nil {
		defer r.work.call()()
		return r.change(ctx, inv)
	}
	if f.Impl.Phase == bind.InStep && r.opt.Reach != nil {
		if err := r.opt.Reach(); err != nil {
			return nil, &control{stop: err}
		}
	}
	if f.Impl.Phase == bind.InRun && r.current == nil && !r.hook && r.cursor.replaying() {
		return nil, nil // done already, the first time
	}
	return f.Impl.Run(r.call(ctx, f), inv.Recv, inv.Args)
}

func (r *Run) mayCall(f *bind.Func) error {
	phase := f.Impl.Phase
	switch {
	case phase == bind.Anywhere:
		return nil
	case r.loading:
		return ErrLoading(f)
	case phase == bind.InRun:
		return nil
	case r.hook && f.Impl.Effect == nil:
		return nil
	case r.hook:
		return misuse(f.Full(), "called inside a hook", "a hook observes; it changes nothing outside")
	case r.asking != "" && f.Impl.Effect != nil:
		return misuse(f.Full(), "called inside "+r.asking, r.asking+" only asks, again and again: change things in a ctx:step")
	case r.current == nil:
		return misuse(f.Full(), "called outside of a step", "wrap it: ctx:step(\"name\", function() return … end)")
	}
	return nil
}

// ErrLoading is the error of a function that a script calls while it is loaded.
func ErrLoading(f *bind.Func) error {
	return misuse(f.Full(), "called while the script is loaded", "loading only builds the playbook: call it in the run function")
}

func (r *Run) call(ctx context.Context, f *bind.Func) *bind.Call {
	c := &bind.Call{
		Context: ctx, Clock: r.opt.Clock, Log: r.log.script, Network: r.opt.Network, Account: r.opt.Account,
		Secrets: r.opt.Secrets, Redactor: r.opt.Redactor, Run: r.id, Function: f.Full(), Force: r.opt.History.Run.Force,
		LogHost: r.log.renewals.host, Progress: func(any) error { return nil },
	}
	if s := r.current; s != nil && s.kind == kindPoll { // its deadline follows a clock that was set back
		c.PollBegan = s.deadline.Add(-s.options.Within)
	}
	return c
}

// change makes one call that changes the outside world, unless it has happened.
func (r *Run) change(ctx context.Context, inv *bind.Invocation) (any, error) {
	s, fn := r.current, inv.Func.Full()
	raw, err := r.opt.Registry.EncodeCall(inv)
	if err != nil {
		return nil, err
	}
	args := &callArgs{raw: raw}
	e := s.find(r.opt.Registry, fn, args)
	if e == nil {
		if err := r.resolveOpen(ctx, s, fn); err != nil {
			return nil, err
		}
		e = s.newEffect(fn, raw)
	}
	ch := r.newChange(r.call(ctx, inv.Func), inv, s, e, args)
	ch.call.Progress = ch.progress
	return ch.result()
}

// unresolved ends an attempt at a step, uncatchably: a call of it may have happened, and
// its probe cannot know yet. It does not unwrap, so that it is not taken for its cause.
type unresolved struct{ cause error }

func (*unresolved) Control() {}

func (u *unresolved) Error() string { return u.cause.Error() }

// resolveOpen resolves the open calls of fn in the step, of all functions for "". One that
// is not known yet is a failure of the step that no pcall catches.
func (r *Run) resolveOpen(ctx context.Context, s *step, fn string) error {
	for _, e := range s.effects {
		if e.state != open || fn != "" && e.fn != fn {
			continue
		}
		if err := r.resolve(ctx, s, e); err != nil {
			if isControl(err) || ctx.Err() != nil {
				return err
			}
			return &unresolved{err}
		}
	}
	return nil
}

// resolve finds out whether an open call has happened that the script does not make
// again. What may be done twice counts as not made.
func (r *Run) resolve(ctx context.Context, s *step, e *effect) error {
	ch, err := r.decodeChange(ctx, s, e)
	switch {
	case err != nil:
		return r.cannotTell(ctx, s, unknownWhether(e.fn), r.log.redacted(err))
	case s.options.probe == nil && ch.spec().Repeatable:
		return ch.notDone(false)
	}
	return ch.resolve()
}

// decodeChange reads a journaled call back.
func (r *Run) decodeChange(ctx context.Context, s *step, e *effect) (*change, error) {
	inv, err := r.opt.Registry.DecodeCall(e.fn, e.args)
	if err != nil {
		return nil, err
	}
	return r.newChange(r.call(ctx, inv.Func), inv, s, e, &callArgs{raw: e.args}), nil
}

// cannotTell parks the run. One that is ending does not park: the clean-up that has made
// the call is kept instead.
func (r *Run) cannotTell(ctx context.Context, s *step, what string, cause *problem.Error) error {
	reason := fmt.Sprintf("step %s: %s", s.label(), what)
	if !r.cursor.ending {
		return r.park(ctx, reason, cause)
	}
	e := &problem.Error{
		Kind: problem.Conflict, Message: reason, Work: problem.Unknown,
		Hint: "look at the appliance; moonseal cleanup forget drops it",
	}
	if cause != nil {
		e.Message += ": " + cause.Error()
	}
	return e
}

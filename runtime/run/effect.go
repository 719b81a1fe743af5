package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// effectState is what is known of a marked call.
type effectState int

const (
	open    effectState = iota // it may have happened
	notDone                    // it surely has not
	done                       // it has, and its result is known
)

// effect is one marked call of a step.
type effect struct {
	n        int
	fn       string
	args     json.RawMessage
	look     json.RawMessage
	progress json.RawMessage
	result   json.RawMessage
	state    effectState
	met      bool // the current attempt has its result

	canonical string // what this version would have journaled as args; see same
}

// same reports whether e is the call of fn with args, whichever version of moonseal
// has journaled either.
func (e *effect) same(reg *bind.Registry, fn string, args *callArgs) bool {
	if e.fn != fn {
		return false
	}
	if bytes.Equal(e.args, args.raw) {
		return true
	}
	if e.canonical == "" {
		e.canonical = canonicalCall(reg, fn, e.args)
	}
	if args.canonical == "" {
		args.canonical = canonicalCall(reg, fn, args.raw)
	}
	return e.canonical == args.canonical
}

// callArgs are the encoded arguments of a call that the script makes now.
type callArgs struct {
	raw       json.RawMessage
	canonical string
}

// canonicalCall returns the raw arguments where this version cannot read them.
func canonicalCall(reg *bind.Registry, fn string, raw json.RawMessage) string {
	canonical, err := reg.CanonicalCall(fn, raw)
	if err != nil {
		return string(raw)
	}
	return string(canonical)
}

// open returns a call of the step of which nobody knows whether it happened.
func (s *step) open() *effect {
	for _, e := range s.effects {
		if e.state == open {
			return e
		}
	}
	return nil
}

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
	defer r.watchdog(ctx, f.Full())()
	if f.Impl.Effect != nil {
		defer r.work.call()()
		return r.effect(ctx, inv)
	}
	if f.Impl.Phase == bind.InStep && r.opt.Reach != nil {
		if err := r.opt.Reach(); err != nil {
			return nil, &control{stop: err}
		}
	}
	if f.Impl.Phase == bind.InRun && r.current == nil && !r.hook && r.replaying() {
		return nil, nil // said already, the first time
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
		Context: ctx, Clock: r.opt.Clock, Log: r.scriptLog, Network: r.opt.Network, Account: r.opt.Account,
		Secrets: r.opt.Secrets, Redactor: r.opt.Redactor, Run: r.id, Function: f.Full(), Force: r.opt.History.Run.Force,
		LogHost: r.logHost, Progress: func(any) error { return nil },
	}
	if s := r.current; s != nil && s.kind == kindPoll { // its deadline follows a clock that was set back
		c.PollBegan = s.deadline.Add(-s.options.Within)
	}
	return c
}

// effect makes one call that changes the outside world.
func (r *Run) effect(ctx context.Context, inv *bind.Invocation) (any, error) {
	s := r.current
	raw, err := r.opt.Registry.EncodeCall(inv)
	if err != nil {
		return nil, err
	}
	args := &callArgs{raw: raw}
	e := r.find(s, inv.Func.Full(), args)
	c := r.call(ctx, inv.Func)
	if e == nil {
		if err := r.settleOpen(ctx, s, inv.Func.Full()); err != nil {
			return nil, err
		}
		e = s.newEffect(inv.Func.Full(), raw)
	}
	c.Earlier = r.progressOf(s, inv.Func.Full(), args)
	c.Progress = func(v any) error { return r.progress(ctx, s, e, v) }
	switch e.state {
	case done:
		return r.answer(c, inv, s, e)
	case open:
		return r.recover(c, inv, s, e)
	default:
		return r.lookAndDo(c, inv, s, e)
	}
}

// find returns the step's effect of this call whose result the attempt does not have yet.
func (r *Run) find(s *step, fn string, args *callArgs) *effect {
	for _, e := range s.effects {
		if !e.met && e.state != notDone && e.same(r.opt.Registry, fn, args) {
			return e
		}
	}
	return nil
}

// progressOf returns how far the attempts at the call have come. The latest need not have
// come to anything; one that was done does not count for the same call made once more.
func (r *Run) progressOf(s *step, fn string, args *callArgs) json.RawMessage {
	for _, old := range slices.Backward(s.effects) {
		switch {
		case !old.same(r.opt.Registry, fn, args):
		case old.state == done && old.met:
			return nil
		case len(old.progress) > 0:
			return old.progress
		}
	}
	return nil
}

// newEffect is a call that is not marked yet.
func (s *step) newEffect(fn string, args json.RawMessage) *effect {
	return &effect{n: len(s.effects), fn: fn, args: args, state: notDone}
}

// lookAndDo looks, marks and makes the call.
func (r *Run) lookAndDo(c *bind.Call, inv *bind.Invocation, s *step, e *effect) (any, error) {
	spec := inv.Func.Impl.Effect
	look, result, found, err := spec.Look(c, inv.Recv, inv.Args)
	if err != nil {
		return nil, err
	}
	if found {
		return r.reread(inv.Func, result)
	}
	if err := r.work.stopped(); err != nil && !r.ending {
		return nil, err
	}
	if err := r.mayChange(c.Context, inv); err != nil {
		return nil, err
	}
	e.look = look
	rec := journal.EffectMarked{Stamp: r.stamp(), Step: s.n, N: e.n, Fn: e.fn, Args: e.args, Look: look, Disruptive: spec.Disruptive}
	var added *undo
	if spec.Undo != nil && !r.ending { // what clean-up makes stays
		added = &undo{n: len(r.undos), step: s.n, effect: e, fn: e.fn, args: e.args, label: s.label()}
		if spec.UndoKeys != nil {
			added.holds = spec.UndoKeys(inv.Recv, inv.Args)
		}
		rec.Undo = &journal.UndoSpec{N: added.n, Fn: added.fn, Args: added.args, Holds: added.holds}
	}
	if over := r.fits(e.fn, "", rec); over != nil {
		over.Place = nil // it is the call's own
		return nil, over
	}
	r.opt.Trace(BeforeMark, e.fn)
	if err := r.mark(c.Context, rec); err != nil {
		return nil, err
	}
	s.effects = append(s.effects, e)
	if added != nil {
		r.undos = append(r.undos, added)
	}
	e.state = open
	r.opt.Trace(AfterMark, e.fn)
	return r.do(c, inv, s, e, true)
}

// mark syncs an effect's mark. While another run holds a lock that it needs, this
// run frees its process and waits: the call is looked at anew when it continues.
func (r *Run) mark(ctx context.Context, rec journal.EffectMarked) error {
	err := r.write(ctx, rec)
	if !problem.HasCode(unwrapStop(err), problem.LockHeld) {
		return err
	}
	held := problem.From(unwrapStop(err))
	if r.ending {
		return held // clean-up waits for nothing; it is kept, and tried again
	}
	return r.suspend(ctx, &Outcome{Status: journal.Waiting, Reason: held.Target + ", " + held.Message})
}

// do makes a marked call, for the first time or again.
func (r *Run) do(c *bind.Call, inv *bind.Invocation, s *step, e *effect, first bool) (any, error) {
	spec := inv.Func.Impl.Effect
	result, err := spec.Do(c, inv.Recv, inv.Args, e.look)
	r.opt.Trace(AfterAnswer, e.fn)
	if err == nil {
		e.met = true
		return r.effectDone(c.Context, s, e, result)
	}
	var p *problem.Error
	if !errors.As(err, &p) || p.Happened() != problem.NotDone {
		return nil, r.unknown(c, inv, s, e, err)
	}
	if err := r.notDone(c.Context, s, e, first && len(e.progress) == 0); err != nil {
		return nil, err
	}
	return nil, err
}

// unknown makes the error of a call whose answer was lost one that the step is
// attempted again for: the next attempt asks the probe first.
func (r *Run) unknown(c *bind.Call, inv *bind.Invocation, s *step, e *effect, err error) error {
	if isControl(err) || c.Context.Err() != nil {
		return err
	}
	p := r.redacted(err)
	if !p.Kind.Retryable() && (inv.Func.Impl.Effect.Probe != nil || inv.Func.Impl.Effect.Repeatable) {
		p.Kind = problem.Unavailable
	}
	r.logger.Warn("answer lost", EventKey, EventStep, "function", e.fn, "step", s.label(), "error", p.Error())
	return p
}

func (r *Run) effectDone(ctx context.Context, s *step, e *effect, result any) (any, error) {
	over, err := r.happened(ctx, s, e, result)
	switch {
	case err != nil:
		return nil, err
	case over != nil:
		return nil, r.tooLarge(ctx, s, e, over)
	}
	return result, nil
}

// happened journals that a call has happened. A result that is too large is left out, and
// over says so: the call must count as made all the same.
func (r *Run) happened(ctx context.Context, s *step, e *effect, result any) (over *problem.Error, err error) {
	raw, err := r.opt.Registry.EncodeResult(result)
	if err != nil {
		return nil, err
	}
	rec := journal.EffectDone{Stamp: r.stamp(), Step: s.n, N: e.n, Result: raw}
	if over = r.over(e.fn, "", r.quota.Check(journal.ToKeep, rec)); over != nil {
		over.Work, rec.Result = problem.Unknown, nil
	}
	e.result, e.state = rec.Result, done
	return over, r.lazy(ctx, rec)
}

// reread returns a result as it would come back from the journal.
func (r *Run) reread(f *bind.Func, result any) (any, error) {
	raw, err := r.opt.Registry.EncodeResult(result)
	if err != nil {
		return nil, err
	}
	return r.opt.Registry.DecodeResult(f, raw)
}

// notDone notes that a call surely has not happened. Not even in part: then there
// is nothing to undo either.
func (r *Run) notDone(ctx context.Context, s *step, e *effect, notInPart bool) error {
	e.state = notDone
	for _, u := range r.undos {
		u.done = u.done || notInPart && u.effect == e
	}
	return r.lazy(ctx, journal.EffectNotDone{Stamp: r.stamp(), Step: s.n, N: e.n, VoidUndo: notInPart})
}

func (r *Run) progress(ctx context.Context, s *step, e *effect, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	rec := journal.EffectProgress{Stamp: r.stamp(), Step: s.n, N: e.n, Progress: raw}
	if over := r.over(e.fn, "", r.quota.Check(journal.ToEnd, rec)); over != nil {
		over.Place = nil
		return over
	}
	if err := r.write(ctx, rec); err != nil {
		return err
	}
	e.progress = raw
	return nil
}

package run

import (
	"encoding/json"
	"errors"
	"fmt"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// change is one call that changes the outside world, from its look to its journaled
// result, or to the question whether it has happened.
type change struct {
	run    *Run
	call   *bind.Call
	inv    *bind.Invocation
	step   *step
	effect *effect
}

// newChange is the call whose effect is e, with what earlier attempts at it reported.
func (r *Run) newChange(call *bind.Call, inv *bind.Invocation, s *step, e *effect, args *callArgs) *change {
	call.Earlier = s.progressOf(r.opt.Registry, e.fn, args)
	return &change{run: r, call: call, inv: inv, step: s, effect: e}
}

func (ch *change) spec() *bind.ErasedEffect { return ch.inv.Func.Impl.Effect }

// result returns what the call returned earlier, what came of it if that is not known, or
// what it returns now.
func (ch *change) result() (any, error) {
	switch ch.effect.state {
	case done:
		return ch.recorded()
	case open:
		return ch.recover()
	default:
		return ch.lookAndDo()
	}
}

// lookAndDo looks, marks and makes the call.
func (ch *change) lookAndDo() (any, error) {
	r, e := ch.run, ch.effect
	look, result, done, err := ch.spec().Look(ch.call, ch.inv.Recv, ch.inv.Args)
	if err != nil {
		return nil, err
	}
	if done {
		return ch.reread(result)
	}
	if err := r.work.stopped(); err != nil && !r.cursor.ending {
		return nil, err
	}
	if err := r.mayChange(ch.call.Context, ch.inv); err != nil {
		return nil, err
	}
	e.look = look
	if err := ch.mark(); err != nil {
		return nil, err
	}
	return ch.do(true)
}

// mark syncs the call's mark, and its undo. While another run holds a lock that it needs,
// this run frees its process and waits: it looks again when it continues.
func (ch *change) mark() error {
	r, s, e, spec := ch.run, ch.step, ch.effect, ch.spec()
	rec := journal.EffectMarked{
		Stamp: r.rec.stamp(), Step: s.n, N: e.n, Fn: e.fn, Args: e.args, Look: e.look,
		Disruptive: spec.Disruptive,
	}
	var added *undo
	if spec.Undo != nil && !r.cursor.ending { // what clean-up makes stays
		added = &undo{n: r.undos.next(), effect: e, fn: e.fn, args: e.args, label: s.label()}
		rec.Undo = &journal.UndoSpec{N: added.n, Fn: added.fn, Args: added.args}
		if spec.UndoKeys != nil {
			rec.Undo.Holds = spec.UndoKeys(ch.inv.Recv, ch.inv.Args)
		}
	}
	if over, _ := r.rec.exceeds(r.cursor.purpose(), e.fn, "", rec); over != nil {
		return over
	}
	r.opt.Trace(BeforeMark, e.fn)
	if err := r.rec.write(ch.call.Context, rec); err != nil {
		return ch.notMarked(err)
	}
	s.effects = append(s.effects, e)
	if added != nil {
		r.undos.push(added)
	}
	e.state = open
	r.opt.Trace(AfterMark, e.fn)
	return nil
}

func (ch *change) notMarked(err error) error {
	if !problem.HasCode(unwrapStop(err), problem.LockHeld) {
		return err
	}
	held := problem.From(unwrapStop(err))
	if ch.run.cursor.ending {
		return held // clean-up does not wait; it is kept, and retried
	}
	return ch.run.suspend(ch.call.Context, &Outcome{Status: journal.Waiting, Reason: held.Target + ", " + held.Message})
}

// do makes a marked call, for the first time or again.
func (ch *change) do(first bool) (any, error) {
	e := ch.effect
	result, err := ch.spec().Do(ch.call, ch.inv.Recv, ch.inv.Args, e.look)
	ch.run.opt.Trace(AfterAnswer, e.fn)
	if err == nil {
		e.met = true
		if err := ch.happened(result); err != nil {
			return nil, err
		}
		return result, nil
	}
	var p *problem.Error
	if !errors.As(err, &p) || p.Happened() != problem.NotDone {
		return nil, ch.answerLost(err)
	}
	if err := ch.notDone(first && len(e.progress) == 0); err != nil {
		return nil, err
	}
	return nil, err
}

// answerLost makes the error of a call whose answer was lost one that the step is
// attempted again for: the next attempt asks the probe first.
func (ch *change) answerLost(err error) error {
	if isControl(err) || ch.call.Context.Err() != nil {
		return err
	}
	p := ch.run.log.redacted(err)
	if !p.Kind.Retryable() && (ch.spec().Probe != nil || ch.spec().Repeatable) {
		p.Kind = problem.Unavailable
	}
	ch.run.log.engine.Warn("answer lost", EventKey, EventStep, "function", ch.effect.fn, "step", ch.step.label(), "error", p.Error())
	return p
}

// progress journals, synced, how far the call has come.
func (ch *change) progress(v any) error {
	rec := ch.run.rec
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	progressed := journal.EffectProgress{Stamp: rec.stamp(), Step: ch.step.n, N: ch.effect.n, Progress: raw}
	if over, _ := rec.exceeds(journal.ToEnd, ch.effect.fn, "", progressed); over != nil {
		return over
	}
	if err := rec.write(ch.call.Context, progressed); err != nil {
		return err
	}
	ch.effect.progress = raw
	return nil
}

// happened journals that the call has happened. If its result is too large to be
// journaled, it is not made again: a person states what it returned, in brief.
func (ch *change) happened(result any) error {
	over, err := ch.recordDone(result)
	if err != nil || over == nil {
		return err
	}
	name := ch.effect.callName(ch.step)
	return ch.cannotTell(fmt.Sprintf("%s has happened and is not made again, but %s: moonseal resume %s --as %s=done --result %s=JSON says it in brief",
		ch.effect.fn, over.Message, ch.run.id, name, name), over)
}

// recordDone journals that the call has happened. A result that is too large is left out
// and returned as over: the call must count as made all the same.
func (ch *change) recordDone(result any) (over *problem.Error, err error) {
	r, e := ch.run, ch.effect
	raw, err := r.opt.Registry.EncodeResult(result)
	if err != nil {
		return nil, err
	}
	rec := journal.EffectDone{Stamp: r.rec.stamp(), Step: ch.step.n, N: e.n, Result: raw}
	if over, _ = r.rec.exceeds(journal.ToKeep, e.fn, "", rec); over != nil {
		over.Work, over.Place, rec.Result = problem.Unknown, r.cursor.place, nil
	}
	e.result, e.state = rec.Result, done
	return over, r.rec.lazy(ch.call.Context, rec)
}

// notDone journals that the call has not happened, for certain. If not even a part of it
// has, there is nothing to undo either.
func (ch *change) notDone(notInPart bool) error {
	ch.effect.state = notDone
	if notInPart {
		ch.run.undos.void(ch.effect)
	}
	rec := ch.run.rec
	return rec.lazy(ch.call.Context, journal.EffectNotDone{
		Stamp: rec.stamp(), Step: ch.step.n, N: ch.effect.n, VoidUndo: notInPart,
	})
}

// recover returns the result of a call that may have happened and that the script makes
// again: what came of it, or what comes of making it once more.
func (ch *change) recover() (any, error) {
	if ch.step.options.probe == nil && ch.spec().Probe == nil && ch.spec().Repeatable {
		return ch.do(false)
	}
	if err := ch.resolve(); err != nil {
		return nil, err
	}
	if ch.effect.state == done {
		return ch.recorded()
	}
	ch.effect = ch.step.newEffect(ch.effect.fn, ch.effect.args)
	return ch.lookAndDo()
}

// resolve asks whether an open call has happened; without an error it is done, or not
// done, from then on. An error that waiting can fix leaves it open.
func (ch *change) resolve() error {
	ctx, fn := ch.call.Context, ch.effect.fn
	if ch.step.options.probe != nil {
		return ch.resolveByScript()
	}
	if ch.spec().Probe == nil {
		return ch.cannotTell(fn+" may have happened, and cannot be asked about", nil)
	}
	result, happened, err := ch.spec().Probe(ch.call, ch.inv.Recv, ch.inv.Args, ch.effect.look)
	switch {
	case err != nil && (isControl(err) || ctx.Err() != nil):
		return err
	case err != nil && !problem.From(err).Kind.Retryable():
		return ch.cannotTell(unknownWhether(fn), ch.run.log.redacted(err))
	case err != nil:
		return err
	case happened:
		ch.run.log.engine.Info("found done", "function", fn)
		return ch.happened(result)
	}
	return ch.notDone(false)
}

// resolveOnce asks once whether an open call has happened, and reports whether that is
// known now. It never parks the run.
func (ch *change) resolveOnce() bool {
	if ch.spec().Repeatable {
		return ch.notDone(false) == nil
	}
	if ch.spec().Probe == nil {
		return false
	}
	result, happened, err := ch.spec().Probe(ch.call, ch.inv.Recv, ch.inv.Args, ch.effect.look)
	switch {
	case err != nil:
		return false
	case happened:
		_, err = ch.recordDone(result)
		return err == nil
	}
	return ch.notDone(false) == nil
}

// resolveByScript resolves an open call by the step's probe option: a value means that it
// happened, false that it did not, nil that this cannot be known.
func (ch *change) resolveByScript() error {
	value, err := ch.askScript()
	switch {
	case err != nil:
		return err
	case value == lua.LNil:
		return ch.cannotTell(fmt.Sprintf("the script's probe cannot tell whether %s has happened", ch.effect.fn), nil)
	case value == lua.LFalse:
		return ch.notDone(false)
	}
	result, err := ch.scriptsResult(value)
	if err != nil {
		return err
	}
	return ch.happened(result)
}

// askScript returns the answer of the step's probe option, nil for none.
func (ch *change) askScript() (lua.LValue, error) {
	r := ch.run
	current, asking := r.current, r.asking
	r.current, r.asking = ch.step, "a probe"
	defer func() { r.current, r.asking = current, asking }()
	values, err := r.state.Call(ch.call.Context, r.state.L, ch.step.options.probe)
	if err != nil || len(values) == 0 {
		return lua.LNil, err
	}
	return values[0], nil
}

// scriptsResult reads what a step's probe option returned as the result of the call.
func (ch *change) scriptsResult(value lua.LValue) (any, error) {
	r := ch.run
	plain, err := r.firstResult(ch.step, []lua.LValue{value})
	if err != nil {
		return nil, err
	}
	raw, err := r.opt.Registry.Encode(plain)
	if err != nil {
		return nil, err
	}
	result, err := r.opt.Registry.DecodeResult(ch.inv.Func, raw)
	if err != nil {
		return nil, misuse("probe", err.Error(), "a probe returns what "+ch.inv.Func.Full()+" would have returned")
	}
	return result, nil
}

// recorded returns the journaled result of a call that has happened.
func (ch *change) recorded() (any, error) {
	if len(ch.effect.result) == 0 && ch.inv.Func.Returns != "" {
		return ch.askResult()
	}
	result, err := ch.run.opt.Registry.DecodeResult(ch.inv.Func, ch.effect.result)
	if err != nil {
		return nil, ch.noResult(ch.run.log.redacted(err))
	}
	ch.effect.met = true
	return result, nil
}

// askResult returns the result of a call that is only known to have happened, by a
// person's decision: its probe knows what it returned, or it stays unknown.
func (ch *change) askResult() (result any, err error) {
	happened := false
	switch {
	case ch.step.options.probe != nil:
		var value lua.LValue
		if value, err = ch.askScript(); err == nil && lua.LVAsBool(value) {
			happened = true
			result, err = ch.scriptsResult(value)
		}
	case ch.spec().Probe != nil:
		result, happened, err = ch.spec().Probe(ch.call, ch.inv.Recv, ch.inv.Args, ch.effect.look)
	}
	switch {
	case err != nil && (isControl(err) || ch.call.Context.Err() != nil || problem.From(err).Kind.Retryable()):
		return nil, err
	case err != nil:
		return nil, ch.noResult(ch.run.log.redacted(err))
	case !happened:
		return nil, ch.noResult(nil)
	}
	if result, err = ch.reread(result); err != nil {
		return nil, err
	}
	ch.effect.met = true
	return result, nil
}

func (ch *change) noResult(cause *problem.Error) error {
	name := ch.effect.callName(ch.step)
	return ch.cannotTell(fmt.Sprintf("%s counts as done, and what it returned is not known: moonseal resume %s --as %s=done --result %s=JSON says it",
		ch.effect.fn, ch.run.id, name, name), cause)
}

// reread returns a result as it would come back from the journal.
func (ch *change) reread(result any) (any, error) {
	raw, err := ch.run.opt.Registry.EncodeResult(result)
	if err != nil {
		return nil, err
	}
	return ch.run.opt.Registry.DecodeResult(ch.inv.Func, raw)
}

func (ch *change) cannotTell(what string, cause *problem.Error) error {
	return ch.run.cannotTell(ch.call.Context, ch.step, what, cause)
}

func unknownWhether(fn string) string { return "it is unknown whether " + fn + " has happened" }

package run

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// deferFn names, in the journal, an undo that is a script's own function.
const deferFn = "ctx:defer"

// undo makes one attempt at an undo.
func (r *Run) undo(ctx context.Context, u *undo) error {
	ctx, cancel := context.WithTimeout(ctx, undoTimeout)
	defer cancel()
	defer r.watchdog.watch(ctx, "undo of "+u.fn)()
	if u.fn == deferFn {
		return r.undoDeferred(ctx, u)
	}
	inv, err := r.opt.Registry.DecodeCall(u.fn, u.args)
	if err != nil {
		return err
	}
	spec := inv.Func.Impl.Effect
	if spec == nil || spec.Undo == nil {
		return fmt.Errorf("%s has no undo", u.fn)
	}
	var result any
	if u.effect != nil && u.effect.state == done && len(u.effect.result) > 0 { // it may have happened with a result that is not known
		if result, err = r.opt.Registry.DecodeResult(inv.Func, u.effect.result); err != nil {
			return err
		}
	}
	c := r.call(ctx, inv.Func)
	if len(u.granted) > 0 {
		if c.Network, err = r.opt.Network.Granted(u.granted); err != nil {
			return err
		}
	}
	c.HeldElsewhere = func(values []string) (map[string]string, error) { return r.opt.Journal.HeldBy(ctx, values, r.id) }
	return problem.At(spec.Undo(c, inv.Recv, inv.Args, result), "undo of "+u.fn, "")
}

func (r *Run) undoDeferred(ctx context.Context, u *undo) error {
	if u.fun == nil {
		return &problem.Error{
			Kind: problem.Script, Call: deferFn, Message: "the script did not come to this function again",
			Hint: "moonseal cleanup forget drops it",
		}
	}
	plain, err := r.opt.Registry.Decode(u.args)
	if err != nil {
		return err
	}
	data, err := r.binding.ToLua(plain)
	if err != nil {
		return err
	}
	// Its calls are journaled like a step's, so that they are not made twice either.
	s := r.cursor.deferred(u.n)
	s.attempt++
	if err := r.rec.lazy(ctx, s.start(r.rec.stamp())); err != nil {
		return err
	}
	if s.state == journal.StepIsDone {
		return nil
	}
	_, err = r.attempt(ctx, s, func(ctx context.Context) (any, error) {
		_, err := r.state.Call(ctx, r.state.L, u.fun, data)
		return nil, err
	})
	if err != nil {
		return err
	}
	return r.rec.lazy(ctx, journal.StepDone{Stamp: r.rec.stamp(), Step: s.n, Result: json.RawMessage("null")})
}

// deferFunction is ctx:defer. The body comes to its functions in the order in which they
// were journaled; one that comes with other data parks the run. A run that is ending leaves
// that function alone: its clean-up is kept.
func (r *Run) deferFunction(ctx context.Context, fn *lua.LFunction, data any) error {
	raw, err := r.opt.Registry.Encode(data)
	if err != nil {
		return misuse(deferFn, "its data cannot be journaled: "+err.Error(), "")
	}
	known, ending := r.undos.unclaimed(), r.cursor.ending
	if known == nil && ending {
		return nil
	}
	u := cmp.Or(known, &undo{n: r.undos.next(), fn: deferFn, args: raw, label: deferFn})
	rec := journal.UndoAdded{Stamp: r.rec.stamp(), Step: -1, Undo: journal.UndoSpec{N: u.n, Fn: deferFn, Args: raw}}
	if err := r.cursor.start(deferFn, rec, known == nil); err != nil && !ending {
		return err
	}
	switch {
	case known == nil:
		if err := r.rec.write(ctx, rec); err != nil {
			return err
		}
		r.undos.push(u)
	case sameData(r.opt.Registry, u.args, raw):
	case ending:
		return nil
	default:
		return r.park(ctx, fmt.Sprintf("the journal has ctx:defer with %s, and the script now comes to it with %s: it depends on something outside of steps",
			brief(u.args), brief(raw)), nil)
	}
	u.fun = fn
	return nil
}

func sameData(reg *bind.Registry, x, y json.RawMessage) bool {
	if bytes.Equal(x, y) {
		return true
	}
	x, errX := reg.Canonical(x)
	y, errY := reg.Canonical(y)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// brief shortens JSON for a message.
func brief(raw json.RawMessage) string {
	const most = 200
	if len(raw) == 0 {
		return "no data"
	}
	if text := []rune(string(raw)); len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(raw)
}

// undoStep is ctx:undo: it undoes what the named step did, now.
func (r *Run) undoStep(ctx context.Context, name, key string) error {
	want := stepKey{name, key}.String()
	if !r.cursor.passed(want) {
		return misuse("ctx:undo", fmt.Sprintf("this run has no step %q before it", want), "")
	}
	if r.cursor.replaying() {
		return nil
	}
	r.undos.announce()
	return r.undos.run(ctx, func(u *undo) bool { return u.label == want && u.effect != nil })
}

// finish journals the outcome, cleans up, and ends the run.
func (r *Run) finish(ctx context.Context, out *Outcome) (*Outcome, error) {
	ctx = context.WithoutCancel(ctx)
	if out != nil {
		out.Reason, out.Error = shorten(out.Reason), shortened(out.Error)
	}
	if out == nil {
		h := r.opt.History.Run
		out = &Outcome{Status: h.Outcome, Reason: h.Reason, Error: h.Error, Left: h.Left}
	} else {
		rec := journal.RunEnding{Stamp: r.rec.stamp(), Outcome: out.Status, Reason: out.Reason, Error: out.Error, Left: out.Left}
		if err := r.rec.write(ctx, rec); err != nil {
			return nil, unwrapStop(err)
		}
	}
	r.cursor.ending = true
	if r.undos.pending() {
		r.undos.announce()
	}
	if err := r.undos.run(ctx, anyUndo); err != nil {
		return nil, unwrapStop(err)
	}
	hook := "success"
	if out.Error != nil || out.Status == journal.Cancelled {
		hook = "failure"
	}
	if out.Status != journal.Skipped {
		r.runHook(ctx, hook, outcomeEvent(out))
	}
	r.runHook(ctx, "finish", outcomeEvent(out))
	r.log.logDropped()
	end := []any{EventKey, EventRun}
	if out.Error != nil {
		end = append(end, "error", out.Error.Error())
	}
	if out.Reason != "" {
		end = append(end, "reason", out.Reason)
	}
	r.log.engine.Info("run "+string(out.Status), end...)
	r.opt.Trace(BeforeEnd, string(out.Status))
	if err := r.rec.write(ctx, journal.RunEnded{Stamp: r.rec.stamp()}); err != nil {
		return nil, unwrapStop(err)
	}
	return out, nil
}

// cleanup tries the pending undos of a run that has ended.
func (r *Run) cleanup(ctx context.Context) (*Outcome, error) {
	if err := r.undos.run(ctx, anyUndo); err != nil {
		return nil, unwrapStop(err)
	}
	h := r.opt.History.Run
	return &Outcome{Status: h.Status, Reason: h.Reason, Error: h.Error}, nil
}

func unwrapStop(err error) error {
	var c *control
	if errors.As(err, &c) && c.stop != nil {
		return c.stop
	}
	return err
}

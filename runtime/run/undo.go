package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

const (
	undoTimeout  = 2 * time.Minute
	undoAttempts = 3
	// deferFn names, in the journal, an undo that is a script's own function.
	deferFn = "ctx:defer"
)

// undo is one piece of clean-up that the journal knows.
type undo struct {
	n       int
	step    int
	effect  *effect // nil for a script's own
	fn      string
	args    json.RawMessage
	holds   []string
	label   string // the step's
	done    bool
	failed  int             // how often it was kept before
	granted json.RawMessage // what the playbook was granted when the change was made; see [journal.UndoSpec]
	since   time.Time       // its latest attempt in this process
	rest    time.Duration   // from then on it is left alone
	fun     *lua.LFunction  // a script's own function, once the body has come to it
}

// runUndos runs the pending undos that match, the latest first. One that fails
// stays in the journal for `moonseal cleanup`, and is logged.
func (r *Run) runUndos(ctx context.Context, match func(*undo) bool) error {
	// Clean-up continues when the run is cancelled, under a bound of its own.
	ctx = context.WithoutCancel(ctx)
	for _, u := range slices.Backward(r.undos) {
		if u.done || !match(u) {
			continue
		}
		if err := r.undoOne(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) undoOne(ctx context.Context, u *undo) error {
	if r.rests(u) > undoTimeout {
		return nil // it is kept already, and nothing can have changed
	}
	for attempt := 1; ; attempt++ {
		if pause := r.rests(u); pause > 0 {
			if err := r.waitUnless(ctx, pause, nil); err != nil {
				return err
			}
		}
		err := r.undoOnce(ctx, u)
		if isControl(err) {
			return err
		}
		if err == nil {
			if err := r.write(ctx, journal.UndoDone{Stamp: r.stamp(), N: u.n}); err != nil {
				return err
			}
			u.done = true
			r.opt.Trace(BetweenUndos, u.fn)
			return nil
		}
		failed := r.redacted(err)
		u.since = r.opt.Clock.Now()
		u.rest = max(Retry{Backoff: time.Second, Max: InProcess}.wait(attempt, r.opt.Jitter()), failed.RetryAfter.Sub(u.since))
		if !failed.Kind.Retryable() || attempt == undoAttempts || u.rest > undoTimeout {
			return r.keepUndo(ctx, u, failed)
		}
	}
}

// rests returns how long an undo is left alone from now on, whatever the wall clock says.
func (r *Run) rests(u *undo) time.Duration {
	if u.since.IsZero() {
		return 0
	}
	return u.rest - r.opt.Clock.Since(u.since)
}

// keepUndo leaves an undo that failed to `moonseal cleanup`.
func (r *Run) keepUndo(ctx context.Context, u *undo, failed *problem.Error) error {
	next := u.since.Add(max(roundWait(u.failed), u.rest))
	u.failed++
	if !failed.Kind.Retryable() {
		u.rest = DefaultGiveUp // not again in this process
	}
	r.logger.Error("clean-up failed; it is kept", EventKey, EventCleanUp, "function", u.fn, "undo_of", u.label, "error", failed.Error(),
		"hint", "moonseal cleanup list shows it, moonseal cleanup retry tries again")
	return r.write(ctx, journal.UndoFailed{Stamp: r.stamp(), N: u.n, Error: failed, NextAt: next.UTC()})
}

func (r *Run) undoOnce(ctx context.Context, u *undo) error {
	ctx, cancel := context.WithTimeout(ctx, undoTimeout)
	defer cancel()
	defer r.watchdog(ctx, "undo of "+u.fn)()
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
		return &problem.Error{Kind: problem.Script, Call: deferFn, Message: "the script did not come to this function again", Hint: "moonseal cleanup forget drops it"}
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
	s := r.deferStep(u)
	s.attempt++
	started := journal.StepStarted{Stamp: r.stamp(), Step: s.n, Kind: s.kind, Name: s.name, Key: s.key, Attempt: s.attempt}
	if err := r.lazy(ctx, started); err != nil {
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
	return r.lazy(ctx, journal.StepDone{Stamp: r.stamp(), Step: s.n, Result: json.RawMessage("null")})
}

// firstDefer is the number of the first deferred function's step: far above any
// of the body's, whose count is not known when a body ends early.
const firstDefer = 1 << 20

func (r *Run) deferStep(u *undo) *step {
	n := firstDefer + u.n
	for _, s := range r.deferSteps {
		if s.n == n {
			return s
		}
	}
	s := &step{n: n, kind: kindStep, name: "cleaning_up", key: strconv.Itoa(u.n)}
	r.deferSteps = append(r.deferSteps, s)
	return s
}

// deferFunction is ctx:defer.
func (r *Run) deferFunction(ctx context.Context, fn *lua.LFunction, data any) error {
	raw, err := r.opt.Registry.Encode(data)
	if err != nil {
		return misuse(deferFn, "its data cannot be journaled: "+err.Error(), "")
	}
	rec := journal.UndoAdded{Step: -1, Undo: journal.UndoSpec{Fn: deferFn, Args: raw}}
	for _, u := range r.undos {
		if u.fn != deferFn || u.fun != nil {
			continue
		}
		rec.Undo.N = u.n
		if err := r.begins(deferFn, rec, false); err != nil && !r.ending {
			return err
		}
		if !r.sameData(u.args, raw) {
			return r.otherData(ctx, u, raw)
		}
		u.fun = fn
		return nil
	}
	if r.ending {
		return nil
	}
	u := &undo{n: len(r.undos), step: -1, fn: deferFn, args: raw, label: deferFn, fun: fn}
	rec.Stamp, rec.Undo.N = r.stamp(), u.n
	if err := r.begins(deferFn, rec, true); err != nil {
		return err
	}
	if err := r.write(ctx, rec); err != nil {
		return err
	}
	r.undos = append(r.undos, u)
	return nil
}

func (r *Run) sameData(x, y json.RawMessage) bool {
	if bytes.Equal(x, y) {
		return true
	}
	x, errX := r.opt.Registry.Canonical(x)
	y, errY := r.opt.Registry.Canonical(y)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// otherData parks a run that comes to ctx:defer with other data than before. One that is
// ending leaves that function alone: its clean-up is kept.
func (r *Run) otherData(ctx context.Context, u *undo, raw json.RawMessage) error {
	if r.ending {
		return nil
	}
	return r.park(ctx, fmt.Sprintf("the journal has ctx:defer with %s, and the script now comes to it with %s: it depends on something outside of steps",
		brief(u.args), brief(raw)), nil)
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
	if r.current != nil || r.hook {
		return misuse("ctx:undo", "called inside a step or a hook", "call it in the run function, after the step")
	}
	want, known := (&step{name: name, key: key}).label(), false
	for _, s := range r.steps[:r.next] {
		known = known || s.label() == want
	}
	if !known {
		return misuse("ctx:undo", fmt.Sprintf("this run has no step %q before it", want), "")
	}
	if r.replaying() {
		return nil
	}
	r.cleaning()
	return r.runUndos(ctx, func(u *undo) bool { return u.label == want && u.effect != nil })
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
	} else if err := r.write(ctx, journal.RunEnding{Stamp: r.stamp(), Outcome: out.Status, Reason: out.Reason, Error: out.Error, Left: out.Left}); err != nil {
		return nil, unwrapStop(err)
	}
	r.ending = true
	if r.pendingUndos() {
		r.cleaning()
	}
	if err := r.runUndos(ctx, func(*undo) bool { return true }); err != nil {
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
	r.logDropped()
	end := []any{EventKey, EventRun}
	if out.Error != nil {
		end = append(end, "error", out.Error.Error())
	}
	if out.Reason != "" {
		end = append(end, "reason", out.Reason)
	}
	r.logger.Info("run "+string(out.Status), end...)
	r.opt.Trace(BeforeEnd, string(out.Status))
	if err := r.write(ctx, journal.RunEnded{Stamp: r.stamp()}); err != nil {
		return nil, unwrapStop(err)
	}
	return out, nil
}

// cleanup tries the pending undos of a run that has ended.
func (r *Run) cleanup(ctx context.Context) (*Outcome, error) {
	if err := r.runUndos(ctx, func(*undo) bool { return true }); err != nil {
		return nil, unwrapStop(err)
	}
	h := r.opt.History.Run
	return &Outcome{Status: h.Status, Reason: h.Reason, Error: h.Error}, nil
}

func (r *Run) pendingUndos() bool {
	for _, u := range r.undos {
		if !u.done {
			return true
		}
	}
	return false
}

// cleaning says, once, that the clean-up is under way.
func (r *Run) cleaning() {
	if !r.cleaned {
		r.cleaned = true
		r.logger.Info("cleaning up", EventKey, EventCleanUp)
	}
}

func unwrapStop(err error) error {
	var c *control
	if errors.As(err, &c) && c.stop != nil {
		return c.stop
	}
	return err
}

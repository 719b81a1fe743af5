package run

import (
	"context"
	"fmt"
	"slices"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

// hookTimeout bounds one hook.
const hookTimeout = 30 * time.Second

// event is what a hook is called with: the same table for all of them, in which what does
// not apply is nil.
type event struct {
	Status  string // of the run; of the attempt for step and retry
	Step    string
	Attempt int
	Reason  string
	Until   time.Time
	Error   *problem.Error
}

func (e event) table(L *lua.LState) *lua.LTable {
	t := L.NewTable()
	t.RawSetString("status", lua.LString(e.Status))
	for name, text := range map[string]string{"step": e.Step, "reason": e.Reason} {
		if text != "" {
			t.RawSetString(name, lua.LString(text))
		}
	}
	if e.Attempt > 0 {
		t.RawSetString("attempt", lua.LNumber(e.Attempt))
	}
	if !e.Until.IsZero() {
		t.RawSetString("until", lua.LNumber(float64(e.Until.Unix())))
	}
	if e.Error != nil {
		t.RawSetString("error", sandbox.Object(L, e.Error))
	}
	return t
}

// key names the event within its run: its hook is run once for each.
func (e event) key(name string) string {
	switch {
	case name == "wait": // each has its own, whatever it waits for
		return fmt.Sprintf("%s %s %d %d %s", name, e.Step, e.Attempt, e.Until.Unix(), e.Reason)
	case e.Attempt > 0:
		return fmt.Sprintf("%s %s %d", name, e.Step, e.Attempt)
	default:
		return name
	}
}

// runHook runs the hooks of an event, the playbook's own first, each at most once
// in the run's life. One that fails is logged and changes no outcome.
func (r *Run) runHook(ctx context.Context, name string, e event) {
	if r.hook || !r.playbook.hooked(name) {
		return
	}
	key, arg := e.key(name), e.table(r.state.L)
	r.runOneHook(ctx, name, key, r.playbook.On[name], arg)
	for _, h := range r.playbook.ForAll {
		r.runOneHook(ctx, name, h.File+" "+key, h.On[name], arg)
	}
}

func (p *Playbook) hooked(event string) bool {
	return p.On[event] != nil || slices.ContainsFunc(p.ForAll, func(h Hooks) bool { return h.On[event] != nil })
}

func (r *Run) runOneHook(ctx context.Context, event, key string, fn *lua.LFunction, arg lua.LValue) {
	if fn == nil || !r.marks.sync(ctx, key) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookTimeout)
	defer cancel()
	current := r.current
	r.hook, r.current = true, nil
	defer func() { r.hook, r.current = false, current }()
	if _, err := r.state.Call(ctx, r.state.L, fn, r.lua.value, arg); err != nil {
		r.log.engine.Error("hook failed", "hook", event, "error", err.Error(), "hint", problem.From(err).Hint)
	}
}

// waitEvent is the event of a run that waits, at step s or, if that is nil, outside of one.
func waitEvent(s *step, out *Outcome) event {
	e := event{Status: string(journal.Waiting), Reason: out.Reason, Until: out.Until, Error: out.Error}
	if s != nil {
		e.Step, e.Attempt = s.label(), s.attempt
	}
	return e
}

// outcomeEvent is the event of a run that ends.
func outcomeEvent(out *Outcome) event {
	e := event{Status: string(out.Status), Reason: out.Reason, Error: out.Error}
	if out.Error != nil {
		e.Step = out.Error.Step
	}
	return e
}

// attemptEvent is the event of an attempt at a step, which starts, or failed with e.
func attemptEvent(s *step, e *problem.Error) event {
	out := event{Status: string(s.state), Step: s.label(), Attempt: s.attempt, Error: e}
	if e == nil {
		out.Status = string(journal.StepRunning)
	}
	return out
}

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

// runHook runs the hooks of an event, the playbook's own first, each at most once
// in the run's life. One that fails is logged and changes no outcome.
func (r *Run) runHook(ctx context.Context, event string, told func() lua.LValue) {
	if r.hook || !r.hooked(event) {
		return
	}
	key, arg := event, told()
	if t, ok := arg.(*lua.LTable); ok {
		if step := t.RawGetString("step"); step != lua.LNil {
			key = fmt.Sprintf("%s %s %s", event, step, t.RawGetString("attempt"))
		} else if until := t.RawGetString("until"); until != lua.LNil {
			key = fmt.Sprintf("%s %s", event, until)
		}
	}
	r.runOneHook(ctx, event, key, r.playbook.On[event], arg)
	for _, h := range r.playbook.ForAll {
		r.runOneHook(ctx, event, h.File+" "+key, h.On[event], arg)
	}
}

func (r *Run) hooked(event string) bool {
	return r.playbook.On[event] != nil || slices.ContainsFunc(r.playbook.ForAll, func(h Hooks) bool { return h.On[event] != nil })
}

func (r *Run) runOneHook(ctx context.Context, event, key string, fn *lua.LFunction, arg lua.LValue) {
	if fn == nil || r.hooks[key] {
		return
	}
	if err := r.write(ctx, journal.HookRan{Stamp: r.stamp(), Key: key}); err != nil {
		return // the next synced record meets the same journal
	}
	r.hooks[key] = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookTimeout)
	defer cancel()
	current := r.current
	r.hook, r.current = true, nil
	defer func() { r.hook, r.current = false, current }()
	if _, err := r.state.Call(ctx, r.state.L, fn, r.ctxValue, arg); err != nil {
		r.logger.Error("hook failed", "hook", event, "error", err.Error(), "hint", problem.From(err).Hint)
	}
}

// waitEvent is what wait is told.
func (r *Run) waitEvent(out *Outcome) lua.LValue {
	t := r.state.L.NewTable()
	t.RawSetString("reason", lua.LString(out.Reason))
	t.RawSetString("until", lua.LNumber(float64(out.Until.Unix())))
	if out.Error != nil {
		t.RawSetString("error", lua.LString(out.Error.Error()))
	}
	return t
}

// outcomeEvent is what success, failure and finish are told: the error that the
// run failed with, or a table with status and reason.
func (r *Run) outcomeEvent(out *Outcome) lua.LValue {
	if out.Error != nil {
		return sandbox.Object(r.state.L, out.Error)
	}
	t := r.state.L.NewTable()
	t.RawSetString("status", lua.LString(out.Status))
	if out.Reason != "" {
		t.RawSetString("reason", lua.LString(out.Reason))
	}
	return t
}

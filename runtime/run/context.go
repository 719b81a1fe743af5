package run

import (
	"context"
	_ "embed" // the stub is a file, so that editors check it
	"fmt"
	"slices"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/sandbox"
	"moonseal/runtime/suggest"
)

// Stub is the LuaLS definition file of what every script has: ctx, playbook,
// secret and duration.
//
//go:embed builtins.lua
var Stub string

// luaContext is the ctx that a playbook's run function gets: it checks arguments, and
// calls the run.
type luaContext struct {
	run   *Run
	value *lua.LUserData
}

func newLuaContext(r *Run) *luaContext {
	c := &luaContext{run: r}
	L := r.state.L
	methods := map[string]lua.LValue{}
	names := []string{"now", "id", "playbook"}
	for name, fn := range map[string]func(*lua.LState) (int, error){
		"step": c.stepOf(kindStep), "poll": c.stepOf(kindPoll), "sleep": c.sleep, "undo": c.undo,
		"defer": c.deferFunction, "record": c.record, "skip": c.skip, "approve": c.approve,
	} {
		methods[name] = L.NewFunction(func(l *lua.LState) int {
			if l.Get(1) != lua.LValue(c.value) {
				raise(l, misuse("ctx:"+name, "called without its ctx", "call it with a colon: ctx:"+name+"(…)"))
			}
			if !r.hook {
				r.cursor.place = sandbox.Where(l)
			}
			n, err := fn(l)
			if err != nil {
				raise(l, err)
			}
			return n
		})
		names = append(names, name)
	}
	meta := L.NewTable()
	meta.RawSetString("__metatable", lua.LFalse)
	meta.RawSetString("__index", L.NewFunction(func(l *lua.LState) int {
		key := l.Get(2).String()
		switch m, ok := methods[key]; {
		case ok:
			l.Push(m)
		case key == "now":
			l.Push(lua.LNumber(float64(r.now.UnixMicro()) / 1e6))
		case key == "id":
			l.Push(lua.LString(r.id))
		case key == "playbook":
			l.Push(lua.LString(r.playbook.Name))
		default:
			raise(l, misuse("ctx", fmt.Sprintf("it has no %q%s", key, suggest.Phrase(key, names)), ""))
		}
		return 1
	}))
	meta.RawSetString("__newindex", L.NewFunction(func(l *lua.LState) int {
		raise(l, misuse("ctx", "it is read-only", ""))
		return 0
	}))
	meta.RawSetString("__tostring", L.NewFunction(func(l *lua.LState) int {
		l.Push(lua.LString("ctx of run " + r.id))
		return 1
	}))
	c.value = L.NewUserData()
	c.value.Metatable = meta
	return c
}

// outside refuses a call within a step or a hook.
func (c *luaContext) outside(call, hint string) error {
	if c.run.current != nil || c.run.hook {
		return misuse(call, "called inside a step or a hook", hint)
	}
	return nil
}

func (c *luaContext) stepOf(kind string) func(*lua.LState) (int, error) {
	usage := fmt.Sprintf("it is called as ctx:%s(name, [options], function() … end)", kind)
	return func(l *lua.LState) (int, error) {
		name, ok := l.Get(2).(lua.LString)
		if !ok || name == "" {
			return 0, misuse("ctx:"+kind, "argument 1 \"name\" expects a string, got a "+l.Get(2).Type().String(), usage)
		}
		options, fnArg := lua.LNil, l.Get(3)
		if l.GetTop() > 3 {
			options, fnArg = l.Get(3), l.Get(4)
		}
		fn, ok := fnArg.(*lua.LFunction)
		if !ok || fn.IsG || l.GetTop() > 4 {
			return 0, misuse("ctx:"+kind, "its last argument expects a Lua function, got a "+fnArg.Type().String(), usage)
		}
		opts, err := c.options(kind, options)
		if err != nil {
			return 0, misuse("ctx:"+kind, err.Error(), usage)
		}
		v, err := c.run.runStep(l, kind, string(name), opts, fn)
		if err != nil {
			return 0, err
		}
		l.Push(v)
		return 1, nil
	}
}

func (c *luaContext) sleep(l *lua.LState) (int, error) {
	plain, err := c.run.binding.FromLua(l.Get(2))
	if err != nil {
		return 0, misuse("ctx:sleep", err.Error(), "")
	}
	var args struct {
		For time.Duration `lua:"duration" doc:"how long"`
	}
	o := bind.NewObject()
	o.Set("duration", plain)
	if err := c.run.opt.Registry.Fill(&args, o, "argument 1"); err != nil {
		return 0, misuse("ctx:sleep", err.Error(), `it is called as ctx:sleep "10m"`)
	}
	return 0, c.run.sleep(l, args.For)
}

func (c *luaContext) undo(l *lua.LState) (int, error) {
	name, ok := l.Get(2).(lua.LString)
	if !ok {
		return 0, misuse("ctx:undo", "argument 1 expects the name of a step", "")
	}
	if err := c.outside("ctx:undo", "call it in the run function, after the step"); err != nil {
		return 0, err
	}
	key, _ := l.Get(3).(lua.LString)
	return 0, c.run.undoStep(l.Context(), string(name), string(key))
}

func (c *luaContext) deferFunction(l *lua.LState) (int, error) {
	fn, ok := l.Get(2).(*lua.LFunction)
	if !ok {
		return 0, misuse("ctx:defer", "argument 1 expects a function, got a "+l.Get(2).Type().String(), "ctx:defer(function(data) … end, data)")
	}
	if err := c.outside("ctx:defer", "call it in the run function"); err != nil {
		return 0, err
	}
	data, err := c.run.binding.FromLua(l.Get(3))
	if err != nil {
		return 0, misuse("ctx:defer", "argument 2: "+err.Error(), "")
	}
	return 0, c.run.deferFunction(l.Context(), fn, data)
}

func (c *luaContext) record(l *lua.LState) (int, error) {
	if err := c.outside("ctx:record", "call it in the run function"); err != nil {
		return 0, err
	}
	plain, err := c.run.binding.FromLua(l.Get(2))
	if err != nil {
		return 0, misuse("ctx:record", err.Error(), "")
	}
	o, ok := plain.(*bind.Object)
	if !ok {
		return 0, misuse("ctx:record", "it takes a table", `ctx:record { subject = "cucm01/tomcat", installed = cert, served = served }`)
	}
	return 0, c.addRow(l.Context(), o)
}

// recordKeys are what a record may hold: what the engine reads, and data, which
// is the script's.
func recordKeys() []string {
	return []string{"subject", "installed", "served", "issued", "next", "data"}
}

// addRow journals the row of a ctx:record that the journal does not have yet.
func (c *luaContext) addRow(ctx context.Context, o *bind.Object) error {
	if subject, ok := o.Values["subject"].(string); !ok || subject == "" {
		return misuse("ctx:record", "the table has no subject", "subject names what was looked at, such as cucm01/tomcat")
	}
	for _, k := range o.Keys {
		if !slices.Contains(recordKeys(), k) {
			return misuse("ctx:record", fmt.Sprintf("the table has no key %q%s", k, suggest.Phrase(k, recordKeys())), "what is yours goes into data")
		}
	}
	r := c.run
	if r.cursor.ending {
		return nil
	}
	n := r.cursor.rows
	raw, err := r.opt.Registry.Encode(o)
	if err != nil {
		return misuse("ctx:record", err.Error(), "")
	}
	rec := journal.Recorded{Stamp: r.rec.stamp(), Seq: n, Data: raw}
	if err := r.cursor.start("ctx:record", rec, n >= r.cursor.rowsRecorded); err != nil {
		return err
	}
	r.cursor.rows++
	if n < r.cursor.rowsRecorded {
		return nil
	}
	return r.rec.lazy(ctx, rec)
}

func (c *luaContext) skip(l *lua.LState) (int, error) {
	reason, ok := l.Get(2).(lua.LString)
	if !ok {
		return 0, misuse("ctx:skip", "it takes the reason as a string", `ctx:skip "not due"`)
	}
	if s := c.run.current; s != nil {
		return 0, misuse("ctx:skip", fmt.Sprintf("called inside step %q", s.label()), "return from the step first")
	}
	return 0, skipped(cut(string(reason)))
}

func (c *luaContext) approve(l *lua.LState) (int, error) {
	message, ok := l.Get(2).(lua.LString)
	if !ok || message == "" {
		return 0, misuse("ctx:approve", "it takes what is to be approved as a string", `ctx:approve "restart cluster dfw"`)
	}
	s, err := c.run.enter(l.Context(), kindApprove, stepKey{"approve", string(message)}, stepOptions{})
	if err != nil {
		return 0, err
	}
	v, err := c.run.await(l.Context(), s)
	if err != nil {
		return 0, err
	}
	l.Push(v)
	return 1, nil
}

// raise ends a Lua call with err.
func raise(L *lua.LState, err error) { sandbox.Raise(L, err) }

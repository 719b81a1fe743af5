package run

import (
	"context"
	"fmt"
	"slices"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/sandbox"
	"moonseal/runtime/suggest"
)

// newContext makes the ctx that a playbook's run function gets.
func (r *Run) newContext() *lua.LUserData {
	L := r.state.L
	methods := map[string]lua.LValue{}
	names := []string{"now", "id", "playbook"}
	for name, fn := range map[string]func(*lua.LState) (int, error){
		"step": r.luaStep(kindStep), "poll": r.luaStep(kindPoll), "sleep": r.luaSleep, "undo": r.luaUndo,
		"defer": r.luaDefer, "record": r.luaRecord, "skip": r.luaSkip, "approve": r.luaApprove,
	} {
		methods[name] = L.NewFunction(func(l *lua.LState) int {
			if l.Get(1) != lua.LValue(r.ctxValue) {
				raise(l, misuse("ctx:"+name, "called without its ctx", "call it with a colon: ctx:"+name+"(…)"))
			}
			if !r.hook {
				r.reached = sandbox.Where(l)
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
	ud := L.NewUserData()
	ud.Metatable = meta
	return ud
}

func (r *Run) luaStep(kind string) func(*lua.LState) (int, error) {
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
		opts, err := r.stepOptions(kind, options)
		if err != nil {
			return 0, misuse("ctx:"+kind, err.Error(), usage)
		}
		v, err := r.runStep(l, kind, string(name), opts, fn)
		if err != nil {
			return 0, err
		}
		l.Push(v)
		return 1, nil
	}
}

func (r *Run) luaSleep(l *lua.LState) (int, error) {
	plain, err := r.binding.FromLua(l.Get(2))
	if err != nil {
		return 0, misuse("ctx:sleep", err.Error(), "")
	}
	var args struct {
		For time.Duration `lua:"duration" doc:"how long"`
	}
	o := bind.NewObject()
	o.Set("duration", plain)
	if err := r.opt.Registry.Fill(&args, o, "argument 1"); err != nil {
		return 0, misuse("ctx:sleep", err.Error(), `it is called as ctx:sleep "10m"`)
	}
	return 0, r.sleep(l, args.For)
}

func (r *Run) luaUndo(l *lua.LState) (int, error) {
	name, ok := l.Get(2).(lua.LString)
	if !ok {
		return 0, misuse("ctx:undo", "argument 1 expects the name of a step", "")
	}
	key, _ := l.Get(3).(lua.LString)
	return 0, r.undoStep(l.Context(), string(name), string(key))
}

func (r *Run) luaDefer(l *lua.LState) (int, error) {
	fn, ok := l.Get(2).(*lua.LFunction)
	if !ok {
		return 0, misuse("ctx:defer", "argument 1 expects a function, got a "+l.Get(2).Type().String(), "ctx:defer(function(data) … end, data)")
	}
	if r.current != nil || r.hook {
		return 0, misuse("ctx:defer", "called inside a step or a hook", "call it in the run function")
	}
	data, err := r.binding.FromLua(l.Get(3))
	if err != nil {
		return 0, misuse("ctx:defer", "argument 2: "+err.Error(), "")
	}
	return 0, r.deferFunction(l.Context(), fn, data)
}

func (r *Run) luaRecord(l *lua.LState) (int, error) {
	if r.current != nil || r.hook {
		return 0, misuse("ctx:record", "called inside a step or a hook", "call it in the run function")
	}
	plain, err := r.binding.FromLua(l.Get(2))
	if err != nil {
		return 0, misuse("ctx:record", err.Error(), "")
	}
	o, ok := plain.(*bind.Object)
	if !ok {
		return 0, misuse("ctx:record", "it takes a table", `ctx:record { subject = "cucm01/tomcat", installed = cert, served = served }`)
	}
	return 0, r.record(l.Context(), o)
}

// recordKeys are what a record may hold: what the engine reads, and data, which
// is the script's.
func recordKeys() []string {
	return []string{"subject", "installed", "served", "issued", "next", "data"}
}

func (r *Run) record(ctx context.Context, o *bind.Object) error {
	if subject, ok := o.Values["subject"].(string); !ok || subject == "" {
		return misuse("ctx:record", "the table has no subject", "subject names what was looked at, such as cucm01/tomcat")
	}
	for _, k := range o.Keys {
		if !slices.Contains(recordKeys(), k) {
			return misuse("ctx:record", fmt.Sprintf("the table has no key %q%s", k, suggest.Phrase(k, recordKeys())), "what is yours goes into data")
		}
	}
	if r.ending {
		return nil
	}
	n := r.records
	raw, err := r.opt.Registry.Encode(o)
	if err != nil {
		return misuse("ctx:record", err.Error(), "")
	}
	rec := journal.Recorded{Stamp: r.stamp(), Seq: n, Data: raw}
	if err := r.begins("ctx:record", rec, n >= r.recorded); err != nil {
		return err
	}
	r.records++
	if n < r.recorded {
		return nil
	}
	return r.lazy(ctx, rec)
}

func (r *Run) luaSkip(l *lua.LState) (int, error) {
	reason, ok := l.Get(2).(lua.LString)
	if !ok {
		return 0, misuse("ctx:skip", "it takes the reason as a string", `ctx:skip "not due"`)
	}
	if r.current != nil {
		return 0, misuse("ctx:skip", fmt.Sprintf("called inside step %q", r.current.label()), "return from the step first")
	}
	return 0, skipped(cut(string(reason)))
}

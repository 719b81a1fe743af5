package sandbox

import (
	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/suggest"
)

// shadow marks the metatable of a read-only table and names the table that holds
// its contents. No script can make a userdata, so none can forge the mark.
type shadow struct{ table *lua.LTable }

const shadowKey = "\x00shadow"

// contents returns the table that holds what t shows: t itself, unless it is
// read-only.
func contents(t *lua.LTable) (_ *lua.LTable, readOnly bool) {
	meta, ok := t.Metatable.(*lua.LTable)
	if !ok {
		return t, false
	}
	ud, ok := meta.RawGetString(shadowKey).(*lua.LUserData)
	if !ok {
		return t, false
	}
	switch mark := ud.Value.(type) {
	case *shadow:
		return mark.table, true
	case *frozenTables:
		if held := mark.held[t]; held != nil {
			return held, true
		}
	}
	return t, false
}

// Module makes t and the tables in it read-only for scripts, in place: neither an
// assignment, nor rawset, table.insert or setmetatable changes it. The read of a
// field that t does not have raises, with the name of the nearest that it has.
func (s *State) Module(name string, t *lua.LTable) {
	held := s.protect(t, name)
	if held == nil || held.Metatable != lua.LNil {
		return
	}
	meta := s.L.NewTable()
	meta.RawSetString("__index", s.L.NewFunction(func(L *lua.LState) int {
		key := L.Get(2)
		text, ok := key.(lua.LString)
		if !ok {
			L.Push(lua.LNil)
			return 1
		}
		Raise(L, &problem.Error{Kind: problem.Usage, Message: name + " has no " + quote(string(text)) + suggest.Phrase(string(text), names(held))})
		return 0
	}))
	held.Metatable = meta
}

// protect moves t's contents into a table that only its new metatable knows, and
// returns that table; nil if t is read-only already.
func (s *State) protect(t *lua.LTable, name string) *lua.LTable {
	if _, done := contents(t); done {
		return nil
	}
	held, meta := new(lua.LTable), s.L.NewTable()
	*held = *t
	if old, ok := t.Metatable.(*lua.LTable); ok {
		old.ForEach(func(k, v lua.LValue) { meta.RawSet(k, v) })
	}
	mark := s.L.NewUserData()
	mark.Value = &shadow{held}
	meta.RawSetString(shadowKey, mark)
	meta.RawSetString("__index", held)
	meta.RawSetString("__newindex", s.L.NewFunction(func(L *lua.LState) int {
		Raise(L, &problem.Error{Kind: problem.Usage, Message: name + " is read-only: cannot set " + quote(L.Get(2).String())})
		return 0
	}))
	meta.RawSetString("__len", s.L.NewFunction(func(L *lua.LState) int {
		L.Push(lua.LNumber(held.Len()))
		return 1
	}))
	meta.RawSetString("__metatable", lua.LFalse)
	*t = lua.LTable{Metatable: meta}
	held.ForEach(func(_, v lua.LValue) {
		if inner, ok := v.(*lua.LTable); ok {
			s.protect(inner, name)
		}
	})
	return held
}

// guardGlobals makes the globals table answer for undefined variables, and for
// assignments once it is sealed.
func (s *State) guardGlobals() {
	global := s.L.G.Global
	s.globals = s.protect(global, "_G")
	meta, _ := global.Metatable.(*lua.LTable)
	meta.RawSetString("__newindex", s.L.NewFunction(func(L *lua.LState) int {
		if s.sealed {
			Raise(L, &problem.Error{
				Kind: problem.Usage, Message: "assigns the global variable " + quote(L.Get(2).String()),
				Hint: "write local in front of it, or of the function",
			})
		}
		s.globals.RawSet(L.CheckAny(2), L.Get(3))
		return 0
	}))
	undefined := s.L.NewTable()
	undefined.RawSetString("__index", s.L.NewFunction(func(L *lua.LState) int {
		name := L.Get(2).String()
		Raise(L, &problem.Error{
			Kind:    problem.Usage,
			Message: "undefined variable " + quote(name) + suggest.Phrase(name, names(s.globals)),
			Hint:    removed(name),
		})
		return 0
	}))
	s.globals.Metatable = undefined
	s.globals.RawSetString("_G", global)
}

// removed returns what to use in place of a standard name that is not here.
func removed(name string) string {
	switch name {
	case "io", "os", "package", "dofile", "loadfile":
		return "scripts reach files, clock and processes through moonseal's modules only"
	case "load", "loadstring", "getfenv", "setfenv", "module", "debug", "newproxy", "collectgarbage":
		return "this part of Lua is left out on purpose"
	case "coroutine":
		return "steps are replayed, they never yield: use ctx:step, ctx:poll and ctx:sleep"
	case "print":
		return `use the log module: require("log").info "…"`
	}
	return ""
}

func names(t *lua.LTable) []string {
	var out []string
	for k, _ := t.Next(lua.LNil); k != lua.LNil; k, _ = t.Next(k) {
		if text, ok := k.(lua.LString); ok {
			out = append(out, string(text))
		}
	}
	return out
}

func quote(s string) string {
	const most = 60
	if len(s) > most {
		s = s[:most] + "…"
	}
	return `"` + s + `"`
}

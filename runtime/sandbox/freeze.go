package sandbox

import (
	"math"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
)

// ice marks the metatables of frozen tables, and has their contents.
type ice struct{ held map[*lua.LTable]*lua.LTable }

// outer is a variable that a function has from around it.
type outer struct {
	up    *lua.Upvalue
	value lua.LValue
}

// thicket is what a function can reach from outside of it.
type thicket struct {
	tables    []*lua.LTable
	functions []*lua.LFunction
	outers    []outer
	metas     map[*lua.LTable]bool // those of the tables that have metamethods

	seenTables    map[*lua.LTable]struct{}
	seenFunctions map[*lua.LFunction]struct{}
	seenOuters    map[*lua.Upvalue]struct{}
	todo          []lua.LValue
}

// Freeze makes every table that fn can reach from outside read-only, in place, until the
// function that it returns is called. That one also puts back what functions have assigned
// to outer variables meanwhile, and returns an error that names the first. What a step's
// function leaves behind beside its result would be missing when the step answers from the
// journal.
func (s *State) Freeze(fn *lua.LFunction) (thaw func() error) {
	th := s.thicket // growing its maps for each step takes longer than all else
	if th == nil {
		th = newThicket()
	}
	s.thicket = nil
	for lib := range s.libraries {
		th.seenTables[lib] = struct{}{}
	}
	th.see(fn)
	s.globals.ForEach(func(_, v lua.LValue) { th.see(v) })
	for len(th.todo) > 0 {
		v := th.todo[len(th.todo)-1]
		th.todo = th.todo[:len(th.todo)-1]
		switch v := v.(type) {
		case *lua.LFunction:
			th.function(v)
		case *lua.LTable:
			th.table(v)
		}
	}
	metas := map[*lua.LTable]*lua.LTable{}
	held := make([]lua.LTable, len(th.tables))
	for i, t := range th.tables {
		s.freeze(t, &held[i], metas, th.metas[t])
	}
	return func() error {
		for i, t := range th.tables {
			*t = held[i]
			delete(s.ice.held, t)
		}
		err := th.changed()
		if len(th.tables) <= mostKept {
			th.forget()
			s.thicket = th
		}
		return err
	}
}

// mostKept is how many tables a thicket may have had that is kept for the next step.
const mostKept = 16 << 10

func newThicket() *thicket {
	return &thicket{
		metas: map[*lua.LTable]bool{}, seenTables: map[*lua.LTable]struct{}{}, seenFunctions: map[*lua.LFunction]struct{}{}, seenOuters: map[*lua.Upvalue]struct{}{},
	}
}

// forget empties what was seen.
func (th *thicket) forget() {
	clear(th.tables)
	clear(th.functions)
	clear(th.outers)
	th.tables, th.functions, th.outers = th.tables[:0], th.functions[:0], th.outers[:0]
	clear(th.metas)
	clear(th.seenTables)
	clear(th.seenFunctions)
	clear(th.seenOuters)
}

// see notes a value that is a table or a function, once.
func (th *thicket) see(v lua.LValue) {
	switch v := v.(type) {
	case *lua.LFunction:
		if _, old := th.seenFunctions[v]; !old && !v.IsG {
			th.seenFunctions[v] = struct{}{}
			th.todo = append(th.todo, v)
		}
	case *lua.LTable:
		if _, old := th.seenTables[v]; !old {
			th.seenTables[v] = struct{}{}
			th.todo = append(th.todo, v)
		}
	}
}

func (th *thicket) function(fn *lua.LFunction) {
	th.functions = append(th.functions, fn)
	for _, up := range fn.Upvalues {
		if up == nil {
			continue
		}
		if _, old := th.seenOuters[up]; old {
			continue
		}
		th.seenOuters[up] = struct{}{}
		value := up.Value()
		th.outers = append(th.outers, outer{up, value})
		th.see(value)
	}
}

func (th *thicket) table(t *lua.LTable) {
	held, readOnly := contents(t)
	if !readOnly {
		th.tables = append(th.tables, t)
	}
	held.ForEach(func(k, v lua.LValue) {
		if name, ok := k.(lua.LString); !ok {
			th.see(k)
		} else if len(name) > 2 && name[:2] == "__" {
			th.metas[t] = true
		}
		th.see(v)
	})
	th.see(held.Metatable)
}

func isNaN(v lua.LValue) bool {
	n, ok := v.(lua.LNumber)
	return ok && math.IsNaN(float64(n))
}

// changed puts outer variables back, and reports which was assigned first and where.
func (th *thicket) changed() error {
	var first error
	for _, o := range th.outers {
		now := o.up.Value()
		if now == o.value || isNaN(now) && isNaN(o.value) {
			continue
		}
		o.up.SetValue(o.value)
		if first == nil {
			first = th.assigns(o.up)
		}
	}
	return first
}

// assigns names the line that assigns a variable.
func (th *thicket) assigns(up *lua.Upvalue) error {
	for _, fn := range th.functions {
		for i, u := range fn.Upvalues {
			if u != up {
				continue
			}
			outside := make([]bool, len(fn.Upvalues))
			outside[i] = true
			if e := checkProto(fn.Proto, outside); e != nil {
				e.Message = strings.Replace(e.Message, "the step's function assigns", "a function that the step calls assigns", 1)
				e.Hint = fromStep
				return e
			}
		}
	}
	return &problem.Error{Kind: problem.Usage, Message: "a function that the step calls assigns an outer variable", Hint: fromStep}
}

const fromStep = "return the value from the step: local value = ctx:step(…)"

// metamethods are what a table may have that others have as a metatable.
func metamethods() []string {
	return []string{
		"__index", "__newindex", "__call", "__tostring", "__len", "__eq", "__lt", "__le", "__concat",
		"__add", "__sub", "__mul", "__div", "__mod", "__pow", "__unm", "__metatable",
	}
}

// freeze moves t's contents to held, and lets a metatable show them. metas has those that
// were made already, by the metatable that they stand for; methods reports whether t may be a
// metatable itself.
func (s *State) freeze(t, held *lua.LTable, metas map[*lua.LTable]*lua.LTable, methods bool) {
	*held = *t
	s.ice.held[t] = held
	old, _ := t.Metatable.(*lua.LTable)
	meta := s.frozen
	if old != nil {
		if meta = metas[old]; meta == nil {
			meta = s.frozenMeta(old)
			metas[old] = meta
		}
	}
	*t = lua.LTable{Metatable: meta}
	if !methods {
		return
	}
	// As a metatable it is read without metamethods.
	for _, key := range metamethods() {
		if v := held.RawGetString(key); v != lua.LNil {
			t.RawSetString(key, v)
		}
	}
}

// frozenMeta returns the metatable of frozen tables that have old as theirs; nil is none.
func (s *State) frozenMeta(old *lua.LTable) *lua.LTable {
	meta := s.L.NewTable()
	if old != nil {
		held, _ := contents(old)
		for _, key := range metamethods() {
			if v := held.RawGetString(key); v != lua.LNil {
				meta.RawSetString(key, v)
			}
		}
	}
	mark := s.L.NewUserData()
	mark.Value = s.ice
	meta.RawSetString(shadowKey, mark)
	meta.RawSetString("__index", s.L.NewFunction(s.frozenIndex))
	meta.RawSetString("__newindex", s.L.NewFunction(func(L *lua.LState) int {
		Raise(L, changesOutside())
		return 0
	}))
	meta.RawSetString("__len", s.L.NewFunction(func(L *lua.LState) int {
		held, _ := contents(L.CheckTable(1))
		L.Push(lua.LNumber(held.Len()))
		return 1
	}))
	return meta
}

func changesOutside() *problem.Error {
	return &problem.Error{Kind: problem.Usage, Message: "the step's function changes a table from outside of it", Hint: fromStep}
}

// frozenIndex reads a frozen table as it would be read.
func (s *State) frozenIndex(L *lua.LState) int {
	t, key := L.CheckTable(1), L.Get(2)
	held, _ := contents(t)
	v := held.RawGet(key)
	if meta, ok := held.Metatable.(*lua.LTable); ok && v == lua.LNil {
		raw, _ := contents(meta)
		switch index := raw.RawGetString("__index").(type) {
		case *lua.LTable:
			v = L.GetTable(index, key)
		case *lua.LFunction:
			L.Push(index)
			L.Push(t)
			L.Push(key)
			L.Call(2, 1)
			return 1
		}
	}
	L.Push(v)
	return 1
}

// Contents returns the table that holds what t shows: t itself, unless it is read-only.
// Go code that walks a script's table walks that one.
func Contents(t *lua.LTable) *lua.LTable {
	held, _ := contents(t)
	return held
}

// isFrozen reports whether t is read-only for the time of a step.
func (s *State) isFrozen(t *lua.LTable) bool { return s.ice.held[t] != nil }

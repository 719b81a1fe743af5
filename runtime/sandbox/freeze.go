package sandbox

import (
	"math"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
)

// frozenTables marks the metatables of frozen tables, and has their contents.
type frozenTables struct{ held map[*lua.LTable]*lua.LTable }

// outer is a variable that a function has from around it.
type outer struct {
	up    *lua.Upvalue
	value lua.LValue
}

// reachable is what a function can reach from outside of it.
type reachable struct {
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
	reach := s.reachable // growing its maps for each step takes longer than all else
	if reach == nil {
		reach = newReachable()
	}
	s.reachable = nil
	for lib := range s.libraries {
		reach.seenTables[lib] = struct{}{}
	}
	reach.visit(fn)
	s.globals.ForEach(func(_, v lua.LValue) { reach.visit(v) })
	for len(reach.todo) > 0 {
		v := reach.todo[len(reach.todo)-1]
		reach.todo = reach.todo[:len(reach.todo)-1]
		switch v := v.(type) {
		case *lua.LFunction:
			reach.function(v)
		case *lua.LTable:
			reach.table(v)
		}
	}
	metas := map[*lua.LTable]*lua.LTable{}
	held := make([]lua.LTable, len(reach.tables))
	for i, t := range reach.tables {
		s.freeze(t, &held[i], metas, reach.metas[t])
	}
	return func() error {
		for i, t := range reach.tables {
			*t = held[i]
			delete(s.frozenNow.held, t)
		}
		err := reach.changed()
		if len(reach.tables) <= mostKept {
			reach.reset()
			s.reachable = reach
		}
		return err
	}
}

// mostKept bounds the tables of what is kept for the next step.
const mostKept = 16 << 10

func newReachable() *reachable {
	return &reachable{
		metas: map[*lua.LTable]bool{}, seenTables: map[*lua.LTable]struct{}{}, seenFunctions: map[*lua.LFunction]struct{}{}, seenOuters: map[*lua.Upvalue]struct{}{},
	}
}

// reset empties it for the next step.
func (reach *reachable) reset() {
	clear(reach.tables)
	clear(reach.functions)
	clear(reach.outers)
	reach.tables, reach.functions, reach.outers = reach.tables[:0], reach.functions[:0], reach.outers[:0]
	clear(reach.metas)
	clear(reach.seenTables)
	clear(reach.seenFunctions)
	clear(reach.seenOuters)
}

// visit notes a value that is a table or a function, once.
func (reach *reachable) visit(v lua.LValue) {
	switch v := v.(type) {
	case *lua.LFunction:
		if _, old := reach.seenFunctions[v]; !old && !v.IsG {
			reach.seenFunctions[v] = struct{}{}
			reach.todo = append(reach.todo, v)
		}
	case *lua.LTable:
		if _, old := reach.seenTables[v]; !old {
			reach.seenTables[v] = struct{}{}
			reach.todo = append(reach.todo, v)
		}
	}
}

func (reach *reachable) function(fn *lua.LFunction) {
	reach.functions = append(reach.functions, fn)
	for _, up := range fn.Upvalues {
		if up == nil {
			continue
		}
		if _, old := reach.seenOuters[up]; old {
			continue
		}
		reach.seenOuters[up] = struct{}{}
		value := up.Value()
		reach.outers = append(reach.outers, outer{up, value})
		reach.visit(value)
	}
}

func (reach *reachable) table(t *lua.LTable) {
	held, readOnly := contents(t)
	if !readOnly {
		reach.tables = append(reach.tables, t)
	}
	held.ForEach(func(k, v lua.LValue) {
		if name, ok := k.(lua.LString); !ok {
			reach.visit(k)
		} else if len(name) > 2 && name[:2] == "__" {
			reach.metas[t] = true
		}
		reach.visit(v)
	})
	reach.visit(held.Metatable)
}

func isNaN(v lua.LValue) bool {
	n, ok := v.(lua.LNumber)
	return ok && math.IsNaN(float64(n))
}

// changed puts outer variables back, and reports which was assigned first and where.
func (reach *reachable) changed() error {
	var first error
	for _, o := range reach.outers {
		now := o.up.Value()
		if now == o.value || isNaN(now) && isNaN(o.value) {
			continue
		}
		o.up.SetValue(o.value)
		if first == nil {
			first = reach.assigns(o.up)
		}
	}
	return first
}

// assigns names the line that assigns a variable.
func (reach *reachable) assigns(up *lua.Upvalue) error {
	for _, fn := range reach.functions {
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
	return &problem.Error{
		Kind: problem.Usage, Message: "a function that the step calls assigns an outer variable",
		Hint: fromStep,
	}
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
	s.frozenNow.held[t] = held
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
	mark.Value = s.frozenNow
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
	return &problem.Error{
		Kind: problem.Usage, Message: "the step's function changes a table from outside of it", Hint: fromStep,
	}
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
func (s *State) isFrozen(t *lua.LTable) bool { return s.frozenNow.held[t] != nil }

package sandbox

import (
	"sort"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// tableFunctions are those of the table library that gopher-lua's are replaced
// by: they read read-only tables, leave them alone, and are bounded.
func (s *State) tableFunctions() map[string]lua.LGFunction {
	return map[string]lua.LGFunction{"concat": s.tableConcat, "insert": tableInsert, "remove": tableRemove, "sort": tableSort, "maxn": tableMaxn}
}

// tableConcat needs no stack, so that long lists do not overflow it.
func (s *State) tableConcat(L *lua.LState) int {
	t, _ := contents(L.CheckTable(1))
	between := L.OptString(2, "")
	from, to := L.OptInt(3, 1), L.OptInt(4, t.Len())
	var out strings.Builder
	for i := from; i <= to; i++ {
		value := t.RawGet(lua.LNumber(i))
		if !lua.LVCanConvToString(value) {
			L.RaiseError("invalid value (%s) at index %d in table for 'concat'", value.Type().String(), i)
		}
		out.WriteString(lua.LVAsString(value))
		if i < to {
			out.WriteString(between)
		}
		s.bound(L, out.Len())
	}
	L.Push(lua.LString(out.String()))
	return 1
}

func tableMaxn(L *lua.LState) int {
	L.Push(lua.LNumber(Contents(L.CheckTable(1)).MaxN()))
	return 1
}

func tableInsert(L *lua.LState) int {
	t := writable(L)
	switch n := t.Len(); L.GetTop() {
	case 2:
		t.RawSetInt(n+1, L.Get(2))
	case 3:
		at := L.CheckInt(2)
		if at < 1 || at > n+1 {
			L.ArgError(2, "position out of bounds")
		}
		if at == n+1 {
			t.RawSetInt(at, L.Get(3))
			break
		}
		t.Insert(at, L.Get(3))
	default:
		L.RaiseError("wrong number of arguments to 'insert'")
	}
	return 0
}

func tableRemove(L *lua.LState) int {
	t := writable(L)
	n := t.Len()
	at := L.OptInt(2, n)
	if n == 0 {
		L.Push(lua.LNil)
		return 1
	}
	if at < 1 || at > n {
		if L.GetTop() > 1 && at != n+1 {
			L.ArgError(2, "position out of bounds")
		}
		L.Push(lua.LNil)
		return 1
	}
	L.Push(t.Remove(at))
	return 1
}

func tableSort(L *lua.LState) int {
	t := writable(L)
	by := sorter{L: L, values: make([]lua.LValue, t.Len())}
	if L.Get(2) != lua.LNil {
		by.less = L.CheckFunction(2)
	}
	for i := range by.values {
		by.values[i] = t.RawGetInt(i + 1)
	}
	sort.Sort(&by)
	for i, v := range by.values {
		t.RawSetInt(i+1, v)
	}
	return 0
}

// sorter sorts a copy, so that a comparison that changes the table, or raises,
// leaves it whole; and it checks the context.
type sorter struct {
	L      *lua.LState
	less   *lua.LFunction
	values []lua.LValue
	steps  int
}

func (s *sorter) Len() int      { return len(s.values) }
func (s *sorter) Swap(i, j int) { s.values[i], s.values[j] = s.values[j], s.values[i] }
func (s *sorter) Less(i, j int) bool {
	L := s.L
	if s.steps++; s.steps%checkEvery == 0 {
		checkContext(L)
	}
	if s.less == nil {
		return L.LessThan(s.values[i], s.values[j])
	}
	L.Push(s.less)
	L.Push(s.values[i])
	L.Push(s.values[j])
	L.Call(2, 1)
	less := lua.LVAsBool(L.Get(-1))
	L.Pop(1)
	return less
}

// checkEvery is how many steps of Go code pass between two checks of the context.
const checkEvery = 4096

// checkContext raises when L's context has ended.
func checkContext(L *lua.LState) {
	if err := contextOf(L).Err(); err != nil {
		Raise(L, err)
	}
}

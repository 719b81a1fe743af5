package sandbox

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
)

// baseFunctions are the functions that are in no library.
func (s *State) baseFunctions() map[string]lua.LGFunction {
	f := map[string]lua.LGFunction{
		"assert": s.assert, "error": s.error, "pcall": s.pcall, "xpcall": s.xpcall,
		"getmetatable": getMetatable, "setmetatable": setMetatable,
		"rawequal": rawEqual, "rawget": rawGet, "rawset": rawSet,
		"next": next, "pairs": s.pairs(), "ipairs": s.ipairs(), "select": selectArgs, "unpack": unpack,
		"tonumber": toNumber, "tostring": toString, "type": typeOf,
	}
	if s.opts.Print != nil {
		f["print"] = s.print
	}
	return f
}

func (s *State) print(L *lua.LState) int {
	parts := make([]string, L.GetTop())
	for i := range parts {
		parts[i] = L.ToStringMeta(L.Get(i + 1)).String()
	}
	s.opts.Print(strings.Join(parts, "\t"))
	return 0
}

// error raises a value; a text gets the place of the function at level: 1 is the
// caller of error, 2 that one's caller.
func (s *State) error(L *lua.LState) int {
	value, level := L.Get(1), L.OptInt(2, 1)
	if text, ok := value.(lua.LString); ok && level > 0 {
		value = s.positionedText(L, string(text), level)
	}
	if t, ok := value.(*lua.LTable); ok {
		s.raised, s.raisedAt = t, s.whose(L)
	}
	L.Error(value, 0)
	return 0
}

func (s *State) assert(L *lua.LState) int {
	if L.CheckAny(1); L.ToBool(1) {
		return L.GetTop()
	}
	switch value := L.Get(2).(type) {
	case *lua.LNilType:
		L.Error(s.positionedText(L, "assertion failed!", 1), 0)
	case lua.LString:
		L.Error(s.positionedText(L, string(value), 1), 0)
	default:
		L.Error(value, 0)
	}
	return 0
}

// positionedText puts "file:line: " before text, for the function at level. After
// a tail call, which leaves no trace of its caller, the callee's place is used.
func (s *State) positionedText(L *lua.LState, text string, level int) lua.LString {
	for n := 1; n < level; n++ {
		dbg, ok := L.GetStack(n)
		if !ok {
			return lua.LString(text)
		}
		if _, err := L.GetInfo("S", dbg, lua.LNil); err == nil && dbg.What == "tail" {
			level = n
		}
	}
	dbg, ok := L.GetStack(level)
	if !ok {
		return lua.LString(text)
	}
	if _, err := L.GetInfo("Sl", dbg, lua.LNil); err != nil || dbg.Source == "" || dbg.CurrentLine <= 0 {
		return lua.LString(text)
	}
	return lua.LString(fmt.Sprintf("%s:%d: %s", dbg.Source, dbg.CurrentLine, text))
}

func getMetatable(L *lua.LState) int {
	v := L.CheckAny(1)
	if t, ok := v.(*lua.LTable); ok && Of(L).isFrozen(t) {
		v = Contents(t)
	}
	L.Push(L.GetMetatable(v))
	return 1
}

func setMetatable(L *lua.LState) int {
	t := L.CheckTable(1)
	L.CheckTypes(2, lua.LTNil, lua.LTTable)
	if Of(L).isFrozen(t) {
		Raise(L, changesOutside())
	}
	if old, ok := t.Metatable.(*lua.LTable); ok && old.RawGetString("__metatable") != lua.LNil {
		L.RaiseError("cannot change a protected metatable")
	}
	t.Metatable = L.Get(2)
	L.SetTop(1)
	return 1
}

func rawEqual(L *lua.LState) int {
	L.Push(lua.LBool(L.CheckAny(1) == L.CheckAny(2)))
	return 1
}

func rawGet(L *lua.LState) int {
	t, _ := contents(L.CheckTable(1))
	L.Push(t.RawGet(L.CheckAny(2)))
	return 1
}

func rawSet(L *lua.LState) int {
	L.RawSet(writable(L), L.CheckAny(2), L.CheckAny(3))
	L.SetTop(1)
	return 1
}

// writable returns the first argument, a table that the script may change.
func writable(L *lua.LState) *lua.LTable {
	t := L.CheckTable(1)
	if Of(L).isFrozen(t) {
		Raise(L, changesOutside())
	}
	if _, readOnly := contents(t); readOnly {
		Raise(L, &problem.Error{Kind: problem.Usage, Message: "this table is read-only"})
	}
	return t
}

func next(L *lua.LState) int {
	t, _ := contents(L.CheckTable(1))
	key, value := t.Next(L.Get(2))
	if key == lua.LNil {
		L.Push(lua.LNil)
		return 1
	}
	L.Push(key)
	L.Push(value)
	return 2
}

func (s *State) pairs() lua.LGFunction {
	iterate := s.L.NewFunction(next)
	return func(L *lua.LState) int {
		t := L.CheckTable(1)
		L.Push(iterate)
		L.Push(t)
		L.Push(lua.LNil)
		return 3
	}
}

func (s *State) ipairs() lua.LGFunction {
	iterate := s.L.NewFunction(func(L *lua.LState) int {
		t, _ := contents(L.CheckTable(1))
		i := L.CheckInt(2) + 1
		value := t.RawGetInt(i)
		if value == lua.LNil {
			return 0
		}
		L.Push(lua.LNumber(i))
		L.Push(value)
		return 2
	})
	return func(L *lua.LState) int {
		t := L.CheckTable(1)
		L.Push(iterate)
		L.Push(t)
		L.Push(lua.LNumber(0))
		return 3
	}
}

func selectArgs(L *lua.LState) int {
	if L.Get(1) == lua.LString("#") {
		L.Push(lua.LNumber(L.GetTop() - 1))
		return 1
	}
	n, count := L.CheckInt(1), L.GetTop()
	switch {
	case n < 0:
		n += count
	case n > count:
		n = count
	}
	if n < 1 {
		L.ArgError(1, "index out of range")
	}
	return count - n
}

func unpack(L *lua.LState) int {
	t, _ := contents(L.CheckTable(1))
	from, to := L.OptInt(2, 1), L.OptInt(3, t.Len())
	if from > to {
		return 0
	}
	if n := to - from + 1; n <= 0 || n > maxResults {
		L.RaiseError("too many results to unpack: %d is the most", maxResults)
	}
	for i := from; i <= to; i++ {
		L.Push(t.RawGet(lua.LNumber(i)))
	}
	return to - from + 1
}

func toNumber(L *lua.LState) int {
	value := L.CheckAny(1)
	base := L.OptInt(2, 10)
	if base < 2 || base > 36 {
		L.ArgError(2, "base out of range")
	}
	switch v := value.(type) {
	case lua.LNumber:
		if base == 10 {
			L.Push(v)
			return 1
		}
		L.Push(inBase(v.String(), base))
	case lua.LString:
		if base == 10 {
			L.Push(numeral(string(v)))
			return 1
		}
		L.Push(inBase(string(v), base))
	default:
		L.Push(lua.LNil)
	}
	return 1
}

const blanks = " \t\n\v\f\r"

// numeral reads a text as Lua 5.1 does: decimal with exponent, or hexadecimal.
// It returns nil for all else, what Go's parser also takes ("inf", "1_0") included.
func numeral(text string) lua.LValue {
	text = strings.Trim(text, blanks)
	digits, negative := strings.CutPrefix(text, "-")
	if !negative {
		digits = strings.TrimPrefix(text, "+")
	}
	if len(digits) > 1 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X') {
		n, err := strconv.ParseUint(digits[2:], 16, 64)
		if err != nil {
			return lua.LNil
		}
		if negative {
			return lua.LNumber(-float64(n))
		}
		return lua.LNumber(n)
	}
	if digits == "" || strings.Trim(digits, "0123456789.eE+-") != "" {
		return lua.LNil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(n, 0) {
		return lua.LNil
	}
	return lua.LNumber(n)
}

func inBase(text string, base int) lua.LValue {
	text = strings.ToLower(strings.Trim(text, blanks))
	if base == 16 {
		text = strings.TrimPrefix(text, "0x")
	}
	if strings.Contains(text, "_") {
		return lua.LNil
	}
	n, err := strconv.ParseInt(text, base, 64)
	if err != nil {
		return lua.LNil
	}
	return lua.LNumber(n)
}

func toString(L *lua.LState) int {
	L.Push(L.ToStringMeta(L.CheckAny(1)))
	return 1
}

func typeOf(L *lua.LState) int {
	L.Push(lua.LString(L.CheckAny(1).Type().String()))
	return 1
}

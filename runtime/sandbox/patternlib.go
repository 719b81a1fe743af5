package sandbox

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

const specials = "^$*+?.([%-"

func (s *State) find(L *lua.LState) int  { return s.search(L, true) }
func (s *State) match(L *lua.LState) int { return s.search(L, false) }

// search is find and match: the first match from an initial position on.
func (s *State) search(L *lua.LState, positions bool) int {
	src, pat := L.CheckString(1), L.CheckString(2)
	from := min(max(index(L.OptInt(3, 1), len(src))-1, 0), len(src))
	if positions && (L.ToBool(4) || !strings.ContainsAny(pat, specials)) {
		i := strings.Index(src[from:], pat)
		if i < 0 {
			L.Push(lua.LNil)
			return 1
		}
		L.Push(lua.LNumber(from + i + 1))
		L.Push(lua.LNumber(from + i + len(pat)))
		return 2
	}
	m := s.matcher(L, src, pat)
	p := 0
	if strings.HasPrefix(pat, "^") {
		p = 1
	}
	for ; from <= len(src); from++ {
		if end := m.at(from, p); end != noMatch {
			if positions {
				L.Push(lua.LNumber(from + 1))
				L.Push(lua.LNumber(end))
				return 2 + m.pushCaptures(-1, -1)
			}
			return m.pushCaptures(from, end)
		}
		if p == 1 {
			break
		}
	}
	L.Push(lua.LNil)
	return 1
}

// gmatch returns an iterator that is a function of its own: it works inside and
// outside of a for loop.
func (s *State) gmatch(L *lua.LState) int {
	src, pat := L.CheckString(1), L.CheckString(2)
	from := 0
	L.Push(L.NewFunction(func(L *lua.LState) int {
		m := s.matcher(L, src, pat)
		for ; from <= len(src); from++ {
			start := from
			if end := m.at(start, 0); end != noMatch {
				if from = end; end == start {
					from++
				}
				return m.pushCaptures(start, end)
			}
		}
		return 0
	}))
	return 1
}

func (s *State) gsub(L *lua.LState) int {
	src, pat := L.CheckString(1), L.CheckString(2)
	L.CheckTypes(3, lua.LTString, lua.LTNumber, lua.LTTable, lua.LTFunction)
	left := L.OptInt(4, len(src)+1)
	m := s.matcher(L, src, pat)
	p := 0
	if strings.HasPrefix(pat, "^") {
		p = 1
	}
	var out strings.Builder
	from, done := 0, 0
	for done < left {
		end := m.at(from, p)
		if end != noMatch {
			done++
			s.replacement(m, &out, from, end)
		}
		switch {
		case end != noMatch && end > from:
			from = end
		case from < len(src):
			out.WriteByte(src[from])
			from++
		default:
			left = 0
		}
		s.bound(L, out.Len())
		if p == 1 {
			break
		}
	}
	if from < len(src) {
		out.WriteString(src[from:])
	}
	s.bound(L, out.Len())
	L.Push(lua.LString(out.String()))
	L.Push(lua.LNumber(done))
	return 2
}

// replacement writes what replaces the match from start to end: what
// gsub's third argument makes of its captures.
func (s *State) replacement(m *matcher, out *strings.Builder, start, end int) {
	L := m.L
	var value lua.LValue
	switch by := L.Get(3).(type) {
	case *lua.LTable:
		value = L.GetTable(by, m.capture(0, start, end))
	case *lua.LFunction:
		L.Push(by)
		n := m.pushCaptures(start, end)
		captures := m.captures // the function may match too, but not with m
		L.Call(n, 1)
		m.captures = captures
		value = L.Get(-1)
		L.Pop(1)
	default:
		m.expand(out, lua.LVAsString(by), start, end)
		s.bound(L, out.Len())
		return
	}
	switch {
	case !lua.LVAsBool(value):
		out.WriteString(m.src[start:end])
	case lua.LVCanConvToString(value):
		out.WriteString(lua.LVAsString(value))
	default:
		L.RaiseError("invalid replacement value (a %s)", value.Type().String())
	}
}

// expand writes a replacement text, with %0 to %9 replaced by the captures.
func (m *matcher) expand(out *strings.Builder, by string, start, end int) {
	for i := 0; i < len(by); i++ {
		if by[i] != '%' {
			out.WriteByte(by[i])
			continue
		}
		i++
		switch {
		case i >= len(by):
			m.fail("invalid replacement text: ends with %")
		case by[i] == '0':
			out.WriteString(m.src[start:end])
		case '1' <= by[i] && by[i] <= '9':
			out.WriteString(lua.LVAsString(m.capture(int(by[i]-'1'), start, end)))
		default:
			out.WriteByte(by[i])
		}
	}
}

// capture returns capture i; if there are none, the first is the whole match.
func (m *matcher) capture(i, start, end int) lua.LValue {
	if i >= len(m.captures) {
		if i != 0 {
			m.L.RaiseError("invalid capture index %%%d", i+1)
		}
		return lua.LString(m.src[start:end])
	}
	switch c := m.captures[i]; c.length {
	case captureOpen:
		m.fail("invalid pattern: ( without )")
		return lua.LNil
	case capturePosition:
		return lua.LNumber(c.start + 1)
	default:
		return lua.LString(m.src[c.start : c.start+c.length])
	}
}

// pushCaptures pushes all captures; if there are none, the whole match,
// unless start is negative.
func (m *matcher) pushCaptures(start, end int) int {
	n := len(m.captures)
	if n == 0 && start >= 0 {
		n = 1
	}
	for i := range n {
		m.L.Push(m.capture(i, start, end))
	}
	return n
}

package sandbox

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// stringFunctions are those of the string library that gopher-lua's are replaced
// by: they are bounded, and work on bytes.
func (s *State) stringFunctions() map[string]lua.LGFunction {
	return map[string]lua.LGFunction{
		"byte": stringByte, "char": stringChar, "lower": stringLower, "upper": stringUpper,
		"rep": s.stringRep, "format": s.format,
		"find": s.find, "match": s.match, "gmatch": s.gmatch, "gsub": s.gsub,
	}
}

// bound raises when a function is about to build a string of more than the
// state's limit.
func (s *State) bound(L *lua.LState, n int) {
	if n > s.opts.MaxString || n < 0 {
		L.RaiseError("resulting string too large: %d bytes are the most", s.opts.MaxString)
	}
}

func (s *State) stringRep(L *lua.LState) int {
	text, times := L.CheckString(1), float64(L.CheckNumber(2))
	if times < 1 || text == "" {
		L.Push(lua.LString(""))
		return 1
	}
	if float64(len(text))*times > float64(s.opts.MaxString) {
		s.bound(L, -1)
	}
	L.Push(lua.LString(strings.Repeat(text, int(times))))
	return 1
}

func stringByte(L *lua.LState) int {
	text := L.CheckString(1)
	from := index(L.OptInt(2, 1), len(text))
	to := index(L.OptInt(3, from), len(text))
	from, to = max(from, 1), min(to, len(text))
	if to-from+1 > maxResults {
		L.RaiseError("too many results: %d are the most", maxResults)
	}
	for i := from; i <= to; i++ {
		L.Push(lua.LNumber(text[i-1]))
	}
	return max(0, to-from+1)
}

// index turns a position that may count from the end into one from the start.
func index(i, length int) int {
	if i < 0 {
		return max(0, length+i+1)
	}
	return i
}

func stringChar(L *lua.LState) int {
	out := make([]byte, L.GetTop())
	for i := range out {
		n := float64(L.CheckNumber(i + 1))
		if n < 0 || n > 255 || n != float64(int(n)) {
			L.ArgError(i+1, "a whole number from 0 to 255 expected")
		}
		out[i] = byte(n)
	}
	L.Push(lua.LString(out))
	return 1
}

func stringLower(L *lua.LState) int { return mapASCII(L, 'A', 'Z', 'a'-'A') }
func stringUpper(L *lua.LState) int { return mapASCII(L, 'a', 'z', 'A'-'a') }

// mapASCII shifts the letters of a range and leaves all other bytes alone: Go's
// ToLower would replace those that are not UTF-8.
func mapASCII(L *lua.LState, first, last byte, shift int) int {
	out := []byte(L.CheckString(1))
	for i, c := range out {
		if first <= c && c <= last {
			out[i] = byte(int(c) + shift) //nolint:gosec // a letter becomes a letter
		}
	}
	L.Push(lua.LString(out))
	return 1
}

package sandbox_test

import (
	"context"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

// show joins values as Lua's reference implementation prints them.
func show(values []lua.LValue) string {
	var out []string
	for _, v := range values {
		out = append(out, v.String())
	}
	return strings.Join(out, "|")
}

// The expected values are those of the reference implementation of Lua 5.1.
func TestLibrary(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{`tonumber("1e3"), tonumber(" 12 "), tonumber("0x10"), tonumber("010"), tonumber(".5"), tonumber("-0x10")`, "1000|12|16|10|0.5|-16"},
		{`tonumber("1_0"), tonumber("inf"), tonumber("nan"), tonumber(""), tonumber("0b1"), tonumber("1e"), tonumber({})`, "nil|nil|nil|nil|nil|nil|nil"},
		{`tonumber("ff", 16), tonumber("z", 36), tonumber("8", 8)`, "255|35|nil"},
		{`string.format("%5.1f|%-5s|%05d|%x|%%|%q|%g", 1.25, "ab", 42, 255, 'a"b', 0.1)`, `  1.2|ab   |00042|ff|%|"a\"b"|0.1`},
		{`(function() local all, out = {}, "" for i = 0, 255 do all[i + 1] = string.char(i) end all = table.concat(all)
			for c in ("acdlpsuwxzACDLPSUWXZ"):gmatch "." do out = out .. c .. select(2, all:gsub("%" .. c, "")) .. " " end return out end)()`, "a52 c33 d10 l26 p32 s6 u26 w62 x22 z1 A204 C223 D246 L230 P224 S250 U230 W194 X234 Z255 "},
		{
			`("aBc1\255"):upper() == "ABC1\255", string.format("%f %5.1f %g %e|%-6g|%06.2f|%G", 1 / 0, -1 / 0, 1e20, 12345.678, 0.5, 3.14159, 1e-10)`,
			"true|inf  -inf 1e+20 1.234568e+04|0.5   |003.14|1E-10",
		},
		{`string.format("%d", "10"), string.format("%s %s", nil, true), string.format("%#x", 0), string.format("%.2s", "abc")`, "10|nil true|0|ab"},
		{`("THE (quick) fox"):find("%((%a+)%)")`, "5|11|quick"},
		{`("THE (quick) fox"):gsub("%f[%a]%a+", string.lower)`, "the (quick) fox|3"},
		{`("hello world"):match("^(%w+)%s+(%w+)$")`, "hello|world"},
		{`("a(b(c)d)e"):match("%b()"), ("abab"):match("^(ab)%1$"), ("abc"):match("()b()")`, "(b(c)d)|ab|2|3"},
		{`("abc"):gsub("", "-")`, "-a-b-c-|4"},
		{`("hello"):gsub("l", { l = "L" }, 1)`, "heLlo|1"},
		{`("abc"):gsub("%w", "%0%0"), ("x=1"):gsub("(%w)=(%w)", "%2=%1")`, "aabbcc|1=x|1"},
		{`("abc"):gsub("b", function() return nil end)`, "abc|1"},
		{`("abc"):find("", 10), ("abc"):find("b", 1, true), ("a.c"):find(".", 2, true)`, "4|2|2|2"},
		{`("hello"):byte(1, -1)`, "104|101|108|108|111"},
		{`("hello"):byte(-1), ("hello"):byte(10)`, "111"},
		{`("ÄB\255"):lower() == "Äb\255", ("x"):rep(3), ("x"):rep(-1), ("x"):rep(0.5)`, "true|xxx||"},
		{`select("#", nil, nil), select(-1, 1, 2)`, "2|2"},
		{`unpack({ 1, 2, 3 }, 2)`, "2|3"},
		{`table.concat({ 1, 2, 3 }, ",", 2), table.concat({}, "x")`, "2,3|"},
		{`(function() local t = { 3, 1, 2 } table.sort(t, function(a, b) return a > b end) return unpack(t) end)()`, "3|2|1"},
		{`(function() local t = { 1, 2 } table.insert(t, 1, 0) table.insert(t, 3) return table.remove(t, 1), #t, table.remove(t), table.remove({}) end)()`, "0|3|3|nil"},
		{`math.huge == 1 / 0, math.floor(-1.5), math.max(1, 3, 2)`, "true|-2|3"},
		{`rawequal("a", "a"), rawget({ 5 }, 1), rawget(_G, "nothing"), next({}), type(nil)`, "true|5|nil|nil|nil"},
		{`pcall(error, "x", 0)`, "false|x"},
		{`pcall(error)`, "false|nil"},
		{`xpcall(function() error("x", 0) end, function(m) return m .. "!" end)`, "false|x!"},
		{`xpcall(function(...) return select("#", ...), ... end, type, 1, 2)`, "true|2|1|2"},
		{`select("#", pcall(function() return nil, nil end))`, "3"},
		{`(function() local ok, e = pcall(error, { code = 7 }) return e.code end)()`, "7"},
		{`("x").kind, #"abc", "10" + 5`, "nil|3|15"},
		{`(function() local n = 0 for k, v in ("a=1,b=2"):gmatch "(%w)=(%w)" do n = n + v end return n end)()`, "3"},
		{`(function() local next = ("ab"):gmatch "." return next(), next(), next() end)()`, "a|b"},
	} {
		values, err := eval(t, "return "+c.source)
		if got := show(values); err != nil || got != c.want {
			t.Errorf("%s\n got %s, %v\nwant %s", c.source, got, err, c.want)
		}
	}
}

func TestLibraryIsStrict(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{`string.format("%d", "abc")`, "number expected"},
		{`string.format("%d", 1.5)`, "a whole number expected, got 1.5"},
		{`string.format("%d")`, "no value"},
		{`string.format("%y", 1)`, "unknown directive"},
		{`string.format("%123d", 1)`, "width or precision"},
		{`string.format("5%")`, "ends inside a directive"},
		{`string.char(256)`, "whole number from 0 to 255"},
		{`table.concat({ 1, {} })`, "invalid value (table) at index 2"},
		{`table.sort({ 1, "x" })`, "compare"},
		{`("x"):find("[a")`, "] missing"},
		{`("x"):find("%")`, "ends with %"},
		{`("x"):find("(x")`, "( without )"},
		{`("x"):match("x)")`, ") without ("},
		{`("x"):find("%1")`, "no capture %1"},
		{`("x"):gsub("x", "%2")`, "invalid capture index %2"},
		{`("x"):gsub("x", function() return {} end)`, "invalid replacement value (a table)"},
		{`("x"):nope()`, "non-function"},
		{`strng.rep("x", 2)`, `undefined variable "strng", did you mean "string"?`},
		{`string.formta("x")`, `string has no "formta", did you mean "format"?`},
	} {
		_, err := eval(t, "return "+c.source)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.source, err, c.want)
		} else if place := problem.From(err).Place; place == nil || place.Line != 1 || place.Source == "" {
			t.Errorf("%s: place %+v", c.source, place)
		}
	}
}

func TestPrint(t *testing.T) {
	var lines []string
	s := sandbox.New(context.Background(), sandbox.Options{Print: func(line string) { lines = append(lines, line) }})
	defer s.Close()
	if _, err := run(context.Background(), t, s, `print("a", 1, nil)`); err != nil || len(lines) != 1 || lines[0] != "a\t1\tnil" {
		t.Errorf("%q, %v", lines, err)
	}
}

// Whatever pattern: it ends, within its budget, with a result or with an error.
func FuzzPattern(f *testing.F) {
	for _, seed := range [][2]string{{"hello world", "(%w+) ?%1"}, {"((a)b)", "%b()%f[%a]"}, {"aaaa", "a-a*a?[^b-c%]]+$"}, {"", "()"}} {
		f.Add(seed[0], seed[1])
	}
	s := sandbox.New(context.Background(), sandbox.Options{PatternSteps: 100_000, MaxString: 1 << 20})
	f.Cleanup(s.Close)
	proto, err := sandbox.Compile("f.lua", `
		local s, p = ...
		local a, b = pcall(string.find, s, p)
		local n = 0
		pcall(function() for _ in s:gmatch(p) do n = n + 1 if n > 1000 then break end end end)
		local ok, text = pcall(string.gsub, s, p, "%0")
		if ok and p:sub(1, 1) ~= "^" then assert(text == s) end`)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text, pattern string) {
		fn := s.L.NewFunctionFromProto(proto)
		if _, err := s.Call(context.Background(), s.L, fn, lua.LString(text), lua.LString(pattern)); err != nil {
			t.Error(err)
		}
	})
}

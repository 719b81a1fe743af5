package sandbox_test

import (
	"context"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

func TestCheckStep(t *testing.T) {
	for _, c := range []struct {
		source string
		name   string // the variable that is assigned, "" if the function is fine
		line   int
	}{
		{"local n = 0\nreturn function() return n + 1 end", "", 0},
		{"local n = 0\nreturn function()\n n = n + 1\nend", "n", 3},
		{"local a, b = 0, 0\nreturn function() local x = a\n b = x end", "b", 3},
		{"return function() local n = 0 n = n + 1 return n end", "", 0},
		{"return function() local n = 0 local function inc() n = n + 1 end inc() return n end", "", 0},
		{"return function(n) return (function() return (function() n = 2 return n end)() end)() end", "", 0},
		{"local n = 0\nreturn function()\n local function inc()\n  n = n + 1 end\n inc() end", "n", 4},
		{"local n\nreturn function()\n return (function() return (function()\n n = 2 end)() end)() end", "n", 4},
		{"local x, n = 1, 2\nreturn function() local x = 5 return function() x = 6 return function() x = n end end end", "", 0},
		{"local x, n = 1, 2\nreturn function() local y = 5 return function() y = x return function()\n y = 1 n = y end end end", "n", 3},
		{"local function f() end\nreturn function()\n function f() end end", "f", 3},
		{"return function()\n counter = 1 end", "counter", 2},
		{"local t = {}\nreturn function() t.x = 1 t[1] = 2 end", "", 0}, // a table's contents are not looked at
		{"local a = 1\nreturn function() for i = 1, 3 do local j = i j = j + a end for k, v in pairs({}) do v = k end end", "", 0},
		{"local a = 1\nreturn function(...) local x, y = ..., a x, y = y, x\n if x then x, a = 1, 2 end end", "a", 3},
	} {
		values, err := eval(t, c.source)
		if err != nil {
			t.Fatal(err)
		}
		fn, _ := values[0].(*lua.LFunction)
		err = sandbox.CheckStep(fn)
		if c.name == "" {
			if err != nil {
				t.Errorf("%s\ngot %v", c.source, err)
			}
			continue
		}
		e := problem.From(err)
		if err == nil || !strings.Contains(e.Message, `"`+c.name+`"`) || e.Kind != problem.Usage || e.Place.Line != c.line || e.Place.File != "t.lua" {
			t.Errorf("%s\ngot %v at %+v", c.source, err, e)
		}
	}
	if err := sandbox.CheckStep(nil); err != nil {
		t.Error(err)
	}
}

func TestRequires(t *testing.T) {
	proto, err := sandbox.Compile("t.lua", `
		local a, b = require "a", require("b")
		local function f(x) local require = f return require "local" end
		local g = function() return require "c".x, require("d", 1), require("e" .. "f"), x.require "g" end
		return require 'h'`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range sandbox.Requires(proto) {
		got = append(got, r.Name)
		if r.Name == "c" && r.Line != 4 {
			t.Errorf("c stands in line %d", r.Line)
		}
	}
	if s := strings.Join(got, " "); s != "a b h c" && s != "a b h c d" {
		t.Errorf("got %s", s)
	}
}

func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		sandbox.New(context.Background(), sandbox.Options{}).Close()
	}
}

func BenchmarkPcall(b *testing.B) {
	s := newState(b, "")
	proto, err := sandbox.Compile("t.lua", `local f = function() error("x", 0) end for i = 1, 1000 do pcall(f) end`)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Call(context.Background(), s.L, s.L.NewFunctionFromProto(proto)); err != nil {
			b.Fatal(err)
		}
	}
}

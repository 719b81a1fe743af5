package sandbox_test

import (
	"context"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

func TestKeyPlace(t *testing.T) {
	const source = `local base = { host = "a", port = 1 }
local list = {
  "x", { n = function(a, b) if a then return 1, 2 elseif b then local c, d = 3, 4 end end, m = 1 };
  ["quoted"] = 2, -- host = 9
}
return f "text" { node = base, list = list, csr = {
  names = { "a",
    "b" }, eq = 1 == 2, after = 3 },
  last = [[ csr = ]],
}
g(
  { host = 1 })
node:restart("tomcat", { services = { "a" } })
`
	for _, c := range []struct {
		line          int
		key           string
		atLine, atCol int
	}{
		{6, "node", 6, 19},
		{6, "node.port", 1, 28},
		{6, "node.none", 6, 19},
		{6, "csr.names[2]", 8, 5},
		{6, "csr.names[3]", 7, 3},
		{6, "csr.after", 8, 25},
		{6, "last", 9, 3},
		{6, "list[2].m", 3, 92},
		{6, "list.quoted", 4, 3},
		{6, "none", 6, 0},
		{6, "", 6, 0},
		{11, "host", 12, 5},
		{13, "options.services[1]", 13, 39},
		{99, "host", 99, 0},
	} {
		got := sandbox.KeyPlace(source, &problem.Place{File: "a.lua", Line: c.line}, c.key)
		if got.File != "a.lua" || got.Line != c.atLine || got.Column != c.atCol {
			t.Errorf("%q of line %d: %d:%d, want %d:%d", c.key, c.line, got.Line, got.Column, c.atLine, c.atCol)
		}
	}
}

// What goes wrong in a library is reported at the line that called it.
func TestErrorsOfALibraryAreItsCallers(t *testing.T) {
	const library = "return {\n  index = function(t) return t.x.y end,\n" +
		"  refuse = function(t) error { kind = \"usage\", key = \"nod\", message = \"no key nod\", known = { \"node\" } } end }"
	sources := map[string]string{"moonseal.lib": library}
	for _, c := range []struct {
		script string
		line   int
		want   string
	}{
		{"\nlib.index {}", 2, "(in moonseal.lib:2)"},
		{"lib.refuse {\n  nod = 1,\n}", 2, `no key nod, did you mean "node"?`},
	} {
		sources["a.lua"] = c.script
		s := sandbox.New(context.Background(), sandbox.Options{
			Source:  func(file string) (string, bool) { text, ok := sources[file]; return text, ok },
			Library: func(file string) bool { return strings.HasPrefix(file, "moonseal.") },
		})
		t.Cleanup(s.Close)
		values, err := call(t, s, "moonseal.lib", library)
		if err != nil {
			t.Fatal(err)
		}
		s.SetGlobal("lib", values[0])
		_, err = call(t, s, "a.lua", c.script)
		e := problem.From(err)
		if err == nil || e.Place == nil || e.Place.File != "a.lua" || e.Place.Line != c.line || !strings.Contains(e.Message, c.want) {
			t.Errorf("%q: %v at %+v, want %q at line %d", c.script, err, e.Place, c.want, c.line)
		}
	}
}

func call(t *testing.T, s *sandbox.State, file, source string) ([]lua.LValue, error) {
	t.Helper()
	proto, err := sandbox.Compile(file, source)
	if err != nil {
		t.Fatal(err)
	}
	return s.Call(t.Context(), s.L, s.L.NewFunctionFromProto(proto))
}

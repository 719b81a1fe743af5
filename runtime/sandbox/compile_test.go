package sandbox_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

func TestSyntaxErrorsPointAtTheToken(t *testing.T) {
	for _, c := range []struct {
		source       string
		line, column int
		want         string
	}{
		{"local x = 1\nif x = 1 then end", 2, 6, `near "="`},
		{"local x = = 1", 1, 11, `near "="`},
		{"local function = 1", 1, 16, `near "="`},
		{"return playbook { name = 'a' schedule = 'b' }", 1, 30, `near "schedule"`},
		{"if x then", 1, 10, "unexpected end"},
		{"local t = {\n  1,\n\n\n", 2, 5, "unexpected end"},
		{"x = 'open\n", 1, 0, "unterminated string"},
		{"x = [[open", 1, 0, "unterminated multiline string"},
		{"break", 1, 0, "no loop to break"},
		{"goto nowhere", 0, 0, "no visible label 'nowhere'"},
		{"x = 1 ! 2", 1, 7, "invalid token"},
		{"local a = 5 // 2", 1, 14, `near "/"`},
	} {
		_, err := sandbox.Compile("t.lua", c.source)
		e := problem.From(err)
		if err == nil || e.Kind != problem.Script || !strings.Contains(e.Message, c.want) || e.Place == nil || e.Place.File != "t.lua" {
			t.Errorf("%q: got %v", c.source, err)
			continue
		}
		if p := e.Place; c.line > 0 && p.Line != c.line || c.column > 0 && p.Column != c.column {
			t.Errorf("%q: at %d:%d, want %d:%d\n%s", c.source, p.Line, p.Column, c.line, c.column, render(err))
		}
	}
}

// What is long or deep without being an attack compiles.
func TestOrdinarySourcesCompile(t *testing.T) {
	for name, source := range map[string]string{
		"many statements":    strings.Repeat("f.g(1)\n", 20_000),
		"many calls":         strings.Repeat("local x = a.b.c(d)(e):f { g = h[1] }\n", 100),
		"long elseif":        "local x\nif x == 0 then" + strings.Repeat(" elseif x == 1 then x = 2", 1000) + " end",
		"deep but fine":      strings.Repeat("do ", 60) + strings.Repeat("end ", 60),
		"brackets in texts":  "return '((((' .. \"{{{{\" .. [==[ [[ ]] ]=] ]==] --[[ ((( ]]\n-- (((((",
		"escaped quotes":     `return "\"((((\"" .. '\'((((' .. "\\"`,
		"unbalanced comment": "--[==[ " + strings.Repeat("((((", 300) + " ]==] return 1",
		"long text":          "return [[" + strings.Repeat("(", 200_000) + "]]",
		"loops":              strings.Repeat("for i = 1, 2 do while true do repeat local x = function() return 1 end until true break end end\n", 500),
	} {
		if _, err := sandbox.Compile("t.lua", source); err != nil {
			t.Errorf("%s: %s", name, render(err))
		}
	}
}

func TestWhatTheCompilerCannotEncodeIsRefused(t *testing.T) {
	var locals, uses strings.Builder
	for f := range 3 { // 300 variables of functions around; one function may have 200
		for v := range 100 {
			name := string(rune('a'+f)) + strings.Repeat("x", v)
			locals.WriteString("local " + name + " = 1\n")
			uses.WriteString("f(" + name + ")\n")
		}
		locals.WriteString("local function g()\n")
	}
	source := locals.String() + "local function h()\n" + uses.String() + "end\n" + strings.Repeat("end\n", 3)
	if _, err := sandbox.Compile("t.lua", source); err == nil || !strings.Contains(err.Error(), "variables of the functions around it") {
		t.Errorf("got %v", err)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("return { a = 1, [2] = 'x' .. [[y]] } -- end")
	f.Add("local function f(...) return select('#', ...) end")
	f.Add("--[==[ ]] [[")
	f.Add("'\\")
	f.Add("ctx:poll('a', function() repeat local t = {} until t function t.a.b:c() end return cucm.node{}:upload() end)")
	if scripts, err := filepath.Glob("../../scripts/*.lua"); err == nil {
		for _, file := range scripts {
			if text, err := os.ReadFile(file); err == nil {
				f.Add(string(text))
			}
		}
	}
	f.Fuzz(func(t *testing.T, source string) {
		proto, err := sandbox.Compile("f.lua", source)
		if err == nil {
			sandbox.Requires(proto)
			_ = sandbox.CheckVisible("f.lua", source, someKnown{})
			return
		}
		if p := problem.From(err).Place; p == nil || p.Line < 0 || p.Column < 0 || p.Column > len(p.Source)+1 && p.Source != "" {
			t.Errorf("place %+v of %v", p, err)
		}
		_ = render(err)
	})
}

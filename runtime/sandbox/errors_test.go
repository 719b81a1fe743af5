package sandbox_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

type suspend struct{}

func (suspend) Error() string { return "suspended" }
func (suspend) Control()      {}

// raising returns a state with a global fail() that raises err.
func raising(t *testing.T, source string, err error) *sandbox.State {
	s := newState(t, source)
	s.SetGlobal("fail", s.L.NewFunction(func(L *lua.LState) int {
		sandbox.Raise(L, err)
		return 0
	}))
	return s
}

func TestControlCannotBeCaught(t *testing.T) {
	for _, source := range []string{
		`return pcall(fail)`,
		`pcall(function() pcall(function() fail() end) end) return "went on"`,
		`xpcall(fail, function() return "caught" end) return "went on"`,
		`xpcall(function() error "x" end, fail) return "went on"`,
		`return pcall(pcall, pcall, fail)`,
		`return pcall(function() return ("x"):gsub("x", fail) end)`,
		`return pcall(table.sort, { 1, 2, 3 }, fail)`,
		`return pcall(function() return setmetatable({}, { __index = fail }).x end)`,
		`return pcall(tostring, setmetatable({}, { __tostring = fail }))`,
	} {
		values, err := run(context.Background(), t, raising(t, source, suspend{}), source)
		if !errors.Is(err, suspend{}) {
			t.Errorf("%s: got %v, %v", source, values, err)
		}
	}
}

func TestProblemsAreReadByScripts(t *testing.T) {
	failure := &problem.Error{
		Kind: problem.Unavailable, Call: "cucm.upload", Target: "cucm01", Message: "answered 503", Status: 503,
		Server: "try later", Tracking: "T1", Hint: "wait", Step: "uploading",
	}
	source := `
		local ok, err = pcall(fail)
		local again, same = pcall(error, err)
		return ok, err.kind, err.message, err.server, err.hint, err.step, err.call, err.target, err.tracking, err.status, err.work,
			err.retryable, err.line, err.nothing, "so: " .. err, tostring(err) == err .. "", same == err, type(err)`
	values, err := run(context.Background(), t, raising(t, source, failure), source)
	want := `false|unavailable|answered 503|try later|wait|uploading|cucm.upload|cucm01|T1|503|unknown|true|2|nil|` +
		`so: cucm.upload: cucm01: answered 503: "try later" (tracking id T1)|true|true|userdata`
	if got := show(values); err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestErrorsHaveTheirPlace(t *testing.T) {
	refused := &problem.Error{Kind: problem.Refused, Message: "no"}
	for _, c := range []struct {
		source  string
		line    int
		message string
		kind    problem.Kind
	}{
		{"local x\nreturn x.y", 2, "attempt to index a non-table object(nil) with key 'y'", problem.Script},
		{"\nfail()", 2, "no", problem.Refused},
		{"local ok, e = pcall(fail)\nerror(e)", 1, "no", problem.Refused},
		{"\n\nerror 'mine'", 3, "mine", problem.Script},
		{"local function check()\n error('mine', 2)\nend\ncheck()", 4, "mine", problem.Script},
		{"local function check()\n error('mine', 3)\nend\nlocal function outer()\n  check()\nend\n\nouter()", 8, "mine", problem.Script},
		{"local function check()\n error('mine', 2)\nend\nlocal function outer()\n  return check()\nend\nouter()", 2, "mine", problem.Script},
		{"error('https://host:80: mine', 0)", 0, "https://host:80: mine", problem.Script},
		{"\nerror { kind = 'refused', message = 'table' }", 2, "table", problem.Refused},
		{"local t = { kind = 'whatever', message = 'table' }\nlocal ok, e = pcall(error, t)\nerror(e)", 3, "table", problem.Script},
		{"error()", 0, "nil", problem.Script},
		{"assert(false, 'claim')", 1, "claim", problem.Script},
		{"assert(nil)", 1, "assertion failed!", problem.Script},
		{"\nassert(pcall(fail))", 2, "no", problem.Refused},
	} {
		_, err := run(context.Background(), t, raising(t, c.source, refused), c.source)
		var e *problem.Error
		if !errors.As(err, &e) || e.Message != c.message || e.Kind != c.kind {
			t.Errorf("%s: got %v", c.source, err)
			continue
		}
		switch {
		case c.line == 0 && e.Place == nil:
		case e.Place == nil || e.Place.Line != c.line || e.Place.File != "t.lua" || e.Place.Source != sandbox.Line(c.source, c.line):
			t.Errorf("%s: place %+v", c.source, e.Place)
		}
	}
	if refused.Place != nil {
		t.Error("Raise changed the error that it was given")
	}
}

func TestPanicsInGoCannotBeCaught(t *testing.T) {
	source := `local ok = pcall(boom) return "went on"`
	s := newState(t, source)
	s.SetGlobal("boom", s.L.NewFunction(func(*lua.LState) int {
		var p *problem.Error
		return len(p.Message)
	}))
	_, err := run(context.Background(), t, s, source)
	if e := problem.From(err); err == nil || e.Kind != problem.Internal || !strings.Contains(e.Message, "nil pointer") {
		t.Errorf("got %v", err)
	}
	if values, err := run(context.Background(), t, s, `return 1`); err != nil || show(values) != "1" {
		t.Errorf("the state is spoilt: %v, %v", values, err)
	}
}

// The pcall of gopher-lua, on an error, cuts the variables that functions share.
func TestPcallLeavesCapturedLocalsAlone(t *testing.T) {
	values, err := eval(t, `
		local n = 1
		local function inc() n = n + 1 end
		pcall(error, "x")
		inc()
		pcall(function() inc() error "x" end)
		xpcall(function() inc() error "x" end, inc)
		local get
		pcall(function() local inner = 40 get = function() inner = inner + 1 return inner end error "x" end)
		local function deep(k) if k == 0 then inc() error "x" end deep(k - 1) end
		pcall(deep, 20)
		return n, get(), get()`)
	if err != nil || show(values) != "6|41|42" {
		t.Errorf("got %s, %v", show(values), err)
	}
}

// A call under a context of its own: its end is an error of that call, and what
// called it continues.
func TestCallInsideOfACall(t *testing.T) {
	source := `
		local ok, err = pcall(step, function() pcall(function() while true do end end) return "went on" end)
		local fine, value = pcall(step, function() return 7 end)
		return ok, err.kind, err.message, fine, value`
	s := newState(t, source)
	s.SetGlobal("step", s.L.NewFunction(func(L *lua.LState) int {
		ctx, cancel := context.WithTimeout(L.Context(), 50*time.Millisecond)
		defer cancel()
		values, err := s.Call(ctx, L, L.Get(1))
		if err != nil {
			sandbox.Raise(L, err)
		}
		L.Push(values[0])
		return 1
	}))
	values, err := run(context.Background(), t, s, source)
	if err != nil || show(values) != "false|timeout|the script ran out of time|true|7" {
		t.Errorf("got %s, %v", show(values), err)
	}
}

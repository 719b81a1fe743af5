package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

// The attacks and accidents that facts about gopher-lua name, each failing.

func TestDeadline(t *testing.T) {
	for name, source := range map[string]string{
		"endless loop":                   `while true do end`,
		"pcall around it":                `while true do pcall(function() while true do end end) end`,
		"return pcall":                   `return pcall(function() while true do end end)`,
		"xpcall":                         `return xpcall(function() while true do end end, function() return "caught" end)`,
		"a handler that never returns":   `xpcall(function() error "x" end, function() while true do end end)`,
		"a table's metamethod":           `local t = setmetatable({}, { __index = function() while true do end end }) return pcall(function() return t.x end)`,
		"a loop of protected calls":      `local function f() while true do pcall(f) end end f()`,
		"sort with a comparison":         `local t = {} for i = 1, 100000 do t[i] = i end while true do pcall(table.sort, t, function(a, b) return a > b end) end`,
		"gsub with a function":           `while true do pcall(string.gsub, string.rep("a", 100000), ".", function(c) return c end) end`,
		"patterns within their budget":   `while true do pcall(string.find, string.rep("a", 400), ".-.-.-.-b") end`,
		"a goto":                         `::again:: goto again`,
		"a comparison inside of a pcall": `local t = setmetatable({}, { __lt = function() while true do end end }) pcall(function() return t < t end)`,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			within(t, 2*time.Second, func() {
				values, err := run(ctx, t, newState(t, source), source)
				if e := problem.From(err); err == nil || e.Kind != problem.Timeout || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, %v", values, err)
				}
			})
		})
	}
}

func TestCancelIsNotSwallowed(t *testing.T) {
	cause := errors.New("the run was cancelled")
	for _, source := range []string{
		`return pcall(stop)`,
		`local ok = pcall(stop) return "went on"`,
		`local ok = pcall(function() stop() while true do end end) return "went on"`,
		`return xpcall(function() stop() local x = nil; x() end, function() return 1 end)`,
		`pcall(pcall, pcall, stop) while true do end`,
		`stop()`,
	} {
		ctx, cancel := context.WithCancelCause(context.Background())
		s := newState(t, source)
		s.SetGlobal("stop", s.L.NewFunction(func(*lua.LState) int { cancel(cause); return 0 }))
		values, err := run(ctx, t, s, source)
		if !errors.Is(err, cause) {
			t.Errorf("%s: got %v, %v", source, values, err)
		}
	}
}

func TestCatastrophicPatterns(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	for _, source := range []string{
		`return string.find(string.rep("a", 28), string.rep("a?", 28) .. string.rep("a", 28) .. "b")`,
		`return string.match(string.rep("a", 400), ".-.-.-.-b")`,
		`return string.gsub(string.rep("a", 400), ".-.-.-.-b", "")`,
		`return string.gmatch(string.rep("a", 400), ".-.-.-.-b")()`,
		`return string.find(string.rep("a", 100000), string.rep("(a*)", 30) .. "b")`,
		`return string.find(string.rep("(", 200000), string.rep("%b()", 2000))`,
		`return string.find(string.rep("a", 100000), "[" .. string.rep("b", 100000) .. "]")`,
		`return string.find("a", string.rep("a?", 100000) .. "b")`,
	} {
		within(t, 3*time.Second*slower(), func() {
			if values, err := eval(t, source); err == nil || !strings.Contains(err.Error(), "pattern") || problem.From(err).Place == nil {
				t.Errorf("%s: got %v, %v", source, values, err)
			}
		})
	}
}

func TestBombs(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	for _, c := range []struct{ source, want string }{
		{`return string.rep("x", 1e11)`, "too large"},
		{`return ("x"):rep(2^53)`, "too large"},
		{`local s = string.rep("x", 2^20) return s:gsub(".", s)`, "too large"},
		{`return string.format("%99d%s%s", 1, string.rep("x", 2^23), string.rep("y", 2^23))`, "too large"},
		{`local t = {} for i = 1, 40 do t[i] = string.rep("x", 2^20) end return table.concat(t)`, "too large"},
		{`return table.concat({ 1 }, string.rep("x", 2^20), 1, 2^30)`, "invalid value (nil)"},
		{`return unpack({}, 1, 1e8)`, "too many results"},
		{`return string.byte(string.rep("x", 2^20), 1, -1)`, "too many results"},
		{`local function f() return 1 + f() end return f()`, "stack overflow"},
		{`local function f() local ok, err = pcall(f) if not ok then error(err, 0) end end f()`, "stack overflow"},
		{`local t = setmetatable({}, {}) getmetatable(t).__index = function(_, k) return t[k + 1] end return t[1]`, "stack overflow"},
		{`local t = {} setmetatable(t, { __index = t }) return t.x`, "too many recursions"},
		{`local function f(...) return f(` + strings.Repeat("1, ", 90) + `...) end return f()`, "registry overflow"},
		{`local t = {} for i = 1, 60000 do t[i] = i end local function f(n, ...) if n == 0 then return ... end return f(n - 1, unpack(t)), f(n - 1, unpack(t)) end
		  local function g(...) return select("#", ...) + g(unpack(t)) end return g()`, "registry overflow"},
		{`return table.insert({}, 2^25, 1)`, "position out of bounds"},
	} {
		within(t, 3*time.Second*slower(), func() {
			values, err := eval(t, c.source)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, %v", c.source, values, err)
			}
			if err != nil && problem.From(err).Kind != problem.Script {
				t.Errorf("%s: %v is of kind %s", c.source, err, problem.From(err).Kind)
			}
		})
	}
}

// What overflowed is a script's error like others, and the state continues.
func TestOverflowCanBeCaught(t *testing.T) {
	values, err := eval(t, `
		local n = 0
		local function f() n = n + 1 return 1 + f() end
		local ok, why = pcall(f)
		local t = {} for i = 1, 100000 do t[i] = "x" end
		return ok, why, n > 900, #table.concat(t, ",")`)
	if err != nil || values[0] != lua.LFalse || !strings.Contains(values[1].String(), "stack overflow") || values[2] != lua.LTrue || values[3].String() != "199999" {
		t.Errorf("got %v, %v", values, err)
	}
}

const bombed = "SANDBOX_TEST_BOMB"

// A table bomb cannot be stopped from inside of the process: the kernel stops it
// in a child, and the parent lives.
func TestMemoryBombDiesInItsChild(t *testing.T) {
	if source := os.Getenv(bombed); source != "" {
		child(t, source)
		return
	}
	if raceEnabled {
		t.Skip("the race detector needs more memory than the limit")
	}
	for name, source := range map[string]string{
		"table":         `local t = {} while true do t[#t + 1] = { {}, {} } end`,
		"sparse table":  `local t = {} for i = 1, 100 do t[i] = {} t[i][67108863] = 1 end`,
		"concatenation": `local s = "x" while true do s = s .. s end`,
		"in a pcall":    `while true do pcall(function() local t = {} while true do t[#t + 1] = { t } end end) end`,
		"none":          `local t = {} for i = 1, 1000 do t[i] = {} end`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMemoryBombDiesInItsChild$", "-test.v")
			cmd.Env = append(os.Environ(), bombed+"="+source)
			out, err := cmd.CombinedOutput()
			survived := strings.Contains(string(out), "survived")
			if name == "none" {
				if err != nil || !survived {
					t.Errorf("a harmless script died: %v\n%.500s", err, out)
				}
				return
			}
			// The runtime says "out of memory", or its collector finds no room and faults.
			if err == nil || survived {
				t.Errorf("got %v\n%.500s", err, out)
			}
		})
	}
}

func child(t *testing.T, source string) {
	limit := syscall.Rlimit{Cur: 256 << 20, Max: 256 << 20}
	if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &limit); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := run(ctx, t, newState(t, source), source)
	fmt.Println("survived", err)
}

func TestWhatIsNotThere(t *testing.T) {
	for _, name := range []string{
		"io", "os", "debug", "package", "channel", "coroutine", "load", "loadstring", "loadfile", "dofile", "setfenv", "getfenv",
		"collectgarbage", "newproxy", "_printregs", "module", "require", "print", "_GOPHER_LUA_VERSION",
	} {
		if _, err := eval(t, "return "+name); err == nil || !strings.Contains(err.Error(), "undefined variable") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, name := range []string{"math.random", "math.randomseed", "string.dump", "string.gfind", "table.getn"} {
		if _, err := eval(t, "return "+name); err == nil || !strings.Contains(err.Error(), "has no") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNothingSharedCanBeChanged(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{`string.rep = nil`, "read-only"},
		{`string.new = 1`, "read-only"},
		{`rawset(string, "rep", 1)`, "read-only"},
		{`table.insert(string, 1)`, "read-only"},
		{`table.remove(mod.list)`, "read-only"},
		{`table.sort(mod.list)`, "read-only"},
		{`setmetatable(string, {})`, "protected metatable"},
		{`setmetatable(mod, nil)`, "protected metatable"},
		{`setmetatable("", {})`, "table expected"},
		{`setmetatable(1, {})`, "table expected"},
		{`getmetatable("").__index = {}`, "non-table"},
		{`getmetatable(string).__newindex = nil`, "non-table"},
		{`getmetatable(mod).__newindex = nil`, "non-table"},
		{`getmetatable(_G).__newindex = nil`, "non-table"},
		{`mod.f = nil`, `mod is read-only: cannot set "f"`},
		{`mod.g = 1`, "read-only"},
		{`mod.list[1] = 5`, "read-only"},
		{`rawset(mod, "f", nil)`, "read-only"},
		{`for k in pairs(mod) do rawset(mod, k, nil) end`, "read-only"},
		{`x = 1`, `assigns the global variable "x"`},
		{`function f() end`, `assigns the global variable "f"`},
		{`pairs = nil`, `assigns the global variable "pairs"`},
		{`_G.pairs = nil`, "assigns the global variable"},
		{`rawset(_G, "pairs", nil)`, "read-only"},
		{`setmetatable(_G, {})`, "protected metatable"},
		{`local _, e = pcall(raise) e.kind = 1`, "cannot be changed"},
		{`local _, e = pcall(raise) getmetatable(e).__index = nil`, "non-table"},
	} {
		s := newState(t, c.source)
		mod := s.L.NewTable()
		mod.RawSetString("f", s.L.NewFunction(func(*lua.LState) int { return 0 }))
		list := s.L.NewTable()
		list.Append(lua.LNumber(3))
		mod.RawSetString("list", list)
		s.Module("mod", mod)
		s.SetGlobal("mod", mod)
		s.SetGlobal("raise", s.L.NewFunction(func(L *lua.LState) int {
			sandbox.Raise(L, &problem.Error{Kind: problem.Refused, Message: "no"})
			return 0
		}))
		if _, err := run(context.Background(), t, s, c.source); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", c.source, err)
			continue
		}
		check := `assert(("ab"):rep(2) == "abab" and string.rep and pairs and mod.f and mod.list[1] == 3 and #mod.list == 1)
			local n = 0 for k, v in pairs(mod) do n = n + 1 end for i, v in ipairs(mod.list) do n = n + v end assert(n == 5) assert(next(mod) and unpack(mod.list) == 3)`
		if _, err := run(context.Background(), t, s, check); err != nil {
			t.Errorf("after %s: %v", c.source, err)
		}
	}
}

func TestSourcesThatTheParserMustNotSee(t *testing.T) {
	var constants, names strings.Builder
	constants.WriteString("return {")
	for i := range 40000 {
		fmt.Fprintf(&constants, "%d,", i)
	}
	constants.WriteString("}")
	for i := range 30000 {
		fmt.Fprintf(&names, "a%d={}", i)
	}
	for _, c := range []struct{ name, source, want string }{
		{"long", strings.Repeat("\n", 256<<10+1), "too long"},
		{"2 million braces", "return " + strings.Repeat("{", 2_000_000), "too long"},
		{"braces", "return " + strings.Repeat("{", 200_000), "nested too deep"},
		{"balanced braces", "return " + strings.Repeat("{", 100_000) + strings.Repeat("}", 100_000), "nested too deep"},
		{"parentheses", "return " + strings.Repeat("(", 200_000), "nested too deep"},
		{"functions", strings.Repeat("local function f() ", 10_000), "nested too deep"},
		{"blocks", strings.Repeat("do ", 80_000), "nested too deep"},
		{"repeat", strings.Repeat("repeat ", 30_000), "nested too deep"},
		{"not", "return " + strings.Repeat("not ", 60_000) + "x", "operators"},
		{"minus", "return " + strings.Repeat("- ", 100_000) + "1", "operators"},
		{"concat", "return x" + strings.Repeat("..x", 80_000), "operators"},
		{"fields", "return x" + strings.Repeat(".a", 100_000), "operators"},
		{"calls", "return x" + strings.Repeat("()", 100_000), "operators"},
		{"text calls", "return x" + strings.Repeat(`""`, 100_000), "operators"},
		{"sums", "return x" + strings.Repeat("+x", 100_000), "operators"},
		{"numbers", constants.String(), "too many different"},
		{"names", names.String(), "too many different"},
	} {
		t.Run(c.name, func(t *testing.T) {
			within(t, time.Second*slower(), func() {
				_, err := sandbox.Compile("t.lua", c.source)
				if err == nil || !strings.Contains(err.Error(), c.want) || problem.From(err).Place == nil {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

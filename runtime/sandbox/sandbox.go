// Package sandbox is a Lua state that a playbook may run in: which libraries it
// has, what it may spend, and what gopher-lua has wrong that scripts would meet.
//
// It has base, string, table and math without all that reaches outside of the
// script, compiles text, or keeps another function's environment. It does not confine
// by itself: memory is capped by the kernel, in the process that holds it.
//
// # Errors
//
// What fails in a script comes out of [State.Call] as a *problem.Error with its
// place. What Go code raises with [Raise] a script can catch with pcall and read
// (err.kind, err.message, err.hint); but an error that is a [Control], the end of
// the context, and a panic in Go code cannot be caught.
//
// # States and threads
//
// pcall and [State.Call] run what they call on a thread of the state's own, since
// an error in gopher-lua 1.1.2 detaches the captured locals of every function on
// the stack that it unwinds. So a Go function must use the *lua.LState that it is
// given. A State belongs to one goroutine at a time.
package sandbox

import (
	"context"
	"math"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
)

// The default budget of a state; see [Options].
const (
	DefaultMaxString    = 16 << 20   // bytes in one string that a library function builds
	DefaultPatternSteps = 10_000_000 // about 0.1 s

	maxDepth   = 100     // pcall inside pcall; each may hold callFrames more calls
	callFrames = 1024    // Lua calls inside one another
	registry   = 1024    // values on the stack at first
	maxStack   = 1 << 18 // values on the stack at most
	growStack  = 8192    // the library's own step of 32 makes deep stacks quadratic
	maxResults = 1 << 16 // values that unpack and byte may return
)

// Options are the settings of a State. The zero value is usable.
type Options struct {
	Source       func(file string) (text string, ok bool) // the scripts' text, for the places of errors
	Library      func(file string) bool                   // scripts whose lines an error names only if no other called them; nil: none
	Print        func(line string)                        // what print does; nil: there is no print
	MaxString    int                                      // in bytes; 0: DefaultMaxString
	PatternSteps int                                      // for one call of find, match, gsub, or one turn of gmatch; 0: DefaultPatternSteps
}

// State is a sandboxed Lua state.
type State struct {
	L *lua.LState

	opts    Options
	globals *lua.LTable // what the read-only globals table shows
	sealed  bool
	errors  *lua.LTable // the metatable of raised problems

	libraries map[*lua.LTable]bool // that no script changes
	frozenNow *frozenTables        // what is frozen now
	reachable *reachable           // of the last step, for the next; nil: none
	frozen    *lua.LTable          // the metatable of frozen tables that have none

	raised   *lua.LTable // the last table that a script raised, and where
	raisedAt *problem.Place

	active []call // threads at work, outermost first
	idle   []*lua.LState
}

const stateKey = "moonseal.state"

// New returns a state whose Lua code stops, uncatchably, when ctx ends.
func New(ctx context.Context, opts Options) *State {
	if opts.MaxString <= 0 {
		opts.MaxString = DefaultMaxString
	}
	if opts.PatternSteps <= 0 {
		opts.PatternSteps = DefaultPatternSteps
	}
	s := &State{opts: opts, L: lua.NewState(lua.Options{
		SkipOpenLibs: true, CallStackSize: callFrames,
		RegistrySize: registry, RegistryMaxSize: maxStack, RegistryGrowStep: growStack,
	})}
	s.L.SetContext(ctx)
	self := s.L.NewUserData()
	self.Value = s
	s.L.G.Registry.RawSetString(stateKey, self)
	s.errors, s.frozenNow, s.libraries = s.errorMeta(), &frozenTables{held: map[*lua.LTable]*lua.LTable{}}, map[*lua.LTable]bool{}
	s.frozen = s.frozenMeta(nil)
	s.openLibraries()
	s.guardGlobals()
	return s
}

// Of returns the State that L belongs to, or nil.
func Of(L *lua.LState) *State {
	if ud, ok := L.G.Registry.RawGetString(stateKey).(*lua.LUserData); ok {
		if s, ok := ud.Value.(*State); ok {
			return s
		}
	}
	return nil
}

// Close frees the state.
func (s *State) Close() {
	for _, th := range s.idle {
		th.Close()
	}
	s.idle = nil
	s.L.Close()
}

// SetGlobal sets a global variable, sealed or not.
func (s *State) SetGlobal(name string, value lua.LValue) { s.globals.RawSetString(name, value) }

// Global returns a global variable, or nil.
func (s *State) Global(name string) lua.LValue { return s.globals.RawGetString(name) }

// Seal refuses, from now on, the assignment of global variables by scripts.
func (s *State) Seal() { s.sealed = true }

// openLibraries fills the globals table from the libraries, function by
// function: what is not named here does not exist.
func (s *State) openLibraries() {
	L := s.L
	theirs := map[string][]string{
		"math": {
			"abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cosh", "deg", "exp", "floor", "fmod", "frexp", "ldexp",
			"log", "log10", "max", "min", "modf", "pi", "pow", "rad", "sin", "sinh", "sqrt", "tan", "tanh",
		},
		"string": {"len", "reverse", "sub"},
		"table":  {},
	}
	lua.OpenString(L)
	lua.OpenTable(L)
	lua.OpenMath(L)
	ours := map[string]map[string]lua.LGFunction{
		"string": s.stringFunctions(), "table": s.tableFunctions(), "math": {},
	}
	libraries := map[string]*lua.LTable{}
	for name, functions := range ours {
		lib, _ := L.G.Global.RawGetString(name).(*lua.LTable)
		mine := L.NewTable()
		for _, key := range theirs[name] {
			mine.RawSetString(key, lib.RawGetString(key))
		}
		libraries[name] = L.SetFuncs(mine, functions)
	}
	L.SetTop(0)
	libraries["math"].RawSetString("huge", lua.LNumber(math.Inf(1)))
	s.guardStrings(libraries["string"])
	*L.G.Global = lua.LTable{Metatable: lua.LNil}
	L.SetFuncs(L.G.Global, s.baseFunctions())
	L.G.Global.RawSetString("_VERSION", lua.LString(lua.LuaVersion))
	for name, lib := range libraries {
		s.Module(name, lib)
		s.libraries[lib] = true
		L.G.Global.RawSetString(name, lib)
	}
}

// guardStrings returns strings their methods through a metatable that no script
// can reach. A method that does not exist is nil, as scripts that look at a
// caught error's fields need: the error may be a string.
func (s *State) guardStrings(lib *lua.LTable) {
	methods, meta := s.L.NewTable(), s.L.NewTable()
	lib.ForEach(func(k, v lua.LValue) { methods.RawSet(k, v) })
	meta.RawSetString("__index", methods)
	meta.RawSetString("__metatable", lua.LFalse)
	s.L.SetMetatable(lua.LString(""), meta)
}

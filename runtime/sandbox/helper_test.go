package sandbox_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

// newState returns a sealed state that knows the script "t.lua".
func newState(t testing.TB, source string) *sandbox.State {
	t.Helper()
	s := sandbox.New(context.Background(), sandbox.Options{Source: func(file string) (string, bool) { return source, file == "t.lua" }})
	t.Cleanup(s.Close)
	return s
}

// run runs source, as t.lua, in s under ctx.
func run(ctx context.Context, t testing.TB, s *sandbox.State, source string) ([]lua.LValue, error) {
	t.Helper()
	s.Seal()
	proto, err := sandbox.Compile("t.lua", source)
	if err != nil {
		t.Fatalf("%s\n%s", render(err), source)
	}
	return s.Call(ctx, s.L, s.L.NewFunctionFromProto(proto))
}

// render gives err with its place, the line of the script, and the hint.
func render(err error) string {
	e := problem.From(err)
	out := e.Error()
	if p := e.Place; p != nil {
		out = fmt.Sprintf("%s:%d: %s\n%s", p.File, p.Line, out, p.Excerpt())
	}
	if e.Hint != "" {
		out += "\nhint: " + e.Hint
	}
	return out
}

// eval runs source in a fresh state.
func eval(t testing.TB, source string) ([]lua.LValue, error) {
	t.Helper()
	return run(context.Background(), t, newState(t, source), source)
}

// within fails the test when f takes longer than d.
func within(t testing.TB, d time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > d {
		t.Errorf("took %v, want at most %v", took, d)
	}
}

// slower is how much more time the race detector is given.
func slower() time.Duration {
	if raceEnabled {
		return 20
	}
	return 1
}

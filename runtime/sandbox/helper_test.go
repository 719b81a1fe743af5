package sandbox_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"
	"golang.org/x/sys/unix"

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

// render returns err with its place, the line of the script, and the hint.
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

// within fails the test when f, which does not wait, takes more than d of a processor's
// time: how busy the machine is does not matter.
func within(t testing.TB, d time.Duration, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := processor(t)
	f()
	if took := processor(t) - start; took > d {
		t.Errorf("took %v, want at most %v", took, d)
	}
}

// processor is the time that a processor has given to this thread.
func processor(t testing.TB) time.Duration {
	t.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// slower is how much more time the race detector is given.
func slower() time.Duration {
	if raceEnabled {
		return 20
	}
	return 1
}

package sandbox

import (
	"context"
	"errors"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
)

// Call calls fn with args under ctx and returns all its results. L is the thread
// that the caller was given, or s.L.
//
// An error is: a [Control], as it was raised; the context's cause if ctx was
// cancelled; else a *problem.Error, of kind Timeout if ctx ran out of time, of kind
// Internal if Go code panicked.
func (s *State) Call(ctx context.Context, L *lua.LState, fn lua.LValue, args ...lua.LValue) ([]lua.LValue, error) {
	results, failure := s.run(ctx, L, fn, args)
	if failure == nil {
		return results, nil
	}
	if ctx.Err() != nil {
		return nil, s.ended(ctx, failure)
	}
	err := s.Problem(failure)
	var p *problem.Error
	if errors.As(err, &p) && p.Place == nil && !isControl(err) {
		p.Place = s.where(L) // of the Lua function that had fn called, if any
	}
	return nil, err
}

// ended returns the error of a call that failed and whose context ended.
func (s *State) ended(ctx context.Context, failure *lua.ApiError) error {
	var i interrupted
	if t, ok := thrownBy(failure); ok && isControl(t.err) && !errors.As(t.err, &i) {
		return t.err
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	e := &problem.Error{Kind: problem.Timeout, Message: "the script ran out of time"}
	var during *problem.Error
	if errors.As(i.during, &during) && during.Kind == problem.Timeout {
		*e = *during // names the call that was under way
	}
	e.Cause, e.Place = context.Cause(ctx), i.place
	if e.Place == nil {
		e.Place = s.placeOf(failure)
	}
	return e
}

// run calls fn on a thread of its own; see the package doc for why.
func (s *State) run(ctx context.Context, caller *lua.LState, fn lua.LValue, args []lua.LValue) ([]lua.LValue, *lua.ApiError) {
	if len(s.active) >= maxDepth {
		return nil, &lua.ApiError{Type: lua.ApiErrorRun, Object: lua.LString("stack overflow: too many protected calls inside one another")}
	}
	th := s.thread()
	s.active = append(s.active, call{th, caller})
	defer func() { s.active = s.active[:len(s.active)-1] }()
	th.SetContext(ctx)
	th.Push(fn)
	for _, arg := range args {
		th.Push(arg)
	}
	err := protected(th, len(args))
	if err == nil {
		results := make([]lua.LValue, th.GetTop())
		for i := range results {
			results[i] = th.Get(i + 1)
		}
		th.SetTop(0)
		s.idle = append(s.idle, th)
		return results, nil
	}
	if errors.Is(err, errOverflow) {
		return nil, &lua.ApiError{Type: lua.ApiErrorRun, Object: lua.LString(err.Error())}
	}
	var failure *lua.ApiError
	if !errors.As(err, &failure) {
		failure = &lua.ApiError{Type: lua.ApiErrorPanic, Object: lua.LString(err.Error())}
	}
	if failure.Type == lua.ApiErrorPanic {
		return nil, failure // th's stack is not to be trusted
	}
	th.SetTop(0)
	s.idle = append(s.idle, th)
	return nil, failure
}

// call is a thread at work, and the one that called it.
type call struct{ thread, caller *lua.LState }

// caller returns the thread that L's was called from, or nil.
func (s *State) caller(L *lua.LState) *lua.LState {
	for _, c := range s.active {
		if c.thread == L && c.caller != L {
			return c.caller
		}
	}
	return nil
}

var errOverflow = errors.New("registry overflow")

// protected is th.PCall without the panic that comes out of it when the stack
// overflows in a tail call: gopher-lua then looks for the line before the first.
// A panic in a Go function does not come this way, PCall returns it.
func protected(th *lua.LState, args int) (err error) {
	defer func() {
		if recover() != nil {
			err = errOverflow
		}
	}()
	return th.PCall(args, lua.MultRet, nil)
}

func (s *State) thread() *lua.LState {
	if n := len(s.idle); n > 0 {
		th := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return th
	}
	th, cancel := s.L.NewThread()
	if cancel != nil {
		cancel() // run sets the context
	}
	return th
}

// pcall is Lua's, but for errors that must not be caught: those it raises again.
func (s *State) pcall(L *lua.LState) int {
	fn := L.CheckAny(1)
	results, failure := s.run(contextOf(L), L, fn, stack(L, 2))
	s.rethrow(L, failure)
	if failure != nil {
		L.Push(lua.LFalse)
		L.Push(failure.Object)
		return 2
	}
	L.Push(lua.LTrue)
	return 1 + push(L, results)
}

// xpcall calls the handler after the stack is unwound: there is no debug library
// that would show the difference.
func (s *State) xpcall(L *lua.LState) int {
	fn, handler := L.CheckAny(1), L.CheckFunction(2)
	results, failure := s.run(contextOf(L), L, fn, stack(L, 3))
	s.rethrow(L, failure)
	if failure == nil {
		L.Push(lua.LTrue)
		return 1 + push(L, results)
	}
	results, failure = s.run(contextOf(L), L, handler, []lua.LValue{failure.Object})
	s.rethrow(L, failure)
	L.Push(lua.LFalse)
	if failure != nil {
		L.Push(failure.Object)
		return 2
	}
	return 1 + push(L, results)
}

// rethrow raises again, in L, what a script must not catch; also when the call
// succeeded, if its context ended meanwhile.
func (s *State) rethrow(L *lua.LState, failure *lua.ApiError) {
	if failure != nil {
		if t, ok := thrownBy(failure); ok && isControl(t.err) {
			L.Error(failure.Object, 0)
		}
	}
	if err := contextOf(L).Err(); err != nil {
		Raise(L, interrupted{cause: context.Cause(contextOf(L)), place: s.placeOf(failure)})
	}
	if failure != nil && failure.Type == lua.ApiErrorPanic {
		Raise(L, fatal{s.panicked(failure)})
	}
}

func contextOf(L *lua.LState) context.Context {
	if ctx := L.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

func stack(L *lua.LState, from int) []lua.LValue {
	var out []lua.LValue
	for i := from; i <= L.GetTop(); i++ {
		out = append(out, L.Get(i))
	}
	return out
}

func push(L *lua.LState, values []lua.LValue) int {
	for _, v := range values {
		L.Push(v)
	}
	return len(values)
}

// panicked returns the error of a panic in Go code.
func (s *State) panicked(failure *lua.ApiError) *problem.Error {
	text := failure.Object.String()
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		text = text[:i]
	}
	return &problem.Error{
		Kind: problem.Internal, Message: "panic: " + text, Hint: "this is a bug in moonseal: please report it",
	}
}

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
// An error is: a [Control], as it was raised; the context's cause where ctx was
// cancelled; else a *problem.Error, of kind Timeout where ctx ran out of time, of
// kind Internal where Go code panicked.
func (s *State) Call(ctx context.Context, L *lua.LState, fn lua.LValue, args ...lua.LValue) ([]lua.LValue, error) {
	results, failure := s.run(ctx, fn, args)
	if ctx.Err() != nil {
		return nil, s.ended(ctx, failure)
	}
	if failure == nil {
		return results, nil
	}
	err := s.Problem(failure)
	var p *problem.Error
	if errors.As(err, &p) && p.Place == nil && !isControl(err) {
		p.Place = s.where(L, 0)
	}
	return nil, err
}

// ended gives the error of a call whose context ended.
func (s *State) ended(ctx context.Context, failure *lua.ApiError) error {
	if failure != nil {
		if t, ok := thrownBy(failure); ok && isControl(t.err) && !errors.As(t.err, new(interrupted)) {
			return t.err
		}
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	e := &problem.Error{Kind: problem.Timeout, Message: "the script ran out of time", Cause: context.Cause(ctx)}
	if failure != nil {
		var p *problem.Error
		if errors.As(s.Problem(failure), &p) {
			e.Place = p.Place
		}
	}
	return e
}

// run calls fn on a thread of its own; see the package doc for why.
func (s *State) run(ctx context.Context, fn lua.LValue, args []lua.LValue) ([]lua.LValue, *lua.ApiError) {
	if s.depth >= maxDepth {
		return nil, &lua.ApiError{Type: lua.ApiErrorRun, Object: lua.LString("stack overflow: too many protected calls inside one another")}
	}
	s.depth++
	defer func() { s.depth-- }()
	th := s.thread()
	th.SetContext(ctx)
	th.Push(fn)
	for _, arg := range args {
		th.Push(arg)
	}
	err := th.PCall(len(args), lua.MultRet, nil)
	if err == nil {
		results := make([]lua.LValue, th.GetTop())
		for i := range results {
			results[i] = th.Get(i + 1)
		}
		th.SetTop(0)
		s.idle = append(s.idle, th)
		return results, nil
	}
	var failure *lua.ApiError
	if !errors.As(err, &failure) {
		failure = &lua.ApiError{Type: lua.ApiErrorPanic, Object: lua.LString(err.Error())}
	}
	if failure.Type == lua.ApiErrorPanic {
		th.Close() // its stack is not to be trusted
		return nil, failure
	}
	th.SetTop(0)
	s.idle = append(s.idle, th)
	return nil, failure
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
	results, failure := s.run(context1(L), fn, stack(L, 2))
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
// that could tell the difference.
func (s *State) xpcall(L *lua.LState) int {
	fn, handler := L.CheckAny(1), L.CheckFunction(2)
	results, failure := s.run(context1(L), fn, stack(L, 3))
	s.rethrow(L, failure)
	if failure == nil {
		L.Push(lua.LTrue)
		return 1 + push(L, results)
	}
	results, failure = s.run(context1(L), handler, []lua.LValue{failure.Object})
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
	if err := context1(L).Err(); err != nil {
		Raise(L, interrupted{context.Cause(context1(L)), s.placeOf(failure)})
	}
	if failure != nil && failure.Type == lua.ApiErrorPanic {
		Raise(L, fatal{s.panicked(failure)})
	}
}

func context1(L *lua.LState) context.Context {
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

// panicked gives the error of a panic in Go code.
func (s *State) panicked(failure *lua.ApiError) *problem.Error {
	text := failure.Object.String()
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		text = text[:i]
	}
	return &problem.Error{Kind: problem.Internal, Message: "panic: " + text, Hint: "this is a bug in moonseal: please report it"}
}

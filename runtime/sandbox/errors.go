package sandbox

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/suggest"
)

// Control is an error that ends a script's body and that no pcall catches:
// suspend, cancel, park, skip.
type Control interface {
	error
	Control()
}

func isControl(err error) bool {
	var c Control
	return errors.As(err, &c)
}

// interrupted is the end of a context on its way out of a script.
type interrupted struct {
	cause  error
	place  *problem.Place
	during error // what Go code raised meanwhile, nil for nothing
}

func (i interrupted) Error() string { return i.cause.Error() }
func (i interrupted) Unwrap() error { return i.cause }
func (interrupted) Control()        {}

// fatal is a panic in Go code on its way out of a script.
type fatal struct{ problem *problem.Error }

func (f fatal) Error() string { return f.problem.Error() }
func (f fatal) Unwrap() error { return f.problem }
func (fatal) Control()        {}

// thrown is the Go value of an error object that Go code raised.
type thrown struct{ err error }

// Raise raises err in L and does not return. A script can catch it, and read its
// kind, message and so on, unless it is a [Control] or L's context has ended.
// The place is where the script is, unless err names one.
func Raise(L *lua.LState, err error) {
	s := Of(L)
	if ctx := contextOf(L); ctx.Err() != nil && !isControl(err) {
		err = interrupted{context.Cause(ctx), s.where(L), err}
	}
	L.Error(s.object(L, err), 0)
}

// Object returns err as the error object that a script sees when it catches it,
// for hooks.
func Object(L *lua.LState, err error) lua.LValue { return Of(L).object(L, err) }

func (s *State) object(L *lua.LState, err error) *lua.LUserData {
	if !isControl(err) {
		p := *problem.From(err)
		if p.Place == nil {
			p.Place = s.atKey(s.whose(L), p.Key)
		} else if p.Place.Source == "" {
			place := *p.Place
			place.Source = s.line(place.File, place.Line)
			p.Place = &place
		}
		err = &p
	}
	return &lua.LUserData{Value: &thrown{err}, Metatable: s.errors}
}

// AsError returns the Go error behind an error object that a script holds.
func AsError(v lua.LValue) (error, bool) {
	if ud, ok := v.(*lua.LUserData); ok {
		if t, ok := ud.Value.(*thrown); ok {
			return t.err, true
		}
	}
	return nil, false
}

func thrownBy(failure *lua.ApiError) (*thrown, bool) {
	if ud, ok := failure.Object.(*lua.LUserData); ok {
		t, ok := ud.Value.(*thrown)
		return t, ok
	}
	return nil, false
}

// Problem returns what a script failed with as an error: a [Control] as it was
// raised, else a *problem.Error of which the caller may fill in fields.
func (s *State) Problem(failure *lua.ApiError) error {
	if failure.Type == lua.ApiErrorPanic {
		return s.panicked(failure)
	}
	if t, ok := thrownBy(failure); ok {
		var f fatal
		var i interrupted
		switch {
		case errors.As(t.err, &f):
			return f.problem
		case errors.As(t.err, &i):
			return &problem.Error{Kind: problem.Timeout, Message: "the script was interrupted", Cause: i.cause, Place: i.place}
		case isControl(t.err):
			return t.err
		}
		p := *problem.From(t.err)
		return &p
	}
	if t, ok := failure.Object.(*lua.LTable); ok {
		return s.fromTable(t)
	}
	place, message := s.position(failure.Object.String())
	if caller := s.callerOf(place, failure); caller != nil {
		message += fmt.Sprintf(" (in %s:%d)", place.File, place.Line)
		place = caller
	}
	return &problem.Error{Kind: problem.Script, Message: message, Place: place}
}

var traced = regexp.MustCompile(`(?m)^\t([\w./@+-]+):(\d+): in `)

// callerOf returns the place of the innermost script that called a library which
// failed at place; nil if it was no library, or nothing else called it.
func (s *State) callerOf(place *problem.Place, failure *lua.ApiError) *problem.Place {
	if place == nil || s.opts.Library == nil || !s.opts.Library(place.File) {
		return nil
	}
	for _, m := range traced.FindAllStringSubmatch(failure.StackTrace, -1) {
		line, err := strconv.Atoi(m[2])
		if err == nil && !s.opts.Library(m[1]) {
			return &problem.Place{File: m[1], Line: line, Source: s.line(m[1], line)}
		}
	}
	return nil
}

// atKey narrows the place of a call to a key of the table that it was given.
func (s *State) atKey(place *problem.Place, key string) *problem.Place {
	if place == nil || key == "" || s.opts.Source == nil {
		return place
	}
	source, _ := s.opts.Source(place.File)
	return KeyPlace(source, place, key)
}

// fromTable reads a table that a script raised: error{ kind = …, message = … }. With
// key it is about a key of the caller's table, with known about a key that is not
// among these.
func (s *State) fromTable(t *lua.LTable) *problem.Error {
	held, _ := contents(t)
	field := func(key string) string {
		if v, ok := held.RawGetString(key).(lua.LString); ok {
			return string(v)
		}
		return ""
	}
	e := &problem.Error{
		Kind: problem.Script, Message: field("message"), Server: field("server"), Hint: field("hint"),
		Target: field("target"), Key: field("key"),
	}
	if t == s.raised {
		e.Place = s.atKey(s.raisedAt, e.Key)
	}
	if known, ok := held.RawGetString("known").(*lua.LTable); ok {
		e.Message += suggest.Among(e.Key[strings.LastIndexByte(e.Key, '.')+1:], texts(known))
	}
	if e.Message == "" {
		e.Message = "raised a table without a message"
	}
	switch k := problem.Kind(field("kind")); k {
	case problem.Auth, problem.Refused, problem.Mismatch, problem.NotFound, problem.Conflict, problem.OrderGone,
		problem.Untrusted, problem.Usage, problem.Unavailable, problem.Timeout, problem.RateLimited:
		e.Kind = k
	default: // stays an error of the script
	}
	return e
}

func texts(list *lua.LTable) []string {
	var out []string
	for i := 1; i <= list.Len(); i++ {
		if text, ok := list.RawGetInt(i).(lua.LString); ok {
			out = append(out, string(text))
		}
	}
	return out
}

var positioned = regexp.MustCompile(`(?s)^([\w./@+-]+):(\d+): ?(.*)$`)

// position splits gopher-lua's "file:line: message".
func (s *State) position(text string) (*problem.Place, string) {
	text = strings.TrimPrefix(text, " ") // gopher-lua's, if there is no place
	m := positioned.FindStringSubmatch(text)
	if m == nil {
		return nil, text
	}
	if s.opts.Source != nil {
		if _, known := s.opts.Source(m[1]); !known {
			return nil, text
		}
	}
	line, err := strconv.Atoi(m[2])
	if err != nil {
		return nil, text
	}
	return &problem.Place{File: m[1], Line: line, Source: s.line(m[1], line)}, m[3]
}

func (s *State) placeOf(failure *lua.ApiError) *problem.Place {
	if failure == nil {
		return nil
	}
	if t, ok := thrownBy(failure); ok {
		if p, ok := errors.AsType[*problem.Error](t.err); ok {
			return p.Place
		}
		return nil
	}
	place, _ := s.position(failure.Object.String())
	return place
}

// line returns the text of a line of a script.
func (s *State) line(file string, line int) string {
	if s.opts.Source == nil {
		return ""
	}
	text, _ := s.opts.Source(file)
	return Line(text, line)
}

// Line returns line n, 1-based, of a source text, without surrounding blanks on
// the right; "" if there is none.
func Line(source string, n int) string {
	for ; n > 1; n-- {
		i := strings.IndexByte(source, '\n')
		if i < 0 {
			return ""
		}
		source = source[i+1:]
	}
	source, _, _ = strings.Cut(source, "\n")
	return strings.TrimRight(source, " \t\r")
}

// where returns the place of the innermost Lua function, be it on the thread that
// called L's.
func (s *State) where(L *lua.LState) *problem.Place { return s.placeBut(L, nil) }

// whose is where, but passes over libraries while there is another script.
func (s *State) whose(L *lua.LState) *problem.Place {
	if s.opts.Library != nil {
		if place := s.placeBut(L, s.opts.Library); place != nil {
			return place
		}
	}
	return s.where(L)
}

// placeBut returns the place of the innermost Lua function whose script pass does
// not pass over; nil passes over none.
func (s *State) placeBut(L *lua.LState, pass func(file string) bool) *problem.Place {
	for level := 0; ; level++ {
		dbg, ok := L.GetStack(level)
		if !ok {
			if caller := s.caller(L); caller != nil {
				return s.placeBut(caller, pass)
			}
			return nil
		}
		if _, err := L.GetInfo("Sl", dbg, lua.LNil); err != nil || dbg.Source == "" || dbg.CurrentLine <= 0 {
			continue
		}
		if pass == nil || !pass(dbg.Source) {
			return &problem.Place{File: dbg.Source, Line: dbg.CurrentLine, Source: s.line(dbg.Source, dbg.CurrentLine)}
		}
	}
}

// Where returns the place in the script that called the running Go function, or
// nil.
func Where(L *lua.LState) *problem.Place { return Of(L).where(L) }

// errorMeta is the metatable of raised problems.
func (s *State) errorMeta() *lua.LTable {
	meta := s.L.NewTable()
	s.L.SetFuncs(meta, map[string]lua.LGFunction{
		"__index":    errorField,
		"__tostring": func(L *lua.LState) int { return pushText(L, L.Get(1)) },
		"__concat": func(L *lua.LState) int {
			L.Push(lua.LString(L.ToStringMeta(L.Get(1)).String() + L.ToStringMeta(L.Get(2)).String()))
			return 1
		},
		"__newindex": func(L *lua.LState) int {
			L.RaiseError("an error object cannot be changed")
			return 0
		},
	})
	meta.RawSetString("__metatable", lua.LFalse)
	return meta
}

func pushText(L *lua.LState, v lua.LValue) int {
	err, _ := AsError(v)
	L.Push(lua.LString(err.Error()))
	return 1
}

// errorField reads a field of an error object; one that is not set is nil.
func errorField(L *lua.LState) int {
	err, _ := AsError(L.Get(1))
	p := problem.From(err)
	text := map[string]string{
		"kind": string(p.Kind), "call": p.Call, "key": p.Key, "target": p.Target, "message": p.Message, "server": p.Server,
		"tracking": p.Tracking, "hint": p.Hint, "step": p.Step, "work": string(p.Happened()),
	}
	key := L.Get(2).String()
	switch {
	case text[key] != "":
		L.Push(lua.LString(text[key]))
	case key == "status" && p.Status != 0:
		L.Push(lua.LNumber(p.Status))
	case key == "file" && p.Place != nil:
		L.Push(lua.LString(p.Place.File))
	case key == "line" && p.Place != nil:
		L.Push(lua.LNumber(p.Place.Line))
	case key == "retryable":
		L.Push(lua.LBool(p.Kind.Retryable()))
	default:
		L.Push(lua.LNil)
	}
	return 1
}

package sandbox_test

import (
	"context"
	"fmt"
	"testing"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

func TestReadOnlyTablesStayReadable(t *testing.T) {
	source := `
		local n, keys = 0, ""
		for k, v in pairs(data) do keys = keys .. k .. ";" end
		for _, v in ipairs(data.list) do n = n + v end
		local ok, err = pcall(function() data.list[1] = 9 end)
		return keys, n, #data.list, data.missing, table.concat(data.list, "+"), data(), ok, err.kind`
	s := newState(t, source)
	data, list, meta := s.L.NewTable(), s.L.NewTable(), s.L.NewTable()
	list.Append(lua.LNumber(1))
	list.Append(lua.LNumber(2))
	data.RawSetString("b", lua.LTrue)
	data.RawSetString("list", list)
	meta.RawSetString("__call", s.L.NewFunction(func(L *lua.LState) int { L.Push(lua.LString("called")); return 1 }))
	data.Metatable = meta
	s.Protect(data)
	s.Protect(data)
	s.SetGlobal("data", data)
	values, err := run(context.Background(), t, s, source)
	if err != nil || show(values) != "b;list;|3|2|nil|1+2|called|false|usage" {
		t.Errorf("got %s, %v", show(values), err)
	}
	if s.L.GetField(data, "b") != lua.LTrue {
		t.Error("Go code does not see the contents")
	}
}

func TestGlobals(t *testing.T) {
	s := newState(t, "")
	proto, err := sandbox.Compile("t.lua", `mine = 7 return mine`)
	if err != nil {
		t.Fatal(err)
	}
	values, err := s.Call(context.Background(), s.L, s.L.NewFunctionFromProto(proto)) // not sealed yet
	if err != nil || show(values) != "7" || s.Global("mine").String() != "7" || s.Global("none") != lua.LNil {
		t.Errorf("got %s, %v", show(values), err)
	}
	s.Seal()
	if _, err := s.Call(context.Background(), s.L, s.L.NewFunctionFromProto(proto)); err == nil {
		t.Error("a sealed state takes assignments")
	}
	s.SetGlobal("mine", lua.LNumber(8))
	if s.Global("mine").String() != "8" {
		t.Error("Go code cannot set a global of a sealed state")
	}
	if sandbox.Of(s.L) != s {
		t.Error("Of returns another state")
	}
}

// Where and Object are what Go functions and hooks are given of a script.
func TestWhereAndObject(t *testing.T) {
	source := "local function f()\n  return here()\nend\nlocal x = f()\nreturn x, obj.kind, obj.message"
	s := newState(t, source)
	s.SetGlobal("here", s.L.NewFunction(func(L *lua.LState) int {
		place := sandbox.Where(L)
		L.Push(lua.LString(fmt.Sprintf("%s:%d:%s", place.File, place.Line, place.Source)))
		return 1
	}))
	object := sandbox.Object(s.L, &problem.Error{Kind: problem.Auth, Message: "no"})
	s.SetGlobal("obj", object)
	values, err := run(context.Background(), t, s, source)
	if err != nil || show(values) != "t.lua:2:  return here()|auth|no" {
		t.Errorf("got %s, %v", show(values), err)
	}
	if err, ok := sandbox.AsError(object); !ok || problem.From(err).Kind != problem.Auth {
		t.Errorf("got %v", err)
	}
}

func ExampleState_Call() {
	ctx := context.Background()
	source := "local list = {}\n\nreturn list.x.y"
	s := sandbox.New(ctx, sandbox.Options{Source: func(file string) (string, bool) { return source, file == "dfw.lua" }})
	defer s.Close()
	s.Seal()
	proto, err := sandbox.Compile("dfw.lua", source)
	if err != nil {
		fmt.Println(render(err))
		return
	}
	_, err = s.Call(ctx, s.L, s.L.NewFunctionFromProto(proto))
	fmt.Println(render(err))
	// Output:
	// dfw.lua:3: attempt to index a non-table object(nil) with key 'y'
	//    3 | return list.x.y
}

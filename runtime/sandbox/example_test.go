package sandbox_test

import (
	"context"
	"fmt"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

const greeting = `
local who = ...
if type(who) ~= "string" then
  error { message = "no name", hint = "pass a name" }
end
return ("hello, %s"):format(who)`

// A script is compiled once and called in a state of its own; its errors have a place.
func Example() {
	ctx := context.Background()
	s := sandbox.New(ctx, sandbox.Options{Source: func(string) (string, bool) { return greeting, true }})
	defer s.Close()
	s.SetGlobal("answer", lua.LNumber(42))
	s.Seal() // what the script can reach is fixed from here on
	proto, err := sandbox.Compile("greeting.lua", greeting)
	if err != nil {
		fmt.Println(err)
		return
	}
	greet := s.L.NewFunctionFromProto(proto)
	values, err := s.Call(ctx, s.L, greet, lua.LString("moon"))
	fmt.Println(values[0], err)
	_, err = s.Call(ctx, s.L, greet)
	e := problem.From(err)
	fmt.Printf("%s:%d: %s (%s)\n", e.Place.File, e.Place.Line, e.Message, e.Hint)
	// Output:
	// hello, moon <nil>
	// greeting.lua:4: no name (pass a name)
}

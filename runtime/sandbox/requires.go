package sandbox

import lua "github.com/yuin/gopher-lua"

// Required is one require "name" in a script, with its name written out.
type Required struct {
	Name string
	Line int
}

// Requires lists the calls of require in p, and in the functions in it, whose
// argument is a literal: what a script needs can so be known without running it.
func Requires(p *lua.FunctionProto) []Required {
	var out []Required
	for pc := 0; pc+2 < len(p.Code); pc++ {
		get, load, call := p.Code[pc], p.Code[pc+1], p.Code[pc+2]
		if operation(get) != lua.OP_GETGLOBAL || operation(load) != lua.OP_LOADK || p.Constants[operandBx(get)] != lua.LString("require") {
			continue
		}
		if op := operation(call); op != lua.OP_CALL && op != lua.OP_TAILCALL {
			continue
		}
		if name, ok := p.Constants[operandBx(load)].(lua.LString); ok {
			out = append(out, Required{string(name), p.DbgSourcePositions[pc]})
		}
	}
	for _, inner := range p.FunctionPrototypes {
		out = append(out, Requires(inner)...)
	}
	return out
}

package sandbox

import (
	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
)

// CheckStep refuses a step's function that assigns a variable from outside of it,
// or a global, be it from a function inside of it: when the step answers from the
// journal it does not run, and the variable would keep its old value. The error
// is a *problem.Error of kind Usage with file and line.
//
// It reads bytecode: that of the function and of those written in it, not of
// those that it calls.
func CheckStep(fn *lua.LFunction) error {
	if fn == nil || fn.IsG || fn.Proto == nil {
		return nil
	}
	outside := make([]bool, len(fn.Proto.DbgUpvalues))
	for i := range outside {
		outside[i] = true
	}
	if e := checkProto(fn.Proto, outside); e != nil {
		return e
	}
	return nil
}

// checkProto looks for assignments in p; outside reports which of its upvalues
// belong to a function around the step's.
func checkProto(p *lua.FunctionProto, outside []bool) *problem.Error {
	for pc := 0; pc < len(p.Code); pc++ {
		inst := p.Code[pc]
		switch operation(inst) {
		case lua.OP_SETUPVAL:
			if i := operandB(inst); i < len(outside) && outside[i] {
				return assigns(p, pc, "outer variable", p.DbgUpvalues[i])
			}
		case lua.OP_SETGLOBAL:
			return assigns(p, pc, "global variable", p.Constants[operandBx(inst)].String())
		case lua.OP_CLOSURE:
			// One pseudo-instruction for each upvalue follows: MOVE takes a
			// local of p, GETUPVAL one of p's own upvalues.
			inner := p.FunctionPrototypes[operandBx(inst)]
			captured := make([]bool, inner.NumUpvalues)
			for i := range captured {
				pc++
				if from := operandB(p.Code[pc]); operation(p.Code[pc]) == lua.OP_GETUPVAL && from < len(outside) {
					captured[i] = outside[from]
				}
			}
			if e := checkProto(inner, captured); e != nil {
				return e
			}
		}
	}
	return nil
}

func assigns(p *lua.FunctionProto, pc int, what, name string) *problem.Error {
	return &problem.Error{
		Kind: problem.Usage, Message: "the step's function assigns the " + what + " " + quote(name),
		Hint:  "return the value from the function: local " + name + " = ctx:step(…)",
		Place: &problem.Place{File: p.SourceName, Line: p.DbgSourcePositions[pc]},
	}
}

// The layout of gopher-lua's instructions (opcode.go): 6 bits operation, 8 bits
// A, 9 bits C, 9 bits B; Bx is C and B together.
const (
	operationShift = 26
	operationMask  = 0x3f
)

func operation(inst uint32) int { return int(inst >> operationShift) }
func operandB(inst uint32) int  { return int(inst & 0x1ff) }
func operandBx(inst uint32) int { return int(inst & 0x3ffff) }

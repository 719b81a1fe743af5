package sandbox

import (
	"errors"
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"

	"moonseal/runtime/problem"
)

// MaxSource is the most that one script may be long, in bytes.
const MaxSource = 256 << 10

// Limits of what the compiler can encode; beyond them gopher-lua compiles to
// something else without a word.
const (
	maxUpvalues     = 255
	maxInstructions = 1 << 17
)

// Compile compiles the text of the script called name; the result may be shared
// between states. Errors are *problem.Error of kind Script with their place, its
// column if the parser knows it.
//
// What would keep the parser busy for minutes, or overflow the process's stack,
// is refused before the parser sees it.
func Compile(name, source string) (proto *lua.FunctionProto, err error) {
	if len(source) > MaxSource {
		return nil, &problem.Error{
			Kind: problem.Script, Message: fmt.Sprintf("the script is too long: %d bytes, %d are the most", len(source), MaxSource),
			Place: &problem.Place{File: name, Line: 1}, Hint: "move data or helpers into files under lib/",
		}
	}
	if err := readable(name, source); err != nil {
		return nil, err
	}
	if line, message := scan(source); message != "" {
		return nil, syntaxError(name, source, line, 0, message)
	}
	defer func() {
		if r := recover(); r != nil {
			proto, err = nil, syntaxError(name, source, 1, 0, fmt.Sprintf("cannot be compiled: %v", r))
		}
	}()
	chunk, err := parse.Parse(strings.NewReader(source), name)
	if err != nil {
		return nil, parseError(name, source, err)
	}
	proto, err = lua.Compile(chunk, name)
	if err != nil {
		if c, ok := errors.AsType[*lua.CompileError](err); ok {
			return nil, syntaxError(name, source, c.Line, 0, c.Message)
		}
		return nil, syntaxError(name, source, 1, 0, err.Error())
	}
	if line, message := encodable(proto); message != "" {
		return nil, syntaxError(name, source, line, 0, message)
	}
	keepCaller(proto)
	return proto, nil
}

// keepCaller makes the tail calls of a script's own body plain calls: a tail call
// drops its caller, and with it the line of "return make { … }" from errors.
func keepCaller(p *lua.FunctionProto) {
	for pc, inst := range p.Code {
		if operation(inst) == lua.OP_TAILCALL {
			p.Code[pc] = inst&^(operationMask<<operationShift) | uint32(lua.OP_CALL)<<operationShift
		}
	}
}

func encodable(p *lua.FunctionProto) (line int, message string) {
	switch {
	case len(p.DbgUpvalues) > maxUpvalues:
		return p.LineDefined, fmt.Sprintf("the function uses more than %d variables of the functions around it", maxUpvalues)
	case len(p.Code) > maxInstructions:
		return p.LineDefined, "the function is too long"
	}
	for _, inner := range p.FunctionPrototypes {
		if line, message := encodable(inner); message != "" {
			return line, message
		}
	}
	return 0, ""
}

func syntaxError(name, source string, line, column int, message string) *problem.Error {
	return &problem.Error{
		Kind: problem.Script, Message: message,
		Place: &problem.Place{File: name, Line: line, Column: column, Source: Line(source, line)},
	}
}

// parseError turns the parser's error into one that names the token, and points
// at the token's first byte: the parser's own column is that of its last.
func parseError(name, source string, err error) error {
	var e *parse.Error
	if !errors.As(err, &e) {
		return syntaxError(name, source, 1, 0, strings.TrimSpace(err.Error()))
	}
	message := strings.TrimSpace(e.Message)
	if message != "syntax error" {
		message = "syntax error: " + strings.ToLower(message[:1]) + message[1:]
	}
	if e.Message == "unterminated string" && e.Pos.Column == 0 && e.Pos.Line > 1 {
		line := e.Pos.Line - 1 // the parser has gone on to the next
		return syntaxError(name, source, line, 1+max(0, len(Line(source, line))-len(e.Token)-1), message)
	}
	if e.Pos.Line == parse.EOF {
		text := strings.TrimRight(source, " \t\r\n")
		line := 1 + strings.Count(text, "\n")
		return syntaxError(name, source, line, len(Line(source, line))+1, message+": unexpected end of the script")
	}
	column := e.Pos.Column
	text := Line(source, e.Pos.Line)
	if i := strings.LastIndex(text[:min(len(text), column)], e.Token); e.Token != "" && i >= 0 {
		column = i + 1
	}
	if e.Token != "" {
		message += " near " + quote(e.Token)
	}
	return syntaxError(name, source, e.Pos.Line, max(column, 1), message)
}

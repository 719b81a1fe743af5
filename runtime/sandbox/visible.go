package sandbox

import (
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"

	"moonseal/runtime/problem"
)

// Known resolves what a script's calls are, by whole names such as "dns.zone" and
// "cucm.Node:upload".
type Known interface {
	// Module reports whether require "name" returns a module.
	Module(name string) bool
	// Result returns the type of what a function returns, such as "cucm.Node"; "" if it
	// is none of a module's.
	Result(function string) string
	// Changes reports whether a function changes the outside world.
	Changes(function string) bool
}

// CheckVisible refuses what a running script would be refused for, if it can be seen
// without running it: in the function of a ctx:step or a ctx:poll, an assignment to a
// variable or a table from outside of it; and in that of a poll, a call that changes the
// outside world. The error is a *problem.Error of kind Usage with file and line.
//
// It follows names, not values: what it does not see the run refuses.
func CheckVisible(name, source string, known Known) error {
	if !strings.Contains(source, ":step") && !strings.Contains(source, ":poll") {
		return nil
	}
	chunk, err := parse.Parse(strings.NewReader(source), name)
	if err != nil {
		return parseError(name, source, err)
	}
	r := &reader{known: known}
	r.function(nil, chunk)
	if r.found == nil {
		return nil
	}
	r.found.Place.File, r.found.Place.Source = name, Line(source, r.found.Place.Line)
	return r.found
}

// variable is a local variable, with what is known of its value.
type variable struct {
	name string
	kind string // "module cucm", "cucm.Node", or ""
	step int    // how many functions of steps it is in
}

// reader walks a script. It keeps the first that it finds.
type reader struct {
	known Known
	scope []*variable
	steps int    // functions of steps around here
	poll  string // the innermost of them is a poll's
	found *problem.Error
}

func (r *reader) report(line int, e problem.Error) {
	if r.found == nil {
		e.Kind, e.Place = problem.Usage, &problem.Place{Line: line}
		r.found = &e
	}
}

func (r *reader) declare(name, kind string) {
	r.scope = append(r.scope, &variable{name, kind, r.steps})
}

func (r *reader) lookup(name string) *variable {
	for _, v := range slices.Backward(r.scope) {
		if v.name == name {
			return v
		}
	}
	return nil
}

// block walks statements in a scope of their own, and returns the kind of what they
// return.
func (r *reader) block(stmts []ast.Stmt) (kind string) {
	defer func(n int) { r.scope = r.scope[:n] }(len(r.scope))
	for _, s := range stmts {
		if k := r.statement(s); k != "" {
			kind = k
		}
	}
	return kind
}

// function walks a function's body, and returns the kind of what it returns.
func (r *reader) function(parameters []string, body []ast.Stmt) string {
	defer func(n int) { r.scope = r.scope[:n] }(len(r.scope))
	for _, name := range parameters {
		r.declare(name, "")
	}
	return r.block(body)
}

func (r *reader) functionExpr(f *ast.FunctionExpr) string {
	return r.function(f.ParList.Names, f.Stmts)
}

func (r *reader) statement(s ast.Stmt) (returned string) {
	switch s := s.(type) {
	case *ast.AssignStmt:
		r.expressions(s.Rhs)
		for _, left := range s.Lhs {
			r.assigned(left)
		}
	case *ast.LocalAssignStmt:
		// A local function may call itself.
		if f, ok := only(s.Exprs).(*ast.FunctionExpr); ok && len(s.Names) == 1 {
			r.declare(s.Names[0], "")
			r.functionExpr(f)
			return ""
		}
		kinds := r.expressions(s.Exprs)
		for i, name := range s.Names {
			kind := ""
			if i < len(kinds) {
				kind = kinds[i]
			}
			r.declare(name, kind)
		}
	case *ast.FuncCallStmt:
		r.expression(s.Expr)
	case *ast.DoBlockStmt:
		return r.block(s.Stmts)
	case *ast.WhileStmt:
		r.expression(s.Condition)
		return r.block(s.Stmts)
	case *ast.RepeatStmt:
		defer func(n int) { r.scope = r.scope[:n] }(len(r.scope))
		for _, inner := range s.Stmts { // the condition sees their variables
			r.statement(inner)
		}
		r.expression(s.Condition)
	case *ast.IfStmt:
		r.expression(s.Condition)
		r.block(s.Then)
		r.block(s.Else)
	case *ast.NumberForStmt:
		r.expressions([]ast.Expr{s.Init, s.Limit, s.Step})
		r.function([]string{s.Name}, s.Stmts)
	case *ast.GenericForStmt:
		r.expressions(s.Exprs)
		r.function(s.Names, s.Stmts)
	case *ast.FuncDefStmt:
		r.defined(s)
	case *ast.ReturnStmt:
		if kinds := r.expressions(s.Exprs); len(kinds) == 1 {
			return kinds[0]
		}
	}
	return ""
}

// defined walks function f() … end and its like.
func (r *reader) defined(s *ast.FuncDefStmt) {
	parameters := s.Func.ParList.Names
	if s.Name.Func != nil {
		r.assigned(s.Name.Func)
	} else {
		r.table(s.Name.Receiver, s.Line())
		parameters = append([]string{"self"}, parameters...)
	}
	r.function(parameters, s.Func.Stmts)
}

func only(all []ast.Expr) ast.Expr {
	if len(all) != 1 {
		return nil
	}
	return all[0]
}

// assigned looks at what stands left of an assignment.
func (r *reader) assigned(left ast.Expr) {
	switch left := left.(type) {
	case *ast.IdentExpr:
		v := r.lookup(left.Value)
		if v != nil {
			v.kind = ""
		}
		what := "outer variable "
		if v == nil {
			what = "global variable "
		}
		if r.steps > 0 && (v == nil || v.step < r.steps) {
			r.report(left.Line(), problem.Error{
				Message: "the step's function assigns the " + what + quote(left.Value), Hint: "return the value from the function: local " + left.Value + " = ctx:step(…)",
			})
		}
	case *ast.AttrGetExpr:
		r.expression(left.Key)
		r.table(left.Object, left.Line())
	}
}

// table looks at a table that is changed.
func (r *reader) table(t ast.Expr, line int) {
	for {
		inner, ok := t.(*ast.AttrGetExpr)
		if !ok {
			break
		}
		r.expression(inner.Key)
		t = inner.Object
	}
	root, ok := t.(*ast.IdentExpr)
	if !ok {
		r.expression(t)
		return
	}
	if v := r.lookup(root.Value); r.steps > 0 && (v == nil || v.step < r.steps) {
		e := *changesOutside()
		e.Message += ", " + quote(root.Value)
		r.report(max(line, root.Line()), e)
	}
}

func (r *reader) expressions(all []ast.Expr) []string {
	var kinds []string
	for _, e := range all {
		kinds = append(kinds, r.expression(e))
	}
	return kinds
}

// expression walks e, and returns the kind of its value.
func (r *reader) expression(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.IdentExpr:
		if v := r.lookup(e.Value); v != nil {
			return v.kind
		}
		if r.known.Module(e.Value) {
			return moduleKind + e.Value
		}
	case *ast.AttrGetExpr:
		r.expressions([]ast.Expr{e.Object, e.Key})
	case *ast.TableExpr:
		for _, f := range e.Fields {
			r.expressions([]ast.Expr{f.Key, f.Value})
		}
	case *ast.FuncCallExpr:
		return r.call(e)
	case *ast.LogicalOpExpr:
		r.expressions([]ast.Expr{e.Lhs, e.Rhs})
	case *ast.RelationalOpExpr:
		r.expressions([]ast.Expr{e.Lhs, e.Rhs})
	case *ast.StringConcatOpExpr:
		r.expressions([]ast.Expr{e.Lhs, e.Rhs})
	case *ast.ArithmeticOpExpr:
		r.expressions([]ast.Expr{e.Lhs, e.Rhs})
	case *ast.UnaryMinusOpExpr:
		r.expression(e.Expr)
	case *ast.UnaryNotOpExpr:
		r.expression(e.Expr)
	case *ast.UnaryLenOpExpr:
		r.expression(e.Expr)
	case *ast.FunctionExpr:
		r.functionExpr(e)
	}
	return ""
}

const moduleKind = "module "

// call walks a call, and returns the kind of its result.
func (r *reader) call(c *ast.FuncCallExpr) string {
	if c.Receiver != nil {
		return r.methodCall(c)
	}
	r.changer(c)
	if f, ok := c.Func.(*ast.IdentExpr); ok && f.Value == "require" && r.lookup("require") == nil {
		if name, ok := only(c.Args).(*ast.StringExpr); ok && r.known.Module(name.Value) {
			return moduleKind + name.Value
		}
	}
	function := ""
	if f, ok := c.Func.(*ast.AttrGetExpr); ok {
		module, isModule := strings.CutPrefix(r.expression(f.Object), moduleKind)
		if key, ok := f.Key.(*ast.StringExpr); ok && isModule {
			function = module + "." + key.Value
		}
	} else {
		r.expression(c.Func)
	}
	r.expressions(c.Args)
	return r.called(c, function)
}

// changer looks at the table functions that change their first argument.
func (r *reader) changer(c *ast.FuncCallExpr) {
	if len(c.Args) == 0 {
		return
	}
	switch f := c.Func.(type) {
	case *ast.IdentExpr:
		if f.Value == "rawset" && r.lookup("rawset") == nil {
			r.table(c.Args[0], c.Line())
		}
	case *ast.AttrGetExpr:
		library, isName := f.Object.(*ast.IdentExpr)
		key, isKey := f.Key.(*ast.StringExpr)
		if isName && isKey && library.Value == "table" && r.lookup("table") == nil && slices.Contains([]string{"insert", "remove", "sort"}, key.Value) {
			r.table(c.Args[0], c.Line())
		}
	}
}

func (r *reader) methodCall(c *ast.FuncCallExpr) string {
	kind := r.expression(c.Receiver)
	if f := stepFunction(c); f != nil {
		r.expressions(c.Args[:len(c.Args)-1])
		steps, poll := r.steps, r.poll
		r.steps++
		r.poll = c.Method
		returned := r.functionExpr(f)
		r.steps, r.poll = steps, poll
		return returned
	}
	r.expressions(c.Args)
	if kind == "" || strings.HasPrefix(kind, moduleKind) {
		return ""
	}
	return r.called(c, kind+":"+c.Method)
}

// stepFunction returns the function of ctx:step(name, function() … end) and of ctx:poll,
// nil if c is none, or names a function that is written elsewhere.
func stepFunction(c *ast.FuncCallExpr) *ast.FunctionExpr {
	if c.Method != "step" && c.Method != "poll" || len(c.Args) < 2 {
		return nil
	}
	if _, ok := c.Receiver.(*ast.IdentExpr); !ok {
		return nil
	}
	f, _ := c.Args[len(c.Args)-1].(*ast.FunctionExpr)
	return f
}

// called looks at a call of a module's function, and returns the kind of its result.
func (r *reader) called(c *ast.FuncCallExpr, function string) string {
	if function == "" {
		return ""
	}
	if r.poll == "poll" && r.known.Changes(function) {
		r.report(c.Line(), problem.Error{
			Call: function, Message: "called inside a poll", Hint: "a poll only asks, again and again: change things in a ctx:step",
		})
	}
	return r.known.Result(function)
}

package bind

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/duration"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
	"moonseal/runtime/suggest"
)

// Binding is a registry's modules in one Lua state. Like the state it is for one
// goroutine.
type Binding struct {
	reg     *Registry
	host    Host
	state   *lua.LState
	raise   func(*lua.LState, error)
	metas   map[*Type]*lua.LTable
	secrets *lua.LTable
	modules map[string]lua.LValue

	functions map[*lua.LFunction]bound
}

// bound is what a checked Lua function stands for; owner is nil for a module's.
type bound struct {
	fn    *Func
	owner *Type
}

// Bind makes the modules for state. raise raises a Go error in Lua and does not
// return.
func (r *Registry) Bind(state *lua.LState, host Host, raise func(*lua.LState, error)) *Binding {
	b := &Binding{
		reg: r, host: host, state: state, raise: raise, metas: map[*Type]*lua.LTable{},
		modules: map[string]lua.LValue{}, functions: map[*lua.LFunction]bound{},
	}
	b.secrets = b.metatable("secret", nil, func(any) string { return "secret" })
	b.secrets.RawSetString("__tostring", state.NewFunction(func(l *lua.LState) int {
		h, _ := l.CheckUserData(1).Value.(secret.Handle)
		l.Push(lua.LString(h.String()))
		return 1
	}))
	for _, m := range r.Modules {
		for _, t := range m.Types {
			b.metas[t] = b.typeMeta(t)
		}
	}
	for _, m := range r.Modules {
		b.modules[m.Name] = b.module(m)
	}
	return b
}

// Module is what require(name) returns, nil if there is no such module.
func (b *Binding) Module(name string) lua.LValue { return b.modules[name] }

// Globals are the built-ins that every script has: secret, duration, check and together.
func (b *Binding) Globals() map[string]lua.LValue {
	return map[string]lua.LValue{
		"check":    b.state.NewFunction(b.luaCheck),
		"secret":   b.state.NewFunction(b.luaSecret),
		"duration": b.state.NewFunction(b.luaDuration),
		"together": b.state.NewFunction(b.luaTogether),
	}
}

func (b *Binding) luaSecret(l *lua.LState) int {
	name, ok := l.Get(1).(lua.LString)
	h, err := secret.Named(string(name))
	if !ok || err != nil || l.GetTop() != 1 {
		b.raise(l, &problem.Error{
			Kind: problem.Usage, Call: "secret",
			Message: "expects a secret's name, such as CUCM_PASSWORD, got " + b.describeLua(l.Get(1)),
		})
	}
	if listener, ok := b.host.(interface{ SecretNamed(name string) }); ok {
		listener.SecretNamed(h.Name)
	}
	l.Push(b.userdata(h, b.secrets))
	return 1
}

func (b *Binding) luaDuration(l *lua.LState) int {
	var d time.Duration
	var err error
	switch given := l.Get(1).(type) {
	case lua.LString:
		d, err = duration.Parse(string(given))
	case lua.LNumber:
		d, err = duration.Seconds(float64(given))
	default:
		err = fmt.Errorf(`must be a duration such as "30d", got %s`, b.describeLua(given))
	}
	if err == nil && l.GetTop() != 1 {
		err = fmt.Errorf("expects one argument, got %d", l.GetTop())
	}
	if err != nil {
		b.raise(l, &problem.Error{Kind: problem.Usage, Call: "duration", Message: err.Error()})
	}
	l.Push(lua.LNumber(d.Seconds()))
	return 1
}

// luaCheck checks the arguments of a module's function without calling it.
func (b *Binding) luaCheck(l *lua.LState) int {
	fn, _ := l.Get(1).(*lua.LFunction)
	known, ok := b.functions[fn]
	if !ok {
		b.raise(l, &problem.Error{
			Kind: problem.Usage, Call: "check", Message: "expects a function of a module and its arguments, got " + b.describeLua(l.Get(1)),
			Hint: `such as check(node.restart, node, "tomcat")`,
		})
	}
	l.Remove(1)
	if _, err := b.invocation(l, known.fn, known.owner); err != nil {
		b.raise(l, err)
	}
	return 0
}

func (b *Binding) userdata(v any, meta *lua.LTable) *lua.LUserData {
	ud := b.state.NewUserData()
	ud.Value, ud.Metatable = v, meta
	return ud
}

// metatable makes the metatable of something read-only. index may be nil.
func (b *Binding) metatable(what string, index func(l *lua.LState, key string) lua.LValue, text func(v any) string) *lua.LTable {
	mt := b.state.NewTable()
	mt.RawSetString("__metatable", lua.LString("protected"))
	mt.RawSetString("__newindex", b.state.NewFunction(func(l *lua.LState) int {
		b.raise(l, &problem.Error{
			Kind: problem.Usage, Call: what,
			Message: fmt.Sprintf("it is read-only, %s cannot be set", l.Get(2)),
		})
		return 0
	}))
	mt.RawSetString("__index", b.state.NewFunction(func(l *lua.LState) int {
		key := l.Get(2).String()
		if index != nil {
			if v := index(l, key); v != nil {
				l.Push(v)
				return 1
			}
		}
		b.raise(l, &problem.Error{Kind: problem.Usage, Call: what, Message: "there is no " + strconv.Quote(key) + " in it"})
		return 0
	}))
	mt.RawSetString("__tostring", b.state.NewFunction(func(l *lua.LState) int {
		l.Push(lua.LString(text(l.CheckUserData(1).Value)))
		return 1
	}))
	return mt
}

func (b *Binding) module(m *Module) lua.LValue {
	functions := map[string]lua.LValue{}
	var names []string
	for _, f := range m.Functions {
		functions[f.Name] = b.function(f, nil)
		names = append(names, f.Name)
	}
	meta := b.metatable(m.Name, func(l *lua.LState, key string) lua.LValue {
		if f, ok := functions[key]; ok {
			return f
		}
		b.raise(l, unknown("module "+m.Name, "function", key, names))
		return nil
	}, func(any) string { return "module " + m.Name })
	return b.userdata(m, meta)
}

func unknown(owner, what, key string, names []string) error {
	hint := "it has " + strings.Join(names, ", ")
	if near := suggest.Closest(key, names); near != "" {
		hint = "did you mean " + near + "?"
	}
	return &problem.Error{Kind: problem.Usage, Call: owner, Message: fmt.Sprintf("it has no %s %q", what, key), Hint: hint}
}

func (b *Binding) typeMeta(t *Type) *lua.LTable {
	methods := map[string]lua.LValue{}
	fields, _ := b.reg.fields(t.Go) // checked by NewRegistry
	var names []string
	for _, f := range fields {
		names = append(names, f.Name)
	}
	for _, m := range t.Methods {
		methods[m.Name] = b.function(m, t)
		names = append(names, m.Name)
	}
	meta := b.metatable(t.Name, func(l *lua.LState, key string) lua.LValue {
		if m, ok := methods[key]; ok {
			return m
		}
		return b.handleField(l, t, fields, key, names)
	}, func(v any) string { return b.handleText(t, v) })
	meta.RawSetString("__eq", b.state.NewFunction(func(l *lua.LState) int {
		l.Push(lua.LBool(b.sameHandle(l.CheckUserData(1).Value, l.CheckUserData(2).Value)))
		return 1
	}))
	return meta
}

func (b *Binding) handleField(l *lua.LState, t *Type, fields []field, key string, names []string) lua.LValue {
	for _, f := range fields {
		if f.Name != key {
			continue
		}
		data, err := b.reg.fromGo(l.CheckUserData(1).Value, t.Name)
		if err == nil {
			var v lua.LValue
			if v, err = b.ToLua(data.(*Object).Values[key]); err == nil {
				return v
			}
		}
		b.raise(l, err)
	}
	b.raise(l, unknown("a "+t.Name, "field or method", key, names))
	return nil
}

// handleText shows a handle as its type and its first text field.
func (b *Binding) handleText(t *Type, v any) string {
	data, err := b.reg.fromGo(v, t.Name)
	if err != nil {
		return t.Name
	}
	o := data.(*Object)
	for _, k := range o.Keys {
		if s, ok := o.Values[k].(string); ok && s != "" && !strings.Contains(s, "\n") {
			return t.Name + "(" + s + ")"
		}
	}
	return t.Name
}

func (b *Binding) sameHandle(x, y any) bool {
	ex, errX := b.reg.EncodeResult(x)
	ey, errY := b.reg.EncodeResult(y)
	return errX == nil && errY == nil && string(ex) == string(ey)
}

// function makes the checked Lua function of f; t is the receiver's type, nil
// for a module's function.
func (b *Binding) function(f *Func, t *Type) *lua.LFunction {
	made := b.state.NewFunction(func(l *lua.LState) int {
		inv, err := b.invocation(l, f, t)
		if err != nil {
			b.raise(l, err)
		}
		result, err := b.host.Invoke(inv)
		if err != nil {
			b.raise(l, f.failed(err))
		}
		v, err := b.value(result)
		if err != nil {
			b.raise(l, problem.At(err, f.full, ""))
		}
		l.Push(v)
		if verdict, ok := result.(Verdict); ok && !verdict.OK {
			l.Push(lua.LString(verdict.Reason))
			return 2
		}
		return 1
	})
	b.functions[made] = bound{f, t}
	return made
}

// failed returns the error of a call as a script sees it.
func (f *Func) failed(err error) error {
	if p := problem.From(err); p.Key != "" {
		err = f.misuse(err)
	}
	return problem.At(err, f.full, "")
}

// value returns the result of a call as a script sees it; of a verdict its answer.
func (b *Binding) value(result any) (lua.LValue, error) {
	if verdict, ok := result.(Verdict); ok {
		if result = verdict.Value; !verdict.OK || result == nil {
			return lua.LBool(verdict.OK), nil
		}
	}
	plain, err := b.reg.ToPlain(result)
	if err != nil {
		return nil, err
	}
	return b.ToLua(plain)
}

// invocation is a call with the arguments that stand on the stack.
func (b *Binding) invocation(l *lua.LState, f *Func, t *Type) (*Invocation, error) {
	values := make([]lua.LValue, 0, l.GetTop())
	for i := 1; i <= l.GetTop(); i++ {
		values = append(values, l.Get(i))
	}
	return b.invocationOf(l.Context(), f, t, values)
}

// invocationOf checks the values that f is called with; a method's first is its receiver.
func (b *Binding) invocationOf(ctx context.Context, f *Func, t *Type, values []lua.LValue) (*Invocation, error) {
	inv := &Invocation{Context: ctx, Func: f}
	if t != nil {
		recv := lua.LNil
		if len(values) > 0 {
			recv, values = values[0], values[1:]
		}
		ref, ok := b.ref(recv)
		if !ok || ref.Type != t {
			return nil, &problem.Error{
				Kind: problem.Usage, Call: f.full, Message: "it is a method and was called without its " + t.Name + ", got " + b.describeLua(recv),
				Hint: "call it with a colon: " + f.Signature(),
			}
		}
		inv.Recv = ref.Ptr
	}
	var given []any
	for i, value := range values {
		v, err := b.FromLua(value)
		if err != nil {
			return nil, &problem.Error{Kind: problem.Usage, Call: f.full, Message: fmt.Sprintf("argument %d: %s", i+1, err)}
		}
		given = append(given, v)
	}
	args, err := b.reg.Arguments(f, given)
	if err == nil && f.Impl.Check != nil {
		if err = f.Impl.Check(inv.Recv, args); err != nil {
			err = f.misuse(err)
		}
	}
	inv.Args = args
	return inv, err
}

func (b *Binding) ref(v lua.LValue) (*Ref, bool) {
	ud, ok := v.(*lua.LUserData)
	if !ok {
		return nil, false
	}
	for t, meta := range b.metas {
		if ud.Metatable == meta {
			return &Ref{Type: t, Ptr: ud.Value}, true
		}
	}
	return nil, false
}

func (b *Binding) describeLua(v lua.LValue) string {
	plain, err := b.FromLua(v)
	if err != nil {
		return "a " + v.Type().String()
	}
	return describe(plain)
}

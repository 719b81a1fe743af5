package bind

import (
	"fmt"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
)

// luaTogether makes several calls side by side. Each is a table of the function and its
// arguments, as check has them. Whichever is faster: the results come in the order of the
// calls, and the error is that of the first call which failed.
func (b *Binding) luaTogether(l *lua.LState) int {
	invs := make([]*Invocation, 0, l.GetTop())
	for i := 1; i <= l.GetTop(); i++ {
		inv, err := b.prepared(l, i)
		if err != nil {
			b.raise(l, err)
		}
		invs = append(invs, inv)
	}
	results, errs := b.invokeTogether(invs)
	for i, err := range errs {
		if err != nil {
			b.raise(l, invs[i].Func.failed(err))
		}
	}
	for i, result := range results {
		v, err := b.value(result)
		if err != nil {
			b.raise(l, problem.At(err, invs[i].Func.full, ""))
		}
		l.Push(v)
	}
	return len(results)
}

func (b *Binding) invokeTogether(invs []*Invocation) (results []any, errs []error) {
	if host, ok := b.host.(Parallel); ok {
		return host.InvokeTogether(invs)
	}
	for _, inv := range invs {
		result, err := b.host.Invoke(inv)
		results, errs = append(results, result), append(errs, err)
	}
	return results, errs
}

// prepared returns the call that an argument of together describes.
func (b *Binding) prepared(l *lua.LState, i int) (*Invocation, error) {
	given, _ := l.Get(i).(*lua.LTable)
	var known bound
	if given != nil {
		fn, _ := given.RawGetInt(1).(*lua.LFunction)
		known = b.functions[fn]
	}
	if known.fn == nil {
		return nil, &problem.Error{
			Kind: problem.Usage, Call: "together", Message: fmt.Sprintf("expects tables of a module's function and its arguments, got %s as number %d", b.describeLua(l.Get(i)), i),
			Hint: `such as together({ ca.renewal, ca, cert }, { node.pending_csr, node, "tomcat" })`,
		}
	}
	values := make([]lua.LValue, 0, given.MaxN())
	for n := 2; n <= given.MaxN(); n++ {
		values = append(values, given.RawGetInt(n))
	}
	return b.invocationOf(l.Context(), known.fn, known.owner, values)
}

package bind

import (
	"fmt"
	"math"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/sandbox"
	"moonseal/runtime/secret"
)

// ToLua returns plain data as a Lua value.
func (b *Binding) ToLua(v any) (lua.LValue, error) {
	switch v := v.(type) {
	case nil:
		return lua.LNil, nil
	case bool:
		return lua.LBool(v), nil
	case float64:
		return lua.LNumber(v), nil
	case string:
		return lua.LString(v), nil
	case secret.Handle:
		return b.userdata(v, b.secrets), nil
	case *Ref:
		return b.userdata(v.Ptr, b.metas[v.Type]), nil
	case []any:
		t := b.state.CreateTable(len(v), 0)
		for i, e := range v {
			lv, err := b.ToLua(e)
			if err != nil {
				return nil, err
			}
			t.RawSetInt(i+1, lv)
		}
		return t, nil
	case *Object:
		t := b.state.CreateTable(0, len(v.Keys))
		for _, k := range v.Keys {
			lv, err := b.ToLua(v.Values[k])
			if err != nil {
				return nil, err
			}
			t.RawSetString(k, lv)
		}
		return t, nil
	default:
		return nil, fmt.Errorf("a %T cannot reach Lua", v)
	}
}

// FromLua returns a Lua value as plain data. Tables are lists (1 to n) or have
// string keys only; functions, loops and other userdata are refused.
func (b *Binding) FromLua(v lua.LValue) (any, error) { return b.fromLua(v, "the value", 0) }

func (b *Binding) fromLua(v lua.LValue, path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s is nested deeper than %d levels, or contains itself", path, maxDepth)
	}
	switch v := v.(type) {
	case *lua.LNilType:
		return nil, nil
	case lua.LBool:
		return bool(v), nil
	case lua.LNumber:
		return float64(v), nil
	case lua.LString:
		return string(v), nil
	case *lua.LTable:
		return b.tableFromLua(v, path, depth)
	case *lua.LUserData:
		if h, ok := v.Value.(secret.Handle); ok && v.Metatable == b.secrets {
			return h, nil
		}
		if ref, ok := b.ref(v); ok {
			return ref, nil
		}
	}
	return nil, fmt.Errorf("%s is a %s, which is not plain data", path, v.Type())
}

func (b *Binding) tableFromLua(t *lua.LTable, path string, depth int) (any, error) {
	t = sandbox.Contents(t)
	o := NewObject()
	numbers := map[int]any{}
	var failed error
	// Next walks in insertion order; ForEach does not.
	for k, v := t.Next(lua.LNil); k != lua.LNil && failed == nil; k, v = t.Next(k) {
		switch key := k.(type) {
		case lua.LString:
			var e any
			if e, failed = b.fromLua(v, path+"."+string(key), depth+1); failed == nil {
				o.Set(string(key), e)
			}
		case lua.LNumber:
			n := float64(key)
			if n != math.Trunc(n) || n < 1 || n > 1<<24 {
				failed = fmt.Errorf("%s has the key %v: keys are strings, or 1 to n", path, n)
				break
			}
			numbers[int(n)], failed = b.fromLua(v, fmt.Sprintf("%s[%d]", path, int(n)), depth+1)
		default:
			failed = fmt.Errorf("%s has a %s as a key: keys are strings, or 1 to n", path, k.Type())
		}
	}
	switch {
	case failed != nil:
		return nil, failed
	case len(numbers) == 0:
		return o, nil
	case len(o.Keys) > 0:
		return nil, fmt.Errorf("%s has both numbers and strings as keys", path)
	}
	list := make([]any, len(numbers))
	for i := range list {
		e, ok := numbers[i+1]
		if !ok {
			return nil, fmt.Errorf("%s is a list with a gap at %d", path, i+1)
		}
		list[i] = e
	}
	return list, nil
}

package bind_test

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"

	"moonseal/runtime/bind"
)

// A crate as an older build knows it, and as a newer one does.
type (
	oldCrate struct {
		Name string `lua:"name" doc:"its name"`
	}
	newCrate struct {
		Size  int     `lua:"size,optional" default:"7" doc:"in litres"`
		Name  string  `lua:"name" doc:"its name"`
		Owner string  `lua:"owner,optional" doc:"whose it is"`
		Limit float64 `lua:"limit,optional" doc:"how much it takes"`
	}
	oldPut struct {
		What any     `lua:"what" doc:"the thing"`
		Mass float64 `lua:"mass" doc:"in kg"`
	}
	newPut struct {
		What any     `lua:"what" doc:"the thing"`
		Mass float64 `lua:"mass" doc:"in kg"`
		Side string  `lua:"side,optional" default:"left" doc:"which side"`
		Soft bool    `lua:"soft,optional" doc:"gently"`
	}
)

// crates is one build's registry.
func crates[C, P any](t *testing.T) *bind.Registry {
	t.Helper()
	reg, err := bind.NewRegistry(&bind.Module{Name: "yard", Doc: "Has crates.", Types: []*bind.Type{
		bind.Handle[C]("yard.Crate", 1, "A crate.", &bind.Func{
			Name: "put", Doc: "Puts things in.", Example: "x",
			Impl: bind.Effectful(bind.Effect[C, P, any, any]{Do: func(*bind.Call, *C, *P, any) (any, error) { return nil, nil }}),
		}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

// put encodes a call as a script makes it.
func put(t *testing.T, reg *bind.Registry, crate any, args ...any) json.RawMessage {
	t.Helper()
	f := reg.Func("yard.Crate:put")
	given, err := reg.Arguments(f, args)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := reg.EncodeCall(&bind.Invocation{Func: f, Recv: crate, Args: given})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func table(pairs ...any) *bind.Object {
	o := bind.NewObject()
	for i := 0; i < len(pairs); i += 2 {
		o.Set(pairs[i].(string), pairs[i+1])
	}
	return o
}

func TestCanonicalCall(t *testing.T) {
	before, after := crates[oldCrate, oldPut](t), crates[newCrate, newPut](t)
	canonical := func(reg *bind.Registry, raw json.RawMessage) string {
		t.Helper()
		out, err := reg.CanonicalCall("yard.Crate:put", raw)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	for _, what := range []any{
		"# Issuer: O=R&D <x>", "line\u2028separator\u2029", "\x00\xff", 0.1, 1e21, 1e-7, math.Copysign(0, -1), float64(1<<53 - 1), true,
		[]any{"a", 1.0},
		table("b", 1.0, "a", "&", "$x", []any{}), table("n", table("z", 1.0, "y", 2.0)),
	} {
		journaled := put(t, before, &oldCrate{Name: "R&D"}, what, 0.30000000000000004)
		for name, raw := range map[string]json.RawMessage{"as it was written": journaled, "escaped for HTML": escaped(journaled)} {
			if got, want := canonical(after, raw), canonical(after, put(t, after, &newCrate{Name: "R&D", Size: 7}, what, 0.30000000000000004)); got != want {
				t.Errorf("%v, %s:\n%s\n%s", what, name, got, want)
			}
			if got, want := canonical(before, raw), canonical(before, put(t, after, &newCrate{Name: "R&D", Size: 7}, what, 0.30000000000000004)); got != want {
				t.Errorf("%v, %s, by the older build:\n%s\n%s", what, name, got, want)
			}
		}
		if other := put(t, after, &newCrate{Name: "R&D", Size: 8}, what, 0.30000000000000004); canonical(after, journaled) == canonical(after, other) {
			t.Errorf("%v: a crate of another size is the same", what)
		}
	}
	x := put(t, after, &newCrate{Name: "a"}, table("k", 1.0, "l", table("b", 1.0, "a", 2.0)), 1.0)
	y := put(t, after, &newCrate{Name: "a"}, table("l", table("a", 2.0, "b", 1.0), "k", 1.0), 1.0)
	if bytes.Equal(x, y) || canonical(after, x) != canonical(after, y) {
		t.Errorf("the order of keys counts:\n%s\n%s", x, y)
	}
	if _, err := after.CanonicalCall("yard.Crate:gone", x); err == nil {
		t.Error("a function that is not there has a canonical call")
	}
}

// escaped is raw as encoding/json writes it into another value.
func escaped(raw json.RawMessage) json.RawMessage {
	out, _ := json.Marshal(raw)
	return out
}

// A result that a person writes down is checked as strictly as an argument.
func TestGivenResult(t *testing.T) {
	returns := func(name string, impl bind.Impl) *bind.Func {
		return &bind.Func{Name: name, Doc: "Takes.", Returns: "it", Example: "x", Impl: impl}
	}
	reg, err := bind.NewRegistry(&bind.Module{Name: "yard", Doc: "Has crates.", Types: []*bind.Type{bind.Handle[newCrate]("yard.Crate", 1, "A crate.",
		returns("handle", bind.Effectful(bind.Effect[newCrate, none, any, *newCrate]{})),
		returns("list", bind.Effectful(bind.Effect[newCrate, none, any, []oldCrate]{})),
		&bind.Func{Name: "nothing", Doc: "Drops.", Example: "x", Impl: bind.Effectful(bind.Effect[newCrate, none, any, any]{})},
	)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ fn, given, want string }{
		{"handle", `{"name":"R&D"}`, `{"$handle":"yard.Crate@1","data":{"size":7,"name":"R&D","owner":"","limit":0}}`},
		{"handle", `{"$handle":"yard.Crate@1","data":{"name":"a"}}`, `{"$handle":"yard.Crate@1","data":{"size":7,"name":"a","owner":"","limit":0}}`},
		{"handle", `null`, ""},
		{"handle", `{}`, ""},
		{"handle", `{"nam":"a"}`, ""},
		{"handle", `{"name":`, ""},
		{"list", `[{"name":"a"}]`, `[{"name":"a"}]`},
		{"list", `{"name":"a"}`, ""},
		{"nothing", `null`, "null"},
		{"gone", `null`, ""},
	} {
		got, err := reg.GivenResult("yard.Crate:"+tc.fn, json.RawMessage(tc.given))
		if (err != nil) != (tc.want == "") || string(got) != tc.want && tc.want != "" {
			t.Errorf("%s %s: %s, %v", tc.fn, tc.given, got, err)
		}
	}
}

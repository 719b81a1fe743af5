package bind_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

type box struct {
	Name   string        `lua:"name" doc:"its name"`
	Size   int           `lua:"size,optional" default:"7" doc:"in litres"`
	Kind   string        `lua:"kind,optional" default:"wood" enum:"wood steel" doc:"the material"`
	Since  time.Time     `lua:"since,optional" doc:"when it was made"`
	Keep   time.Duration `lua:"keep,optional" doc:"how long to keep it"`
	Key    secret.Handle `lua:"key,optional" doc:"its key"`
	Labels []string      `lua:"labels,optional" doc:"what is written on it"`
}

type putArgs struct {
	What    string `lua:"what" doc:"the thing"`
	Count   int    `lua:"count" doc:"how many"`
	Options struct {
		Force bool   `lua:"force,optional" doc:"even if full"`
		Side  string `lua:"side,optional" default:"left" doc:"which side"`
	} `lua:"options,optional" doc:"how"`
}

type none struct{}

func testModule() *bind.Module {
	put := &bind.Func{
		Name: "put", Doc: "Puts things in.", Returns: "what is in it", Example: `box:put("nail", 3)`,
		Impl: bind.Read(func(_ *bind.Call, b *box, a *putArgs) (map[string]any, error) {
			if a.What == "bomb" {
				return nil, &problem.Error{Kind: problem.Refused, Message: "no bombs"}
			}
			return map[string]any{"box": b, "what": a.What, "count": a.Count, "side": a.Options.Side}, nil
		}),
	}
	full := &bind.Func{
		Name: "full", Doc: "Asks whether it is full.", Returns: "true, or false and why not", Example: `box:full()`,
		Impl: bind.Read(func(_ *bind.Call, _ *box, _ *none) (bind.Verdict, error) {
			return bind.Verdict{Reason: "half empty"}, nil
		}),
	}
	return &bind.Module{
		Name: "store", Doc: "Keeps boxes.",
		Functions: []*bind.Func{{
			Name: "box", Doc: "Makes a box.", Returns: "the box", Example: `store.box { name = "a" }`, Table: true,
			Impl: bind.Pure(func(b *box) (*box, error) { return b, nil }),
		}},
		Types: []*bind.Type{bind.Handle[box]("store.Box", 1, "A box.", put, full)},
	}
}

// direct runs functions at once, as an engine without a journal would.
type direct struct{}

func (direct) Invoke(inv *bind.Invocation) (any, error) {
	call := &bind.Call{Context: context.Background(), Clock: clockwork.NewFakeClock()}
	return inv.Func.Impl.Run(call, inv.Recv, inv.Args)
}

func eval(t *testing.T, src string) (lua.LValue, *bind.Binding, error) {
	t.Helper()
	reg, err := bind.NewRegistry(testModule())
	if err != nil {
		t.Fatal(err)
	}
	l := lua.NewState()
	t.Cleanup(l.Close)
	var raised error
	b := reg.Bind(l, direct{}, func(l *lua.LState, err error) {
		raised = err
		l.RaiseError("%s", err.Error())
	})
	l.SetGlobal("store", b.Module("store"))
	for name, v := range b.Globals() {
		l.SetGlobal(name, v)
	}
	if err := l.DoString(src); err != nil {
		if raised == nil {
			t.Fatalf("not raised through bind: %v", err)
		}
		return nil, b, raised
	}
	return l.Get(-1), b, nil
}

func TestStrictArguments(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{`store.box { name = 12 }`, `store.box: name must be a string, got the number 12`},
		{`store.box { name = "a", size = 1.9 }`, `size must be an integer, got the number 1.9`},
		{`store.box { name = "a", size = 2^53 + 2 }`, `size must be an integer`},
		{`store.box { name = "a", size = "12" }`, `size must be an integer, got the string "12"`},
		{`store.box { nam = "a" }`, `nam is not a known key, did you mean "name"?`},
		{`store.box { size = 1 }`, `name is missing: its name`},
		{`store.box { name = "a", sise = 1 }`, `sise is not a known key, did you mean "size"?`},
		{`store.box { name = "a", kind = "woof" }`, `must be one of wood, steel, got the string "woof", did you mean "wood"?`},
		{`store.box { name = "a", keep = "30x" }`, `"30x" is not a valid duration`},
		{`store.box { name = "a", keep = -1 }`, `is not a valid duration`},
		{`store.box { name = "a", since = "now" }`, `since must be an instant`},
		{`store.box { name = "a", key = "hunter2" }`, `key must be a secret, such as secret "NAME"`},
		{`store.box { name = "a", labels = { "x", 3 } }`, `labels[2] must be a string, got the number 3`},
		{`store.box { name = "a", labels = { [1] = "x", [3] = "y" } }`, `a list with a gap at 2`},
		{`store.box { name = "a", [1] = 2 }`, `both numbers and strings`},
		{`store.box { name = function() end }`, `is a function, which is not plain data`},
		{`local t = {} t.t = t store.box(t)`, `contains itself`},
		{`store.box("a")`, `expects one table`},
		{`store.box()`, `expects one table, got 0 arguments`},
		{`store.bocks {}`, `module store: it has no function "bocks"`},
		{`store.box { name = "a" } .put("x", 1)`, `it is a method and was called without its store.Box`},
		{`store.box { name = "a" }:put("x")`, `count is missing`},
		{`store.box { name = "a" }:put("x", 1, { forse = true })`, `did you mean "force"?`},
		{`store.box { name = "a" }:put("x", 1, {}, 4)`, `expects at most 3 arguments, got 4`},
		{`store.box { name = "a" }:pot("x", 1)`, `no field or method "pot"`},
		{`store.box { name = "a" }.name = "b"`, `read-only`},
		{`store.x = 1`, `read-only`},
		{`local s = secret "K"; s.value = 1`, `read-only`},
		{`secret(12)`, `expects a secret's name`},
		{`secret "a b"`, `expects a secret's name`},
		{`check(store.box, { nam = "a" })`, `store.box: nam is not a known key`},
		{`local b = store.box { name = "a" }; check(b.put, b, "x")`, `store.Box:put: count is missing`},
		{`local b = store.box { name = "a" }; check(b.put, "x", 1)`, `called without its store.Box`},
		{`check("store.box", {})`, `expects a function of a module`},
		{`check(function() end)`, `expects a function of a module`},
		{`together(store.box)`, `together: expects tables of a module's function and its arguments, got a function`},
		{`together({ store.box, { name = "a" } }, { "x" })`, `number 2`},
		{`together({ store.box, { nam = "a" } })`, `store.box: nam is not a known key`},
		{`local b = store.box { name = "a" }; together({ b.put, "x", 1 })`, `called without its store.Box`},
		{`local b = store.box { name = "a" }; together({ b.put, b, "x", 1 }, { b.put, b, "bomb", 1 })`, `store.Box:put: no bombs`},
		{`duration(-1)`, `not a valid duration`},
		{`duration(true)`, `must be a duration`},
		{`store.box { name = "a" }:put("bomb", 1)`, `store.Box:put: no bombs`},
	} {
		_, _, err := eval(t, c.src)
		var p *problem.Error
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &p) {
			t.Errorf("%s\n got %v\nwant %s", c.src, err, c.want)
		}
	}
}

func TestResultsAndDefaults(t *testing.T) {
	v, b, err := eval(t, `
		local box = store.box { name = "a", keep = "1h30m", key = secret "K", since = 1.5 }
		local got = box:put("nail", 3)
		local ok, why = box:full()
		return { got.what, got.count, got.side, got.box.name, got.box.size, got.box.kind, got.box.keep, got.box.since,
			tostring(got.box.key), tostring(box), box == got.box, ok, why, duration "2d" }`)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := b.FromLua(v)
	if err != nil {
		t.Fatal(err)
	}
	want := []any{"nail", 3.0, "left", "a", 7.0, "wood", 5400.0, 1.5, "secret(K)", "store.Box(a)", true, false, "half empty", 172800.0}
	got := plain.([]any)
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("value %d: got %v, want %v", i+1, got[i], want[i])
		}
	}
}

func TestJournalRoundTrip(t *testing.T) {
	src := `return { z = 1, a = { true, "x", { } }, ["$handle"] = "no", bytes = "\255\0", box = store.box { name = "b", key = secret "K" }, n = 0.1 }`
	v, b, err := eval(t, src)
	if err != nil {
		t.Fatal(err)
	}
	reg, _ := bind.NewRegistry(testModule())
	plain, err := b.FromLua(v)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := reg.Encode(plain)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(raw), `{"z":1,"a":[`) {
		t.Errorf("keys lost their order: %s", raw)
	}
	back, err := reg.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	again, err := reg.Encode(back)
	if err != nil || string(again) != string(raw) {
		t.Errorf("round trip:\n%s\n%s\n%v", raw, again, err)
	}
	if s := back.(*bind.Object).Values["bytes"]; s != "\xff\x00" {
		t.Errorf("bytes: %q", s)
	}
	if _, err := reg.Decode([]byte(`{"$handle":"store.Box@2","data":{}}`)); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("a newer handle: %v", err)
	}
}

func TestCallRoundTrip(t *testing.T) {
	reg, _ := bind.NewRegistry(testModule())
	args := &putArgs{What: "nail", Count: 3}
	args.Options.Side = "right"
	raw, err := reg.EncodeCall(&bind.Invocation{Func: reg.Func("store.Box:put"), Recv: &box{Name: "a"}, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	inv, err := reg.DecodeCall("store.Box:put", raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := inv.Args.(*putArgs); *got != *args || inv.Recv.(*box).Name != "a" {
		t.Errorf("got %+v %+v", inv.Recv, got)
	}
}

func TestSpecsAreChecked(t *testing.T) {
	for name, spoil := range map[string]func(*bind.Module){
		"function store.box has no doc": func(m *bind.Module) { m.Functions[0].Doc = "" },
		"type store.Box stands twice":   func(m *bind.Module) { m.Plain = append(m.Plain, bind.Table[none]("store.Box", "x")) },
		"no example":                    func(m *bind.Module) { m.Types[0].Methods[0].Example = "" },
		"is bound to": func(m *bind.Module) {
			m.Types[0].Methods[0].Impl = bind.Read(func(*bind.Call, *none, *none) (any, error) { return nil, nil })
		},
	} {
		m := testModule()
		spoil(m)
		if _, err := bind.NewRegistry(m); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q, got %v", name, err)
		}
	}
}

func TestStubAndReference(t *testing.T) {
	reg, _ := bind.NewRegistry(testModule())
	stub := reg.Stub(reg.Modules[0])
	for _, want := range []string{
		"---@meta store", "---@class store.Box", "---@field size? integer in litres", `---@field kind? "wood"|"steel" the material`,
		"---@param options? { force?: boolean, side?: string } how", "function store_Box:put(what, count, options) end", "---@return store.Box # the box",
	} {
		if !strings.Contains(stub, want) {
			t.Errorf("stub lacks %q:\n%s", want, stub)
		}
	}
	ref := reg.Reference(2)
	for _, want := range []string{"## `store`", "box:put(what, count, [options])", "| `size` | integer | `7` | in litres |", "| `options.side` | string | `left` | which side |"} {
		if !strings.Contains(ref, want) {
			t.Errorf("reference lacks %q:\n%s", want, ref)
		}
	}
}

func TestStringsAreWrittenAsJSON(t *testing.T) {
	r := &bind.Registry{}
	for _, want := range []string{"", "plain", "-----BEGIN X-----\nAA+/=\n", "\"\\/<&>\b\f\n\r\t\v\x00\x1f\x7f", "héé, 漢字 🌙", "$x\u2028"} {
		raw, err := r.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := json.Unmarshal(raw, &got); err != nil || got != want {
			t.Errorf("%q became %s: %q, %v", want, raw, got, err)
		}
	}
}

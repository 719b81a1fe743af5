package sandbox_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

// frozen calls the function that the source returns as a step does, and then the second.
func frozen(t *testing.T, source string) (result string, err error) {
	t.Helper()
	s := newState(t, source)
	proto, err := sandbox.Compile("t.lua", source)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	values, err := s.Call(ctx, s.L, s.L.NewFunctionFromProto(proto))
	if err != nil {
		t.Fatal(err)
	}
	fn, _ := values[0].(*lua.LFunction)
	thaw := s.Freeze(fn)
	_, err = s.Call(ctx, s.L, fn)
	if changed := thaw(); err == nil {
		err = changed
	}
	after, afterErr := s.Call(ctx, s.L, values[1])
	if afterErr != nil {
		t.Fatalf("%s: afterwards: %v", source, afterErr)
	}
	return after[0].String(), err
}

// Nothing that a step's function reaches from outside is changed: the line is named, and
// afterwards it can be changed as before.
func TestFreezeRefusesChanges(t *testing.T) {
	const outside = `local t = { 3, 1, 2, a = 1, inner = { 1 } }
		local class = {} class.__index = class
		function class:set(v) self.v = v end
		local object = setmetatable({ v = 1 }, class)
		local n, list = 0, {}
		local function inc() n = n + 1 end
		local function put(v) list[#list + 1] = v end
		local holder = { inc = inc, get = function() return t end }
		local keyed = { [t] = true }
		local function after() t.new, n = 1, n t.new = nil class.x = nil object:set(1)
			return table.concat({ #t, t[1], t[2], t[3], t.a, #t.inner, object.v, n, #list, tostring(class.set ~= nil), tostring(t.b), tostring(class.__index == class) }, " ")
		end
`
	const same = "3 3 1 2 1 1 1 0 0 true nil true"
	for _, body := range []string{
		`t.b = 1`, `t.a = 2`, `t[1] = nil`, `t[4] = 4`, `t.inner[1] = 2`, `table.insert(t, 1)`, `table.remove(t)`, `table.sort(t)`,
		`rawset(t, "a", 2)`, `setmetatable(t, {})`, `object.v = 2`, `object:set(2)`, `class.set = nil`, `put(1)`, `inc()`, `holder.inc()`,
		`holder.get().a = 2`, `for k in pairs(keyed) do k.a = 2 end`, `local function f() t.a = 2 end f()`, `(function() inc() end)()`,
	} {
		source := outside + "return function()\n" + body + " end, after"
		got, err := frozen(t, source)
		e := problem.From(err)
		if err == nil || e.Kind != problem.Usage || e.Place == nil || e.Place.File != "t.lua" || !strings.Contains(e.Hint, "return the value from the step") {
			t.Errorf("%s: %v, %+v", body, err, e)
		}
		if got != same {
			t.Errorf("%s: left %s", body, got)
		}
	}
	// Caught, it changes nothing either.
	if got, err := frozen(t, outside+`return function() pcall(function() t.a = 2 end) end, after`); err != nil || got != same {
		t.Errorf("caught: %s, %v", got, err)
	}
}

// What reads, or changes what the function has made itself, works as ever.
func TestFreezeLetsReads(t *testing.T) {
	const outside = `local t = { 3, 1, 2, a = 1, inner = { 1 } }
		local base = {} base.__index = base
		function base.hello() return "hello" end
		local class = setmetatable({}, base) class.__index = class
		class.__tostring = function(o) return "object " .. o.v end
		class.__eq = function(x, y) return x.v == y.v end
		class.__call = function(o, x) return o.v + x end
		class.__add = function(x, y) return x.v + y.v end
		class.__lt = function(x, y) return x.v < y.v end
		function class.new(v) return setmetatable({ v = v }, class) end
		function class:get() return self.v end
		local object = class.new(1)
		local lazy = setmetatable({}, { __index = function(self, k) return k .. "!" end })
`
	for _, body := range []string{
		`assert(t.a == 1 and #t == 3 and t[2] == 1 and t.nothing == nil and t.inner[1] == 1)`,
		`local n = 0 for k, v in pairs(t) do n = n + 1 end assert(n == 5)`,
		`local n = 0 for i, v in ipairs(t) do n = n + v end assert(n == 6)`,
		`assert(next(t) == 1 and next({}) == nil and select("#", unpack(t)) == 3 and table.concat(t, ",") == "3,1,2" and table.maxn(t) == 3)`,
		`assert(rawget(t, "a") == 1 and rawequal(t, t) and t == t and type(t) == "table")`,
		`assert(getmetatable(t) == nil and getmetatable(object) == class and getmetatable(lazy).__index)`,
		`assert(object:get() == 1 and object.hello() == "hello" and tostring(object) == "object 1" and object(2) == 3)`,
		`local o = class.new(2) o.v = 3 o.w = 4 assert(o:get() == 3 and o + object == 4 and object < o and object == class.new(1) and o.hello() == "hello")`,
		`local own = { t = t } own.x = 1 table.insert(own, 2) own.t = nil assert(own.x == 1 and own[1] == 2)`,
		`assert(lazy.a == "a!")`,
		`local copy = {} for i, v in ipairs(t) do copy[i] = v end table.sort(copy) assert(copy[1] == 1)`,
	} {
		if got, err := frozen(t, outside+"return function() "+body+" end, function() t.b = 1 return t.b .. tostring(object) .. lazy.x end"); err != nil || got != "1object 1x!" {
			t.Errorf("%s: %v, left %s", body, err, got)
		}
	}
}

// A thousand tables cost at most half a millisecond; how long a busy machine takes is not
// tested, only that it is in proportion.
func BenchmarkFreeze(b *testing.B) {
	for _, n := range []int{0, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newState(b, "")
			proto, err := sandbox.Compile("t.lua", fmt.Sprintf(`local t = {} for i = 1, %d do t[i] = { name = "n", i } end return function() return t end`, n))
			if err != nil {
				b.Fatal(err)
			}
			values, err := s.Call(context.Background(), s.L, s.L.NewFunctionFromProto(proto))
			if err != nil {
				b.Fatal(err)
			}
			fn, _ := values[0].(*lua.LFunction)
			for b.Loop() {
				if err := s.Freeze(fn)(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

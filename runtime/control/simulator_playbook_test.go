package control_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// book is a generated playbook.
type book struct {
	source  string
	calls   map[string]*intent // by the thing's name
	deferds []string           // things of deferred functions
	polls   bool
	timeout bool
	mutates bool // a step writes outside of itself: refused, or the replay differs
	branch  bool // its way depends on results
}

// intent is a call that stands in a playbook.
type intent struct {
	fn, name, data string
	caught         bool // inside pcall: the script continues without it
	probed         bool // the step has a probe of its own
	varies         bool // its data is read anew by each attempt
	deferred       bool
	used           bool // what it returns is the step's result
}

// workLimit is the timeout of playbooks that have one.
const workLimit = 31 * time.Second

// author writes a playbook.
type author struct {
	t       *rapid.T
	out     strings.Builder
	book    *book
	names   int
	steps   []string // that have a result, as variables
	started []string // names of all steps so far
	depth   int
	frail   bool // each failed attempt ends a round
}

func drawBook(t *rapid.T) *book {
	a := &author{t: t, book: &book{calls: map[string]*intent{}}}
	timeout := ""
	if a.one(6) {
		a.book.timeout, timeout = true, fmt.Sprintf(" timeout = %q,", workLimit)
	}
	a.frail = a.one(3)
	a.line("return {%s run = function(ctx)", timeout)
	if a.book.timeout && !a.one(3) {
		a.late()
	}
	a.items(rapid.IntRange(1, 5).Draw(t, "items"))
	if a.one(6) {
		a.line(`error "the script's own"`)
	}
	a.line("end }")
	a.book.source = a.out.String()
	return a.book
}

func (a *author) line(format string, args ...any) { fmt.Fprintf(&a.out, format+"\n", args...) }

// one is true once in n times; what is drawn is smallest where it is not.
func (a *author) one(n int) bool { return rapid.IntRange(0, n-1).Draw(a.t, "one in") == n-1 }

func (a *author) name(kind string) string {
	a.names++
	return fmt.Sprintf("%s%d", kind, a.names)
}

func (a *author) items(n int) {
	for range n {
		a.item()
	}
}

func (a *author) item() {
	kinds := []func(){
		a.step, a.step, a.step, a.loop, a.poll, a.sleep, a.approve, a.undo, a.deferred, a.mutation, a.changingPoll,
	}
	if a.depth < 2 && len(a.steps) > 0 {
		kinds = append(kinds, a.branch, a.branch)
	}
	kinds[rapid.IntRange(0, len(kinds)-1).Draw(a.t, "item")]()
}

// step is a step with some calls, the last of which is its result.
func (a *author) step() {
	name := a.name("step")
	a.started = append(a.started, name)
	var calls []*intent
	for range rapid.SampledFrom([]int{1, 1, 2, 3, 0}).Draw(a.t, "calls") {
		calls = append(calls, a.intent())
	}
	a.line("world.at %q", name)
	a.line("local %s = ctx:step(%q, %s, function()", name, name, a.options(calls))
	a.line("local got")
	for _, c := range calls {
		c.used = true
		a.call(c)
	}
	a.line("return got\nend)")
	if len(calls) > 0 {
		a.steps = append(a.steps, name)
	}
}

func (a *author) intent() *intent {
	c := &intent{
		fn:   rapid.SampledFrom([]string{"make", "blind", "keep", "again", "restart", "knock"}).Draw(a.t, "function"),
		name: a.name("thing"), data: drawData(a.t), caught: a.one(5), varies: a.one(10),
	}
	a.book.calls[c.name] = c
	return c
}

// drawData returns an argument, often with bytes that some encoding treats specially.
func drawData(t *rapid.T) string {
	parts := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "&", "<", ">", "\u2028", `"`, "'", `\`, "\n", "é", "\x00", "]]", "# Issuer: O=R&D"}), 0, 4)
	return strings.Join(parts.Draw(t, "data"), "")
}

func (a *author) options(calls []*intent) string {
	var opts []string
	if a.frail {
		opts = append(opts, "retry = 1")
	} else if n := rapid.IntRange(0, 3).Draw(a.t, "retry"); n > 0 {
		opts = append(opts, fmt.Sprintf(`retry = { count = %d, backoff = "%ds" }`, n, 1+n*4))
	}
	if len(calls) == 1 && !calls[0].varies && a.one(6) {
		calls[0].probed = true
		opts = append(opts, fmt.Sprintf("probe = function() return %s:made() end", handle(calls[0])))
	}
	return "{ " + strings.Join(opts, ", ") + " }"
}

func handle(c *intent) string {
	return fmt.Sprintf("world.thing { name = %q, data = %s }", c.name, quote(c.data))
}

// call is the Lua of a call, whose result becomes got.
func (a *author) call(c *intent) {
	data := quote(c.data)
	if c.varies {
		data = fmt.Sprintf("%s:tick()", handle(c))
	}
	text := fmt.Sprintf("%s:%s(%s)", handle(c), c.fn, data)
	if !c.caught {
		a.line("got = %s", text)
		return
	}
	a.line("do local ok, v = pcall(function() return %s end) if ok then got = v end end", text)
}

// loop is a step that continues after each call that fails.
func (a *author) loop() {
	name := a.name("step")
	a.started = append(a.started, name)
	fn := rapid.SampledFrom([]string{"make", "blind", "keep", "again", "knock"}).Draw(a.t, "function")
	a.line("world.at %q", name)
	a.line("ctx:step(%q, function()", name)
	a.line("for _, name in ipairs {")
	for range rapid.IntRange(2, 3).Draw(a.t, "nodes") {
		c := &intent{fn: fn, name: a.name("thing"), caught: true}
		a.book.calls[c.name] = c
		a.line("%q,", c.name)
	}
	a.line("} do pcall(function() world.thing { name = name }:%s() end) end\nend)", fn)
}

// late is a step whose time can be used up while its first call is unclear: the second one
// is of another function, and does not ask about that first.
func (a *author) late() {
	name := a.name("step")
	a.started = append(a.started, name)
	a.line("world.at %q", name)
	a.line("ctx:step(%q, function()", name)
	a.line("local got")
	for _, fn := range []string{rapid.SampledFrom([]string{"make", "blind", "restart"}).Draw(a.t, "unclear"), "keep"} {
		c := &intent{fn: fn, name: a.name("thing"), caught: true}
		a.book.calls[c.name] = c
		a.call(c)
	}
	a.line("end)")
}

func (a *author) poll() {
	name := a.name("poll")
	a.started, a.book.polls = append(a.started, name), true
	every := rapid.SampledFrom([]string{"", `, every = "5s"`, `, every = "1h"`}).Draw(a.t, "every")
	a.line("world.at %q", name)
	a.line(`ctx:poll(%q, { within = "90d"%s }, function() return world.thing { name = %q }:ready() end)`, name, every, name)
}

// changingPoll is a poll that changes something, which must be refused.
func (a *author) changingPoll() {
	if !a.one(3) {
		a.poll()
		return
	}
	name := a.name("poll")
	a.started, a.book.polls = append(a.started, name), true
	c := &intent{fn: rapid.SampledFrom([]string{"make", "blind"}).Draw(a.t, "function"), name: a.name("thing")}
	a.book.calls[c.name] = c
	a.line("world.at %q", name)
	a.line(`ctx:poll(%q, { within = "90d" }, function() %s:%s() return world.thing { name = %q }:ready() end)`, name, handle(c), c.fn, name)
}

func (a *author) sleep() {
	a.line("ctx:sleep %q", rapid.SampledFrom([]string{"5s", "40s", "3h"}).Draw(a.t, "sleep"))
}

func (a *author) approve() { a.line("ctx:approve %q", a.name("gate")) }

func (a *author) undo() {
	if len(a.started) == 0 || a.depth > 0 {
		a.step()
		return
	}
	a.line("ctx:undo(%q)", rapid.SampledFrom(a.started).Draw(a.t, "undo"))
}

func (a *author) deferred() {
	c := &intent{fn: "again", name: a.name("thing"), deferred: true}
	a.book.calls[c.name] = c
	a.book.deferds = append(a.book.deferds, c.name)
	a.line("ctx:defer(function(name) world.thing { name = name }:again() end, %q)", c.name)
}

// mutation is a step that tells by more than its result.
func (a *author) mutation() {
	if !a.one(3) {
		a.step()
		return
	}
	name := a.name("step")
	a.started, a.book.mutates = append(a.started, name), true
	a.line("local s_%s = {}", name)
	a.line("world.at %q", name)
	a.line("ctx:step(%q, function() %s end)", name, rapid.SampledFrom([]string{
		"s_" + name + ".due = true", "rawset(s_" + name + `, "due", true)`, "table.insert(s_" + name + ", 1)",
	}).Draw(a.t, "mutation"))
	a.line(`if next(s_%s) == nil then %s end`, name, rapid.SampledFrom([]string{`ctx:skip "not due"`, `error "not due"`}).Draw(a.t, "then"))
}

// branch goes one way or the other after what an earlier step returned.
func (a *author) branch() {
	a.book.branch = true
	result := a.steps[len(a.steps)-1]
	a.line("if %s and %s.n %% 2 == 0 then", result, result)
	a.inside()
	a.line("else")
	a.inside()
	a.line("end")
}

func (a *author) inside() {
	steps, started := slices.Clone(a.steps), slices.Clone(a.started)
	a.depth++
	a.items(rapid.IntRange(1, 2).Draw(a.t, "inside"))
	a.depth--
	a.steps, a.started = steps, started // what stands inside is unknown after it
}

// quote returns s as a Lua string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			fmt.Fprintf(&b, `\%03d`, c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

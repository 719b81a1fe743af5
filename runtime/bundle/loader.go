package bundle

import (
	"context"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
	"moonseal/runtime/suggest"
)

// loader loads one script, with what it requires, into one state.
type loader struct {
	bundle  *Bundle
	state   *sandbox.State
	file    string
	world   World
	allowed map[string]bool // sources that the script may require
	cache   map[string]lua.LValue
	chain   []string // sources being loaded, outermost first
	made    map[*lua.LTable]*Playbook

	playbookName string // the one that is to run; "" when the script is only inspected
}

// made is a playbook that a script returned.
type made struct {
	table    *lua.LTable
	playbook *Playbook
}

// loader prepares s: globals, require, playbook.
func (b *Bundle) loader(s *sandbox.State, file string) *loader {
	l := &loader{bundle: b, state: s, file: file, cache: map[string]lua.LValue{}, made: map[*lua.LTable]*Playbook{}}
	if b.env.Open != nil {
		if b.env.Loading != nil {
			b.env.Loading(file)
		}
		l.world = b.env.Open(s)
	}
	for name, value := range l.world.Globals {
		s.SetGlobal(name, value)
	}
	s.SetGlobal("require", s.L.NewFunction(l.require))
	s.SetGlobal("playbook", s.L.NewFunction(l.playbook))
	s.Seal()
	return l
}

// needs returns the sources that the script needs, itself included, sorted: all
// that it and what it requires name in a require, run or not.
func (l *loader) needs() ([]string, error) {
	// Hooks for all are a part of every playbook.
	todo := append(l.bundle.hookFiles(), l.file)
	seen := map[string]bool{}
	for _, file := range todo {
		seen[file] = true
	}
	for len(todo) > 0 {
		file := todo[0]
		todo = todo[1:]
		proto := l.bundle.protos[file]
		if proto == nil {
			continue // broken, and reported as such
		}
		for _, r := range sandbox.Requires(proto) {
			source, err := l.resolve(file, r.Name)
			if err != nil {
				e := *problem.From(err)
				e.Place = &problem.Place{File: file, Line: r.Line}
				return nil, &e
			}
			if source != "" && !seen[source] {
				seen[source] = true
				todo = append(todo, source)
			}
		}
	}
	l.allowed = seen
	return slices.Sorted(maps.Keys(seen)), nil
}

// load runs the script and returns its playbooks.
func (l *loader) load(ctx context.Context) ([]made, error) {
	values, err := l.call(ctx)
	if err != nil {
		return nil, err
	}
	return l.returned(values)
}

// call runs the script.
func (l *loader) call(ctx context.Context) ([]lua.LValue, error) {
	if l.allowed == nil {
		if _, err := l.needs(); err != nil {
			return nil, err
		}
	}
	l.chain = []string{l.file}
	s := l.state
	return s.Call(ctx, s.L, s.L.NewFunctionFromProto(l.bundle.protos[l.file]))
}

// returned reads what a script returned: a playbook or a list of them.
func (l *loader) returned(values []lua.LValue) ([]made, error) {
	wrong := &problem.Error{
		Kind: problem.Usage, Message: "the script returns no playbook", Hint: "end it with: return playbook { name = …, run = function(ctx) … end }",
		Place: &problem.Place{File: l.file},
	}
	if len(values) == 0 || values[0].Type() != lua.LTTable {
		if made := l.onlyMade(); made != nil {
			wrong.Message, wrong.Hint = "the playbook that is made here is not returned", "write return before it"
			wrong.Place.Line = made.Line
		}
		return nil, wrong
	}
	t, _ := values[0].(*lua.LTable)
	tables := []*lua.LTable{t}
	if l.made[t] == nil {
		tables = nil
		for i := 1; i <= t.Len(); i++ {
			entry, _ := t.RawGetInt(i).(*lua.LTable)
			tables = append(tables, entry)
		}
	}
	var out []made
	names := map[string]bool{}
	for _, t := range tables {
		first := l.made[t]
		if first == nil {
			return nil, wrong
		}
		p, err := describe(t) // again: the script may have changed it since
		if err != nil {
			e := *problem.From(err)
			e.Place = &problem.Place{File: l.file, Line: first.Line}
			return nil, &e
		}
		p.Name, p.File, p.Line = first.Name, first.File, first.Line
		if names[p.Name] {
			return nil, &problem.Error{
				Kind: problem.Usage, Message: fmt.Sprintf("two playbooks called %q in one script", p.Name),
				Place: &problem.Place{File: l.file, Line: p.Line},
			}
		}
		names[p.Name] = true
		out = append(out, made{t, p})
	}
	if len(out) == 0 {
		return nil, wrong
	}
	return out, nil
}

// onlyMade returns the playbook that the script made if it is one, else nil.
func (l *loader) onlyMade() *Playbook {
	if len(l.made) != 1 {
		return nil
	}
	for _, p := range l.made {
		return p
	}
	return nil
}

// playbook is the global function that makes a playbook of a table.
func (l *loader) playbook(L *lua.LState) int {
	t, ok := L.Get(1).(*lua.LTable)
	if !ok || L.GetTop() != 1 {
		sandbox.Raise(L, &problem.Error{
			Kind: problem.Usage, Call: "playbook", Message: "expects one table, got " + show(L.Get(1)),
		})
	}
	p, err := describe(t)
	if err != nil {
		sandbox.Raise(L, err)
	}
	if p.Name == "" {
		p.Name = strings.TrimSuffix(path.Base(l.file), ".lua")
		if !validName.MatchString(p.Name) {
			sandbox.Raise(L, &problem.Error{
				Kind: problem.Usage, Call: "playbook",
				Message: fmt.Sprintf("name is missing, and the file's name, %q, cannot be one", p.Name),
			})
		}
	}
	p.File, p.Name = l.file, tenantPrefix(l.file)+p.Name
	p.Line = l.line(L)
	l.made[t] = p
	L.Push(t)
	return 1
}

// line is the line of the script itself that led to the running call, be it by
// way of a library.
func (l *loader) line(L *lua.LState) int {
	for level := 0; ; level++ {
		dbg, ok := L.GetStack(level)
		if !ok {
			return 1
		}
		if _, err := L.GetInfo("Sl", dbg, lua.LNil); err == nil && dbg.Source == l.file && dbg.CurrentLine > 0 {
			return dbg.CurrentLine
		}
	}
}

// require is the scripts' own: modules, embedded scripts and files of the bundle.
func (l *loader) require(L *lua.LState) int {
	name, ok := L.Get(1).(lua.LString)
	if !ok {
		sandbox.Raise(L, &problem.Error{Kind: problem.Usage, Call: "require", Message: "expects a name, got " + show(L.Get(1))})
	}
	if module, ok := l.module(L, string(name)); ok {
		L.Push(module)
		return 1
	}
	from := l.file
	if place := sandbox.Where(L); place != nil {
		from = place.File
	}
	source, err := l.resolve(from, string(name))
	if err != nil {
		sandbox.Raise(L, err)
	}
	value, cached := l.cache[source]
	if !cached {
		value = l.run(L, source, string(name))
	}
	L.Push(value)
	return 1
}

// run runs a library's text once.
func (l *loader) run(L *lua.LState, source, name string) lua.LValue {
	proto := l.bundle.protos[source]
	switch {
	case slices.Contains(l.chain, source):
		sandbox.Raise(L, &problem.Error{
			Kind: problem.Usage, Call: "require",
			Message: "scripts require each other in a circle: " + strings.Join(append(l.chain, source), " -> "),
		})
	case proto == nil:
		sandbox.Raise(L, &problem.Error{Kind: problem.Script, Call: "require", Message: source + " is broken itself"})
	case !l.allowed[source]:
		sandbox.Raise(L, &problem.Error{
			Kind: problem.Usage, Call: "require", Message: fmt.Sprintf("the name %q is computed", name),
			Hint: "write the name out, so that the bundle knows what the playbook needs",
		})
	}
	l.chain = append(l.chain, source)
	defer func() { l.chain = l.chain[:len(l.chain)-1] }()
	L.Push(L.NewFunctionFromProto(proto))
	L.Call(0, 1)
	value := L.Get(-1)
	L.Pop(1)
	if value == lua.LNil {
		value = lua.LTrue
	}
	l.cache[source] = value
	return value
}

var libraryName = regexp.MustCompile(`^lib(\.[A-Za-z0-9_-]+)+$`)

// resolve finds the source that name stands for in a require in the source from;
// "" for a module.
func (l *loader) resolve(from, name string) (string, error) {
	if _, ok := l.world.Modules[name]; ok {
		return "", nil
	}
	if _, ok := l.bundle.env.Embedded[name]; ok {
		return name, nil
	}
	if libraryName.MatchString(name) && strings.HasSuffix(from, ".lua") {
		file := strings.ReplaceAll(name, ".", "/") + ".lua"
		for _, prefix := range []string{tenantPrefix(from), ""} {
			if _, ok := l.bundle.sources[prefix+file]; ok {
				return prefix + file, nil
			}
		}
	}
	near := suggest.Phrase(name, l.requirable(from))
	e := &problem.Error{Kind: problem.Usage, Call: "require", Message: fmt.Sprintf("there is no %q%s", name, near)}
	if !strings.Contains(name, ".") && near == "" {
		e.Hint = "files are required as lib.name, from the folder lib/"
	}
	return "", e
}

// requirable lists the names that a require in the source from may use.
func (l *loader) requirable(from string) []string {
	names := slices.Collect(maps.Keys(l.world.Modules))
	names = slices.AppendSeq(names, maps.Keys(l.bundle.env.Embedded))
	for file := range l.bundle.sources {
		for _, prefix := range []string{tenantPrefix(from), ""} {
			if rest, ok := strings.CutPrefix(file, prefix+"lib/"); ok {
				names = append(names, "lib."+strings.ReplaceAll(strings.TrimSuffix(rest, ".lua"), "/", "."))
			}
		}
	}
	slices.Sort(names)
	return names
}

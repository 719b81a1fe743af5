package bundle_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/bundle"
	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

// good is a script that returns one playbook called after its file.
const good = `return playbook { schedule = "17 3 * * *", run = function(ctx) return 7 end }`

// write makes a folder of scripts.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// env has a module that must not be called while loading, and an embedded script.
func env() bundle.Env {
	return bundle.Env{
		Embedded: map[string]string{"moonseal.renew": `
			local acme = require "acme"
			return { tomcat = function(t) t.run = function(ctx) return acme end return playbook(t) end }`},
		Open: func(s *sandbox.State) bundle.World {
			acme := s.L.NewTable()
			acme.RawSetString("order", s.L.NewFunction(func(L *lua.LState) int {
				sandbox.Raise(L, &problem.Error{Kind: problem.Usage, Call: "acme.order", Message: "outside of a step"})
				return 0
			}))
			s.Module("acme", acme)
			return bundle.World{
				Modules: map[string]lua.LValue{"acme": acme},
				Globals: map[string]lua.LValue{"secret": s.L.NewFunction(func(*lua.LState) int { return 1 })},
			}
		},
	}
}

func load(t testing.TB, files map[string]string) *bundle.Bundle {
	t.Helper()
	tree, err := bundle.Read(write(t, files))
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Load(context.Background(), tree, env())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func names(b *bundle.Bundle) string {
	var out []string
	for _, p := range b.Playbooks {
		out = append(out, p.Name)
	}
	return strings.Join(out, " ")
}

func TestFolder(t *testing.T) {
	b := load(t, map[string]string{
		"dfw.lua":             good,
		"foo/bar.lua":         `local u = require "lib.util" return playbook { name = u.name, run = function() end }`,
		"foo/lib/util.lua":    `return { name = "tenants" }`,
		"lib/util.lua":        `return { name = "everyones" }`,
		"top.lua":             `return playbook { name = require "lib.util".name, run = function() end }`,
		"two.lua":             `return { playbook { name = "a", run = print0 or function() end }, playbook { name = "b", run = function() end } }`,
		"drop.lua":            `return require("moonseal.renew").tomcat { name = "drop", on = { failure = function() end }, window = "Sat" }`,
		"lib/deep/er.lua":     `return 1`,
		".hidden.lua":         `syntax error`,
		"..2024/x.lua":        `syntax error`,
		"readme.md":           `no lua`,
		"dfw_test.lua":        `require "lab"`,
		"foo/nested/deep.lua": good,
	})
	if got := names(b); got != "dfw drop everyones foo/tenants" {
		t.Errorf("playbooks: %s", got)
	}
	p := b.Find("drop")
	if p == nil || p.Window != "Sat" || !slices.Equal(p.Hooks, []string{"failure"}) || !slices.Equal(p.Needs, []string{"drop.lua", "moonseal.renew"}) {
		t.Errorf("drop: %+v", p)
	}
	if p := b.Find("foo/tenants"); p == nil || p.Tenant() != "foo" || !slices.Equal(p.Needs, []string{"foo/bar.lua", "foo/lib/util.lua"}) {
		t.Errorf("tenant: %+v", p)
	}
	if len(b.Problems) != 2 { // print0 is undefined; nested is too deep
		t.Errorf("problems: %v", b.Problems)
	}
	if _, err := json.Marshal(b.Playbooks); err != nil {
		t.Error(err)
	}
}

func TestOneBrokenScriptHidesNoOther(t *testing.T) {
	for _, c := range []struct {
		file, text string
		line       int
		want       string // part of the rendering
	}{
		{"syntax.lua", "local x = 1\nif x = 1 then\nend\n" + good, 2, "2 | if x = 1 then\n     |      ^"},
		{"eof.lua", "return playbook { run = function()", 1, "unexpected end"},
		{"runtime.lua", "local x\n\nreturn playbook { name = x.y }", 3, "3 | return playbook { name = x.y }"},
		{"undefined.lua", "return plabook {}", 1, `did you mean "playbook"?`},
		{"global.lua", "x = 1\n" + good, 1, `assigns the global variable "x"`},
		{"nothing.lua", "local x = 1", 0, "returns no playbook"},
		{"plain.lua", "return { run = function() end }", 0, "returns no playbook"},
		{"key.lua", "return playbook {\n  shedule = '', run = function() end }", 2, `shedule is not a known key, did you mean "schedule"?`},
		{"norun.lua", "\nreturn playbook { name = 'x' }", 2, "run is missing"},
		{"run.lua", "return playbook { run = 7 }", 1, "run must be a function, got 7"},
		{"name.lua", "return playbook { name = 'a/b', run = function() end }", 1, `got "a/b"`},
		{"my playbook.lua", good, 1, "cannot be one"},
		{"timeout.lua", "return playbook { timeout = '2 hours', run = function() end }", 1, "timeout"},
		{"hook.lua", "return playbook { on = { fail = function() end }, run = function() end }", 1, "on has no"},
		{"mode.lua", "return playbook { mode = 'atuo', run = function() end }", 1, `did you mean "auto"?`},
		{"locks.lua", "return playbook { locks = { 1 }, run = function() end }", 1, "locks must be a name or a list of names"},
		{"stages.lua", "return playbook { stages = { x = 1 }, run = function() end }", 1, "stages must be a table of functions, got 1 for x"},
		{"schedule.lua", "return playbook { schedule = 5, run = function() end }", 1, "schedule must be a string or a table, got 5"},
		{"twice.lua", "local p = playbook { run = function() end }\nreturn { p, p }", 1, "two playbooks"},
		{"changed.lua", "local p = playbook { run = function() end }\np.run = nil\nreturn p", 1, "run is missing"},
		{"module.lua", `local a = require "acne"` + "\n" + good, 1, `did you mean "acme"?`},
		{"lazy.lua", "return playbook { run = function()\n require 'lib.utl' end }", 2, `did you mean "lib.util"?`},
		{"bare.lua", "local u = require 'util'\n" + good, 1, "files are required as lib.name"},
		{"computed.lua", "local u = require('lib.' .. 'util')\n" + good, 1, "is computed"},
		{"up.lua", "local u = require 'lib...syntax'\n" + good, 1, "there is no"},
		{"pure.lua", "require 'acme'.order()\n" + good, 1, "outside of a step"},
		{"cycle.lua", "local a = require 'lib.a'\n" + good, 1, "cycle.lua -> lib/a.lua -> lib/b.lua -> lib/a.lua"},
		{"inlib.lua", "local a = require 'lib.broken'\n" + good, 1, "lib/broken.lua is broken itself"},
		{"libraises.lua", "local a = require 'lib.raises'\n" + good, 2, "2 | error 'no good'"},
	} {
		t.Run(c.file, func(t *testing.T) {
			b := load(t, map[string]string{
				c.file: c.text, "dfw.lua": good, "lib/util.lua": "return {}",
				"lib/a.lua": "return require 'lib.b'", "lib/b.lua": "return require 'lib.a'",
				"lib/broken.lua": "local", "lib/raises.lua": "local x\nerror 'no good'",
			})
			if got := names(b); got != "dfw" {
				t.Errorf("playbooks: %s", got)
			}
			b.Problems = slices.DeleteFunc(b.Problems, func(e *problem.Error) bool { return e.Place.File == "lib/broken.lua" })
			if len(b.Problems) != 1 {
				t.Fatalf("problems: %v", b.Problems)
			}
			e := b.Problems[0]
			text := fmt.Sprintf("%s:%d: %s\n%s\n%s", e.Place.File, e.Place.Line, e.Error(), e.Place.Excerpt(), e.Hint)
			if !strings.Contains(text, c.want) || c.line > 0 && (e.Place.Line != c.line || e.Place.Source == "") {
				t.Errorf("line %d:\n%s", e.Place.Line, text)
			}
		})
	}
}

func TestEndlessLoadIsStopped(t *testing.T) {
	tree := &bundle.Tree{Files: map[string]string{"dfw.lua": good, "loop.lua": "while true do pcall(function() while true do end end) end", "zrh.lua": good}}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := bundle.Load(ctx, tree, env()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	b, err := bundle.Load(context.Background(), tree, env())
	if err != nil || names(b) != "dfw zrh" || len(b.Problems) != 1 || b.Problems[0].Kind != problem.Timeout || b.Problems[0].Place.File != "loop.lua" {
		t.Errorf("%s, %v, %v", names(b), b.Problems, err)
	}
}

func TestDuplicates(t *testing.T) {
	b := load(t, map[string]string{
		"a-copy.lua": `return playbook { name = "dfw", run = function() end }`,
		"dfw.lua":    good,
		"foo/x.lua":  `return playbook { name = "dfw", run = function() end }`, // another tenant's is another
	})
	if got := names(b); got != "dfw foo/dfw" || b.Find("dfw").File != "dfw.lua" {
		t.Errorf("playbooks: %s from %s", got, b.Find("dfw").File)
	}
	if len(b.Problems) != 1 || b.Problems[0].Place.File != "a-copy.lua" || !strings.Contains(b.Problems[0].Message, "dfw.lua") {
		t.Errorf("problems: %v", b.Problems)
	}
}

func TestHashCoversWhatAPlaybookNeeds(t *testing.T) {
	files := map[string]string{
		"a.lua":        `local l = require "lib.one" return require("moonseal.renew").tomcat { name = "a" }`,
		"b.lua":        good,
		"lib/one.lua":  `return { f = function() return require "lib.two" end }`, // not run while loading
		"lib/two.lua":  `return 2`,
		"lib/none.lua": `return 0`,
	}
	before := load(t, files)
	if want := []string{"a.lua", "lib/one.lua", "lib/two.lua", "moonseal.renew"}; !slices.Equal(before.Find("a").Needs, want) {
		t.Fatalf("needs %v, problems %v", before.Find("a").Needs, before.Problems)
	}
	for _, c := range []struct {
		file    string
		changes string
	}{{"a.lua", "a"}, {"lib/two.lua", "a"}, {"lib/none.lua", ""}, {"b.lua", "b"}} {
		changed := maps.Clone(files)
		changed[c.file] += "\n-- changed"
		after := load(t, changed)
		got := ""
		for _, name := range []string{"a", "b"} {
			if after.Find(name).Hash != before.Find(name).Hash {
				got += name
			}
		}
		if got != c.changes {
			t.Errorf("%s changed the hash of %q, want %q", c.file, got, c.changes)
		}
	}
}

func TestSourcesLoadAlike(t *testing.T) {
	b := load(t, map[string]string{
		"foo/a.lua":       `local l = require "lib.one" return require("moonseal.renew").tomcat { name = "a" }`,
		"foo/lib/one.lua": `return {}`, "b.lua": good,
	})
	sources := b.Sources("foo/a")
	if len(sources) != 3 {
		t.Fatalf("sources %v", slices.Sorted(maps.Keys(sources)))
	}
	newer := env()
	newer.Embedded = map[string]string{"moonseal.renew": "error 'the program was updated'"}
	again, err := bundle.FromSources(context.Background(), sources, newer)
	if err != nil || len(again.Problems) > 0 {
		t.Fatal(err, again.Problems)
	}
	if names(again) != "foo/a" || again.Find("foo/a").Hash != b.Find("foo/a").Hash {
		t.Errorf("another bundle: %s", names(again))
	}
	if b.Sources("none") != nil {
		t.Error("sources of no playbook")
	}
}

// What a script asks wrongly of an embedded script is an error at the script's own
// line, even where its last statement hands all on by a tail call.
func TestErrorsOfEmbeddedScriptsNameTheCaller(t *testing.T) {
	b := load(t, map[string]string{"a.lua": "-- first\nreturn require(\"moonseal.renew\").tomcat { nme = 'x' }"})
	if len(b.Problems) != 1 || b.Problems[0].Place == nil {
		t.Fatalf("got %v", b.Problems)
	}
	if p := b.Problems[0].Place; p.File != "a.lua" || p.Line != 2 || !strings.HasPrefix(p.Source, "return require") {
		t.Errorf("at %+v", p)
	}
}

func TestPlaybookInAState(t *testing.T) {
	ctx := context.Background()
	b := load(t, map[string]string{
		"a.lua":        `local calls = 0 return playbook { run = function() calls = calls + 1 return calls, require("lib.lazy").x end }`,
		"lib/lazy.lua": `return { x = "lazy" }`,
	})
	for range 2 { // each state has variables of its own
		s := sandbox.New(ctx, sandbox.Options{Source: b.Source})
		defer s.Close()
		table, err := b.Playbook(ctx, s, "a")
		if err != nil {
			t.Fatal(err)
		}
		values, err := s.Call(ctx, s.L, table.RawGetString("run"))
		if err != nil || len(values) != 2 || values[0].String() != "1" || values[1].String() != "lazy" {
			t.Errorf("%v, %v", values, err)
		}
	}
	s := sandbox.New(ctx, sandbox.Options{Source: b.Source})
	defer s.Close()
	if _, err := b.Playbook(ctx, s, "none"); err == nil || problem.From(err).Kind != problem.NotFound {
		t.Errorf("got %v", err)
	}
}

func BenchmarkLoad1000(b *testing.B) {
	files := map[string]string{"lib/util.lua": "return { name = function(n) return 'dfw' .. n end }"}
	for i := range 1000 {
		files[fmt.Sprintf("s%04d.lua", i)] = fmt.Sprintf(`
local acme, util = require "acme", require "lib.util"
return require("moonseal.renew").tomcat {
  name = util.name(%d), schedule = "17 3 * * *", window = "Sat,Sun 22:00-05:00 America/Chicago",
  timeout = "2h",
  on = { failure = function(ctx, err) return err.message end },
  stages = { restarting_services = function(ctx, s) local x = {} for i = 1, 10 do x[i] = i end return x end },
}`, i)
	}
	dir := write(b, files)
	for b.Loop() {
		tree, err := bundle.Read(dir)
		if err != nil {
			b.Fatal(err)
		}
		got, err := bundle.Load(context.Background(), tree, env())
		if err != nil || len(got.Playbooks) != 1000 {
			b.Fatal(err, got.Problems[0])
		}
	}
}

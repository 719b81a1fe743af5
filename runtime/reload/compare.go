package reload

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/bundle"
	"moonseal/runtime/problem"
)

// script is what is known of a file that returns playbooks.
type script struct {
	text     string // as it was last loaded, well or not
	good     []*Playbook
	problems []*problem.Error // of text
	asked    bool             // [Options.Last] was called
}

// library is what is known of a file that is for require only, or has hooks.
type library struct {
	text     string
	good     string // of hooks: the last good text, "" for none
	problems []*problem.Error
}

// difference is what has changed in the folder.
type difference struct {
	scripts []string // to be loaded: changed themselves, or in need of what did
	libs    []string // changed, among them those that are gone
	removed []string // scripts that are gone
	waiting bool     // there are more changes, which may be half done
}

func (d *difference) empty() bool {
	return len(d.scripts) == 0 && len(d.libs) == 0 && len(d.removed) == 0 && !d.waiting
}

// compare returns in what the tree differs from what was loaded. What may be half
// written, or half replaced, waits, and with it what may need it; with now nothing
// waits.
func (r *Reloader) compare(tree *bundle.Tree, now bool) *difference {
	c := &comparison{r: r, tree: tree, now: now, moving: map[string]bool{}}
	c.missing()
	c.libraries()
	c.scripts()
	return &c.d
}

type comparison struct {
	r      *Reloader
	tree   *bundle.Tree
	now    bool
	moving map[string]bool // tenants with a library that may be half written; "" for one of all tenants
	d      difference
}

// wait reports whether the file must be left out for now.
func (c *comparison) wait(name string) bool {
	if c.now || !c.r.cache.moving(name) {
		return false
	}
	c.d.waiting = true
	return true
}

// missing finds what is gone. Some editors, and mv by hand, remove a file before they
// put its successor there, so it must stay away for a while.
func (c *comparison) missing() {
	at := c.r.clock.Now()
	gone := map[string]time.Time{}
	for name := range c.r.known() {
		if _, there := c.tree.Files[name]; there || leftOut(c.tree.Problems, name) {
			continue
		}
		since, ok := c.r.gone[name]
		if !ok {
			since = at
		}
		gone[name] = since
		library := bundle.Library(name)
		switch {
		case !c.now && at.Sub(since) < c.r.rest:
			c.d.waiting = true
			if library {
				c.moving[bundle.Tenant(name)] = true
			}
		case library:
			c.d.libs = append(c.d.libs, name)
		default:
			c.d.removed = append(c.d.removed, name)
		}
	}
	c.r.gone = gone
	slices.Sort(c.d.removed)
}

// known yields the files that were loaded, well or not.
func (r *Reloader) known() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range r.scripts {
			if !yield(name) {
				return
			}
		}
		for name := range r.libs {
			if !yield(name) {
				return
			}
		}
	}
}

// leftOut reports whether a problem of reading the folder is about the file, or about
// a folder above it: then it is unknown whether the file exists.
func leftOut(problems []*problem.Error, name string) bool {
	return slices.ContainsFunc(problems, func(e *problem.Error) bool {
		place := fileOf(e)
		return place == name || strings.HasPrefix(name, place+"/")
	})
}

func (c *comparison) libraries() {
	for name, text := range c.tree.Files {
		if !bundle.Library(name) {
			continue
		}
		if old := c.r.libs[name]; old != nil && old.text == text {
			continue
		}
		if c.wait(name) {
			c.moving[bundle.Tenant(name)] = true
			continue
		}
		c.d.libs = append(c.d.libs, name)
	}
	slices.Sort(c.d.libs)
}

func (c *comparison) scripts() {
	affected := c.affected()
	for name, text := range c.tree.Files {
		if bundle.Library(name) {
			continue
		}
		s := c.r.scripts[name]
		if s != nil && s.text == text && !affected(name, s) {
			continue
		}
		switch {
		case c.wait(name):
		case c.moving[""], c.moving[bundle.Tenant(name)]:
			c.d.waiting = true
		default:
			c.d.scripts = append(c.d.scripts, name)
		}
	}
	slices.Sort(c.d.scripts)
}

// affected returns a function that reports whether a script needs one of the libraries
// that have changed. A broken script may need any that it can reach; in a tenant a new
// library replaces the one of that name under lib/.
func (c *comparison) affected() func(name string, s *script) bool {
	changed, added, tenants := map[string]bool{}, map[string]bool{}, map[string]bool{}
	hooks := slices.ContainsFunc(c.d.libs, bundle.Hook)
	for _, lib := range c.d.libs {
		changed[lib], added[lib] = true, c.r.libs[lib] == nil
		tenants[bundle.Tenant(lib)] = true
	}
	return func(name string, s *script) bool {
		tenant := bundle.Tenant(name)
		switch {
		case hooks: // a hook, a new one too, is a part of every playbook
			return true
		case !tenants[""] && !tenants[tenant]:
			return false
		case len(s.good) == 0 || len(s.problems) > 0:
			return true
		}
		return slices.ContainsFunc(s.good[0].Needs, func(need string) bool {
			return changed[need] || tenant != "" && added[tenant+"/"+need]
		})
	}
}

// scriptsOf returns the files that may return playbooks, sorted.
func scriptsOf(tree *bundle.Tree) []string {
	var names []string
	for name := range tree.Files {
		if !bundle.Library(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// lost reports whether a playbook is no longer there: another script, refused before
// because of its name, may have the name now.
func lost(was, is []*Playbook) bool {
	return slices.ContainsFunc(was, func(p *Playbook) bool {
		return !slices.ContainsFunc(is, func(q *Playbook) bool { return p.Name == q.Name })
	})
}

// broken lists the scripts with problems, but for those in except, sorted.
func (r *Reloader) broken(tree *bundle.Tree, except []string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(r.scripts)) {
		_, there := tree.Files[name]
		if there && len(r.scripts[name].problems) > 0 && r.scripts[name].text == tree.Files[name] {
			if _, done := slices.BinarySearch(except, name); !done {
				names = append(names, name)
			}
		}
	}
	return names
}

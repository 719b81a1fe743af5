package reload

import (
	"context"
	"maps"
	"path"
	"slices"

	"moonseal/runtime/bundle"
	"moonseal/runtime/problem"
)

// load reloads changed scripts, then retries those rejected for a name conflict that is
// now gone. If it fails, nothing has changed.
func (r *Reloader) load(ctx context.Context, tree *bundle.Tree, d *difference) error {
	tree, hooks, err := r.hooks(ctx, tree, d)
	if err != nil {
		return err
	}
	l := newLoading(tree, r.options.Load)
	if err := l.all(ctx, d.scripts, d.libs); err != nil {
		return err
	}
	if r.commit(l, d) {
		retried := &difference{scripts: r.broken(tree, d.scripts)}
		if err := l.all(ctx, retried.scripts, nil); err != nil {
			return err
		}
		r.commit(l, retried)
	}
	r.libraryProblems(l)
	r.keepHooks(hooks)
	return r.recall(ctx, d.scripts)
}

// commit stores what was loaded. It reports whether a playbook has left the script that
// it was in.
func (r *Reloader) commit(l *loading, d *difference) (left bool) {
	for _, name := range d.removed {
		left = left || len(r.scripts[name].good) > 0
		delete(r.scripts, name)
	}
	for _, name := range d.libs {
		if kept, text, ok := r.cache.text(name); ok {
			lib := &library{text: text}
			if old := r.libs[kept]; old != nil {
				lib.good = old.good
			}
			r.libs[kept] = lib
		} else {
			delete(r.libs, name)
		}
	}
	for _, name := range d.scripts {
		name, text, _ := r.cache.text(name)
		s := r.scripts[name]
		if s == nil {
			s = &script{}
			r.scripts[name] = s
		}
		s.text, s.problems = text, l.problems[name]
		if found := l.playbooks[name]; len(found) > 0 {
			good := r.playbooks(s.good, found, l.tree)
			left = left || lost(s.good, good)
			s.good = good
		}
	}
	return left
}

// playbooks returns what was found with its sources. A playbook that has not changed
// stays the same value.
func (r *Reloader) playbooks(was []*Playbook, found []*bundle.Playbook, tree *bundle.Tree) []*Playbook {
	good := make([]*Playbook, 0, len(found))
	var sources []Source
	for _, p := range found {
		if i := slices.IndexFunc(was, func(old *Playbook) bool { return old.Name == p.Name && old.Hash == p.Hash }); i >= 0 {
			good = append(good, was[i])
			continue
		}
		if sources == nil { // all of a script's playbooks have the same
			sources = make([]Source, 0, len(p.Needs))
			for _, need := range p.Needs {
				if name, _, ok := r.cache.text(need); ok {
					sources = append(sources, Source{name, tree.Files[need]})
				}
			}
		}
		good = append(good, &Playbook{*p, sources})
	}
	return good
}

// libraryProblems stores the problems of libraries. One that comes from running a
// library shows only when a script that needs it is loaded, so it stays while such a
// script is broken.
func (r *Reloader) libraryProblems(l *loading) {
	waits := map[string]bool{} // tenants with broken scripts
	for name, s := range r.scripts {
		if len(s.problems) > 0 {
			waits[bundle.Tenant(name)], waits[""] = true, true
		}
	}
	for name := range l.passed {
		lib := r.libs[name]
		switch {
		case lib == nil:
		case len(l.problems[name]) > 0:
			lib.problems = l.problems[name]
		case !waits[bundle.Tenant(name)]:
			lib.problems = nil
		}
	}
}

// merge returns the live playbooks and all problems. Of two playbooks with one name
// the one whose file has that name wins, else the first by file.
func (r *Reloader) merge() (playbooks []*Playbook, problems []*problem.Error) {
	problems = slices.Clone(r.left)
	if r.failed != nil {
		problems = append(problems, r.failed)
	}
	for _, lib := range r.libs {
		problems = append(problems, lib.problems...)
	}
	owners := make(map[string]*Playbook, len(r.scripts))
	for _, name := range slices.Sorted(maps.Keys(r.scripts)) {
		s := r.scripts[name]
		problems = append(problems, s.problems...)
		for _, p := range s.good {
			first := owners[p.Name]
			if first == nil {
				owners[p.Name] = p
				continue
			}
			loser := p
			if r.prefer(p, first) {
				owners[p.Name], loser = p, first
			}
			e := bundle.NameTaken(&loser.Playbook, &owners[p.Name].Playbook)
			known := slices.ContainsFunc(r.scripts[loser.File].problems, func(old *problem.Error) bool { return same(old, e) })
			if r.gone[loser.File].IsZero() && !known {
				problems = append(problems, e)
			}
		}
	}
	return slices.AppendSeq(make([]*Playbook, 0, len(owners)), maps.Values(owners)), problems
}

// prefer reports whether p wins the name over first, whose file sorts before p's.
func (r *Reloader) prefer(p, first *Playbook) bool {
	if gone := !r.gone[p.File].IsZero(); gone != !r.gone[first.File].IsZero() {
		return !gone
	}
	called := func(p *Playbook) bool { return path.Base(p.Name)+".lua" == path.Base(p.File) }
	return called(p) && !called(first)
}

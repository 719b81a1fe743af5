package reload

import (
	"context"
	"maps"
	"slices"

	"moonseal/runtime/bundle"
	"moonseal/runtime/problem"
)

// hooks returns the tree with the hooks to use: a broken one, which would be missing in
// all playbooks, is replaced by its last good version. The problems are those of the
// broken ones.
func (r *Reloader) hooks(ctx context.Context, tree *bundle.Tree, d *difference) (*bundle.Tree, map[string][]*problem.Error, error) {
	l := newLoading(tree, r.options.Load)
	problems := map[string][]*problem.Error{}
	for _, name := range l.libs[""] {
		if lib := r.libs[name]; bundle.Hook(name) && lib != nil {
			problems[name] = lib.problems
		}
	}
	if len(d.libs) > 0 && l.hooked() {
		loaded, err := l.call(ctx, nil, l.libs[""])
		if err != nil {
			return nil, nil, err
		}
		l.collect(nil, loaded)
		problems = l.problems
	}
	fixed := *tree
	fixed.Files = maps.Clone(tree.Files)
	broken := map[string][]*problem.Error{}
	for name := range tree.Files {
		if !bundle.Hook(name) || len(problems[name]) == 0 {
			continue
		}
		broken[name] = problems[name]
		if lib := r.libs[name]; lib != nil && lib.good != "" {
			fixed.Files[name] = lib.good
		}
	}
	if len(broken) == 0 {
		return tree, nil, nil
	}
	return &fixed, broken, nil
}

func (l *loading) hooked() bool { return slices.ContainsFunc(l.libs[""], bundle.Hook) }

// keepHooks records which hooks are broken, and the texts of the others.
func (r *Reloader) keepHooks(broken map[string][]*problem.Error) {
	for name, lib := range r.libs {
		if !bundle.Hook(name) {
			continue
		}
		if lib.problems = broken[name]; len(lib.problems) == 0 {
			lib.good = lib.text
		}
	}
}

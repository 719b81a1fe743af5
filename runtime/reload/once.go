package reload

import (
	"context"
	"maps"

	"moonseal/runtime/bundle"
)

// Once reads the folder and loads its scripts as a Reloader does at its start: in
// batches, and without a script that ends the process that loads it, which becomes one
// of the problems. only, if it is not nil, reports whether to load a script. Nothing is
// watched, and Apply is not called. It fails if the folder as a whole cannot be used.
func Once(ctx context.Context, o Options, only func(file string) bool) (*Snapshot, error) {
	o.Apply = nil
	r := New(o)
	r.watch = &watch{log: r.log, folders: map[string]*watched{}}
	tree, err := r.read()
	if err != nil {
		return nil, err
	}
	if only != nil {
		maps.DeleteFunc(tree.Files, func(file, _ string) bool { return !bundle.Library(file) && !only(file) })
	}
	if err := r.update(ctx, tree, r.compare(tree, true)); err != nil {
		return nil, err
	}
	return r.Current(), nil
}

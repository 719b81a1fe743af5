package reload

import (
	"context"
	"fmt"
	"slices"
	"time"

	"moonseal/runtime/bundle"
	"moonseal/runtime/problem"
)

// Loaded is what [Options.Load] found in its files.
type Loaded struct {
	Playbooks []*bundle.Playbook
	Problems  []*problem.Error // each with its Place
}

// Bounds of one call of [Options.Load].
const (
	batchScripts = 1000
	batchBytes   = 4 << 20
	loadTime     = time.Minute
)

// maxFailures is how many calls may fail in one round; the remaining scripts are then
// left for the next.
const maxFailures = 40

// loading is one round of loading.
type loading struct {
	load func(ctx context.Context, files map[string]string) (*Loaded, error)
	tree *bundle.Tree
	libs map[string][]string // libraries by tenant

	failures int
	// What was found. A script without playbooks has problems.
	playbooks map[string][]*bundle.Playbook
	problems  map[string][]*problem.Error // by file
	passed    map[string]bool             // files that were passed to load
}

func newLoading(tree *bundle.Tree, load func(context.Context, map[string]string) (*Loaded, error)) *loading {
	l := &loading{
		load: load, tree: tree, libs: map[string][]string{},
		playbooks: map[string][]*bundle.Playbook{}, problems: map[string][]*problem.Error{}, passed: map[string]bool{},
	}
	for name := range tree.Files {
		if bundle.Library(name) {
			l.libs[bundle.Tenant(name)] = append(l.libs[bundle.Tenant(name)], name)
		}
	}
	return l
}

// all loads the scripts, in batches, with the libraries that they can require,
// and the libraries libs, which no script may need. It fails if nothing can be loaded
// now, whatever is in the scripts.
func (l *loading) all(ctx context.Context, scripts, libs []string) error {
	libs = slices.DeleteFunc(slices.Clone(libs), func(name string) bool { _, there := l.tree.Files[name]; return !there })
	for len(scripts) > 0 || len(libs) > 0 {
		n, bytes := 0, 0
		for n < len(scripts) && n < batchScripts && bytes < batchBytes {
			bytes += len(l.tree.Files[scripts[n]])
			n++
		}
		if err := l.batch(ctx, scripts[:n], libs); err != nil {
			return err
		}
		scripts, libs = scripts[n:], nil
	}
	return nil
}

// batch loads scripts. If that fails as a whole, as when a script ends the process that
// loads it, it bisects them to find which.
func (l *loading) batch(ctx context.Context, scripts, libs []string) error {
	loaded, err := l.call(ctx, scripts, libs)
	if err == nil {
		l.collect(scripts, loaded)
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if l.failures++; l.failures == 1 {
		// If it fails without scripts too, they are not the cause.
		if _, err := l.call(ctx, nil, libs); err != nil {
			return err
		}
	}
	if len(scripts) == 1 {
		e := *problem.From(err)
		l.blame(scripts[0], &problem.Error{
			Kind: problem.Script, Message: "cannot be loaded: " + e.Error(), Cause: err,
			Hint: "loading a script only builds its playbooks: what takes long, or more memory than limits.memory, belongs in run",
		})
		return nil
	}
	if l.failures > maxFailures {
		for _, name := range scripts {
			l.blame(name, &problem.Error{Kind: problem.Script, Message: "not loaded: too many scripts fail", Hint: "fix the others, then: moonseal reload"})
		}
		return nil
	}
	if err := l.batch(ctx, scripts[:len(scripts)/2], libs); err != nil {
		return err
	}
	return l.batch(ctx, scripts[len(scripts)/2:], nil)
}

func (l *loading) call(ctx context.Context, scripts, libs []string) (*Loaded, error) {
	files := map[string]string{}
	add := func(names []string) {
		for _, name := range names {
			files[name] = l.tree.Files[name]
		}
	}
	add(scripts)
	add(libs)
	if len(scripts) > 0 {
		add(l.libs[""])
	}
	tenants := map[string]bool{"": true}
	for _, name := range scripts {
		if tenant := bundle.Tenant(name); !tenants[tenant] {
			tenants[tenant] = true
			add(l.libs[tenant])
		}
	}
	for name := range files {
		l.passed[name] = true
	}
	ctx, cancel := context.WithTimeoutCause(ctx, loadTime, fmt.Errorf("not loaded after %s", loadTime))
	defer cancel()
	return l.load(ctx, files)
}

// collect sorts what was loaded by file.
func (l *loading) collect(scripts []string, loaded *Loaded) {
	for _, p := range loaded.Playbooks {
		l.playbooks[p.File] = append(l.playbooks[p.File], p)
	}
	var libs []string
	for _, e := range loaded.Problems {
		file := fileOf(e)
		if slices.ContainsFunc(l.problems[file], func(old *problem.Error) bool { return same(old, e) }) {
			continue
		}
		l.problems[file] = append(l.problems[file], e)
		if bundle.Library(file) {
			libs = append(libs, fmt.Sprintf("%s:%d", file, lineOf(e)))
		}
	}
	for _, name := range scripts {
		if len(l.playbooks[name]) == 0 && len(l.problems[name]) == 0 {
			l.blame(name, needs(libs))
		}
	}
}

// needs is the problem of a script that raised no error of its own.
func needs(libs []string) *problem.Error {
	e := &problem.Error{Kind: problem.Script, Message: "does not load: a script that it requires raises an error"}
	if len(libs) > 0 {
		e.Hint = "see the error in " + libs[0]
	}
	return e
}

func (l *loading) blame(name string, e *problem.Error) {
	e.Place = &problem.Place{File: name}
	l.problems[name] = append(l.problems[name], e)
}

func same(a, b *problem.Error) bool {
	return fileOf(a) == fileOf(b) && lineOf(a) == lineOf(b) && a.Error() == b.Error()
}

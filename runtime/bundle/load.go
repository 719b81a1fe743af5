package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

// Env is what scripts find beside Lua and each other.
type Env struct {
	// Embedded are scripts that the program brings along, by the name that
	// require knows them by, such as "moonseal.renew".
	Embedded map[string]string
	// Open makes, in a fresh state, the modules for require and the global
	// variables. It is called for each state that a script is loaded in; may be nil.
	Open func(s *sandbox.State) World
	// Loading is called before Open, with the script whose state it is for; may be nil.
	Loading func(file string)
	// Check refuses the text of a file, which compiles. May be nil.
	Check func(file, source string) error
	// Allow refuses a module to a playbook, with an error that says why. May be nil.
	Allow func(playbook, module string) error
}

// World is what [Env.Open] made; its values belong to one state.
type World struct {
	Modules map[string]lua.LValue
	Globals map[string]lua.LValue
}

// Bundle is an immutable, compiled snapshot of a folder of scripts. It may be
// used by several goroutines.
type Bundle struct {
	Playbooks []*Playbook
	Problems  []*problem.Error // of the scripts that were left out, by file

	env     Env
	sources map[string]string // files and embedded scripts
	protos  map[string]*lua.FunctionProto
}

// loadTime bounds the loading of one script, which only builds tables.
const loadTime = 2 * time.Second

// Load compiles the scripts of tree and runs each that is not a library, once and in
// a state of its own, to find its playbooks. A script that fails is one of the
// bundle's problems; the error is ctx's only. The caller runs it where a runaway
// script can do no harm: in a process with limits.
func Load(ctx context.Context, tree *Tree, env Env) (*Bundle, error) {
	b := &Bundle{
		env: env, sources: map[string]string{}, protos: map[string]*lua.FunctionProto{},
		Problems: slices.Clone(tree.Problems),
	}
	maps.Copy(b.sources, env.Embedded)
	maps.Copy(b.sources, tree.Files)
	broken := map[string]bool{}
	for _, file := range slices.Sorted(maps.Keys(b.sources)) {
		proto, err := sandbox.Compile(file, b.sources[file])
		if err == nil && env.Check != nil && !b.embedded(file) {
			err = env.Check(file, b.sources[file])
		}
		if err != nil {
			broken[file] = true
			b.report(file, err)
			continue
		}
		b.protos[file] = proto
	}
	for _, file := range slices.Sorted(maps.Keys(tree.Files)) {
		if broken[file] || (Library(file) && !Hook(file)) {
			continue
		}
		inspect := b.inspect
		if Hook(file) {
			inspect = b.inspectHook
		}
		err := inspect(ctx, file)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			b.report(file, err)
		}
	}
	b.refuseDuplicates()
	slices.SortFunc(b.Playbooks, func(x, y *Playbook) int { return strings.Compare(x.Name, y.Name) })
	slices.SortStableFunc(b.Problems, func(x, y *problem.Error) int { return strings.Compare(fileOf(x), fileOf(y)) })
	return b, nil
}

func fileOf(e *problem.Error) string {
	if e.Place == nil {
		return ""
	}
	return e.Place.File
}

// FromSources loads what [Bundle.Sources] returned, in place of a folder and of the
// embedded scripts of env. The playbooks' hashes are the same.
func FromSources(ctx context.Context, sources map[string]string, env Env) (*Bundle, error) {
	tree := &Tree{Files: map[string]string{}}
	env.Embedded = map[string]string{}
	for name, text := range sources {
		if strings.HasSuffix(name, ".lua") {
			tree.Files[name] = text
		} else {
			env.Embedded[name] = text
		}
	}
	return Load(ctx, tree, env)
}

// Sources returns the sources that the playbook called name needs: files by their
// paths, embedded scripts by their names. It is nil when there is no such playbook.
func (b *Bundle) Sources(name string) map[string]string {
	p := b.Find(name)
	if p == nil {
		return nil
	}
	out := map[string]string{}
	for _, file := range p.Needs {
		out[file] = b.sources[file]
	}
	return out
}

// Source returns the text of a file or of an embedded script, for
// [sandbox.Options].
func (b *Bundle) Source(file string) (text string, ok bool) {
	text, ok = b.sources[file]
	return text, ok
}

// embedded reports whether a script is the program's own: an error in what a script asks of it
// is at the script's line.
func (b *Bundle) embedded(file string) bool {
	_, ok := b.env.Embedded[file]
	return ok
}

// Find returns the playbook called name, nil if there is none.
func (b *Bundle) Find(name string) *Playbook {
	i := slices.IndexFunc(b.Playbooks, func(p *Playbook) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return b.Playbooks[i]
}

// report adds err to the bundle's problems.
func (b *Bundle) report(file string, err error) {
	e := *problem.From(err)
	if e.Place == nil {
		e.Place = &problem.Place{File: file}
	}
	if e.Place.Column == 0 {
		e.Place = sandbox.KeyPlace(b.sources[e.Place.File], e.Place, e.Key)
	}
	if e.Place.Source == "" && e.Place.Line > 0 {
		place := *e.Place
		place.Source = sandbox.Line(b.sources[place.File], place.Line)
		e.Place = &place
	}
	b.Problems = append(b.Problems, &e)
}

// inspect runs the script file in a state that is thrown away, and adds its
// playbooks.
func (b *Bundle) inspect(ctx context.Context, file string) error {
	if depth := strings.Count(file, "/"); depth > 1 {
		return &problem.Error{
			Kind: problem.Usage, Message: "is too deep: scripts are in the folder itself or in a tenant's",
			Hint: "move it up, or under lib/ where it is for require", Place: &problem.Place{File: file},
		}
	}
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	s := sandbox.New(ctx, sandbox.Options{Source: b.Source, Library: b.embedded})
	defer s.Close()
	l := b.loader(s, file)
	needs, err := l.needs()
	if err != nil {
		return err
	}
	found, err := l.load(ctx)
	if err != nil {
		return err
	}
	hash := sha256.New()
	hashFiles(hash, b.sources, needs)
	sum := hex.EncodeToString(hash.Sum(nil))
	for _, made := range found {
		p := *made.playbook
		if err := l.mayRequire(p.Name); err != nil {
			b.report(file, err)
			continue
		}
		p.Hash, p.Needs = sum, needs
		b.Playbooks = append(b.Playbooks, &p)
	}
	return nil
}

// Playbook runs the script of the playbook called name in the state s, which is
// fresh, and returns the playbook's table: its run function and its hooks belong
// to s. s has the bundle's Source as an option, and is sealed afterwards.
func (b *Bundle) Playbook(ctx context.Context, s *sandbox.State, name string) (*lua.LTable, error) {
	p := b.Find(name)
	if p == nil {
		return nil, &problem.Error{Kind: problem.NotFound, Message: fmt.Sprintf("no playbook %q", name)}
	}
	l := b.loader(s, p.File)
	l.playbookName = name
	found, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	for _, made := range found {
		if made.playbook.Name == name {
			return made.table, nil
		}
	}
	return nil, &problem.Error{
		Kind: problem.Usage, Message: fmt.Sprintf("%s returned no playbook %q this time", p.File, name),
		Hint: "a script returns the same whenever it is loaded",
	}
}

// refuseDuplicates reports playbooks that have another's name, and drops them.
// The one whose file is called like it stays, else the first by file.
func (b *Bundle) refuseDuplicates() {
	first := map[string]*Playbook{}
	for _, p := range b.Playbooks {
		old := first[p.Name]
		if old == nil || path.Base(p.Name)+".lua" == path.Base(p.File) && path.Base(p.Name)+".lua" != path.Base(old.File) {
			first[p.Name] = p
		}
	}
	b.Playbooks = slices.DeleteFunc(b.Playbooks, func(p *Playbook) bool {
		kept := first[p.Name]
		if kept == p {
			return false
		}
		b.report(p.File, NameTaken(p, kept))
		return true
	})
}

// NameTaken returns the problem of a playbook p whose name is owner's.
func NameTaken(p, owner *Playbook) *problem.Error {
	return &problem.Error{
		Kind: problem.Usage, Message: fmt.Sprintf("the playbook %q is already defined in %s (line %d)", p.Name, owner.File, owner.Line),
		Hint: "rename one of them", Place: &problem.Place{File: p.File, Line: p.Line},
	}
}

// Library reports whether file makes no playbooks: it is for require only, or its
// hooks are for all playbooks.
func Library(file string) bool {
	if Hook(file) {
		return true
	}
	folder := strings.TrimPrefix(file, tenantPrefix(file))
	return strings.HasPrefix(folder, "lib/")
}

// Tenant is the folder that file is in; lib and hooks do not count.
func Tenant(file string) string { return strings.TrimSuffix(tenantPrefix(file), "/") }

func tenantPrefix(file string) string {
	folder, _, nested := strings.Cut(file, "/")
	if !nested || folder == "lib" || folder == "hooks" {
		return ""
	}
	return folder + "/"
}

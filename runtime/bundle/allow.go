package bundle

import (
	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

// mayRequire refuses a playbook whose script, or what that requires, names a
// module that [Env.Allow] refuses. The place is the line of the script itself.
func (l *loader) mayRequire(playbook string) error {
	if l.bundle.env.Allow == nil {
		return nil
	}
	type source struct {
		file string
		line int // of the script, that led there
	}
	seen := map[string]bool{l.file: true}
	for todo := []source{{file: l.file}}; len(todo) > 0; todo = todo[1:] {
		at := todo[0]
		proto := l.bundle.protos[at.file]
		if proto == nil {
			continue
		}
		for _, r := range sandbox.Requires(proto) {
			line := at.line
			if at.file == l.file {
				line = r.Line
			}
			if _, module := l.world.Modules[r.Name]; module {
				if err := l.bundle.env.Allow(playbook, r.Name); err != nil {
					e := *problem.From(err)
					e.Place = &problem.Place{File: l.file, Line: line}
					return &e
				}
				continue
			}
			if next, err := l.resolve(at.file, r.Name); err == nil && !seen[next] {
				seen[next] = true
				todo = append(todo, source{next, line})
			}
		}
	}
	return nil
}

// module returns a module to a require that runs: in a run, only one that is granted
// to the playbook, however its name came about.
func (l *loader) module(L *lua.LState, name string) (lua.LValue, bool) {
	module, ok := l.world.Modules[name]
	if ok && l.playbookName != "" && l.bundle.env.Allow != nil {
		if err := l.bundle.env.Allow(l.playbookName, name); err != nil {
			sandbox.Raise(L, err)
		}
	}
	return module, ok
}

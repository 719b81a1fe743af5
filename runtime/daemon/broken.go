package daemon

import (
	"strings"

	"moonseal/runtime/bundle"
	"moonseal/runtime/problem"
	"moonseal/runtime/reload"
)

// brokenScript says why a playbook runs as its script last was in order; nil where
// it runs as the script is.
func (d *Daemon) brokenScript(playbook string) *problem.Error {
	snapshot := d.reload.Current()
	book := snapshot.Find(playbook)
	if book == nil {
		return nil
	}
	for _, file := range book.Needs {
		if e := snapshot.Problem(file); e != nil {
			return e
		}
	}
	return nil
}

// lame is a script that is broken and has no good version: nothing of it runs.
type lame struct {
	name  string // what its playbook is called unless it says otherwise
	file  string
	error *problem.Error // its first
}

// lameScripts returns the scripts that nothing runs of, by file.
func lameScripts(s *reload.Snapshot) []lame {
	live := map[string]bool{}
	for _, p := range s.Playbooks {
		live[p.File] = true
	}
	var out []lame
	for _, e := range s.Problems {
		if e.Place == nil || live[e.Place.File] || bundle.Library(e.Place.File) || !strings.HasSuffix(e.Place.File, ".lua") {
			continue
		}
		file := e.Place.File
		live[file] = true // once
		name := bundle.ScriptName(file)
		if s.Find(name) != nil { // another script's
			name = file
		}
		out = append(out, lame{name, file, e})
	}
	return out
}

// files returns the names of the scripts' files, for one line.
func files(scripts []lame) string {
	const most = 10
	var names []string
	for i, l := range scripts {
		if i == most {
			names = append(names, "…")
			break
		}
		names = append(names, l.file)
	}
	return strings.Join(names, " ")
}

package daemon

import (
	"strings"

	"moonseal/runtime/bundle"
	"moonseal/runtime/problem"
	"moonseal/runtime/reload"
)

// brokenScript returns why a playbook runs as the last good version of its script; nil if
// it runs as the script is.
func brokenScript(s *reload.Snapshot, playbook string) *problem.Error {
	book := s.Find(playbook)
	if book == nil {
		return nil
	}
	for _, file := range book.Needs {
		if e := s.Problem(file); e != nil {
			return e
		}
	}
	return nil
}

// unloadable is a script that is broken and has no good version: nothing of it runs.
type unloadable struct {
	name  string // of its playbook, as far as the file's name tells
	file  string
	error *problem.Error // its first
}

// unloadables returns the scripts of which nothing runs, by file.
func unloadables(s *reload.Snapshot) []unloadable {
	seen := map[string]bool{}
	for _, p := range s.Playbooks {
		seen[p.File] = true
	}
	var out []unloadable
	for _, e := range s.Problems {
		if e.Place == nil || seen[e.Place.File] || bundle.Library(e.Place.File) || !strings.HasSuffix(e.Place.File, ".lua") {
			continue
		}
		file := e.Place.File
		seen[file] = true
		name := bundle.ScriptName(file)
		if s.Find(name) != nil { // another script's
			name = file
		}
		out = append(out, unloadable{name, file, e})
	}
	return out
}

// fileNames returns the names of the scripts' files, for one line.
func fileNames(scripts []unloadable) string {
	const most = 10
	var names []string
	for i, u := range scripts {
		if i == most {
			names = append(names, "…")
			break
		}
		names = append(names, u.file)
	}
	return strings.Join(names, " ")
}

// noPlaybook returns the error of a playbook that the scripts do not define.
func noPlaybook(s *reload.Snapshot, name string) error {
	var names []string
	for _, p := range s.Playbooks {
		names = append(names, p.Name)
	}
	return bundle.NoPlaybook(name, names, s.Problems)
}

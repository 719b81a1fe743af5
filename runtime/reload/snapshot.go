package reload

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"moonseal/runtime/bundle"
	"moonseal/runtime/problem"
)

// Source is a file as it was when a playbook was loaded from it.
type Source struct {
	Path string // inside the folder, with slashes
	Text string
}

// Playbook is a playbook that loaded well, and what it was loaded from. It does
// not change.
type Playbook struct {
	bundle.Playbook

	// Sources are the files that it needs, the script itself among them, by path.
	// Embedded scripts are not among them.
	Sources []Source
}

// Files returns the sources as a map, for a process that runs the playbook.
func (p *Playbook) Files() map[string]string {
	files := make(map[string]string, len(p.Sources))
	for _, s := range p.Sources {
		files[s.Path] = s.Text
	}
	return files
}

// Snapshot is what is live: the last good version of each playbook. It does not
// change.
type Snapshot struct {
	Hash      string           // SHA-256, in hex, over the playbooks and the problems
	Playbooks []*Playbook      // by name
	Problems  []*problem.Error // what is wrong in the folder, by file; Place is nil for the folder itself
}

// Find returns the playbook called name, nil if there is none.
func (s *Snapshot) Find(name string) *Playbook {
	i, found := slices.BinarySearchFunc(s.Playbooks, name, func(p *Playbook, name string) int { return strings.Compare(p.Name, name) })
	if !found {
		return nil
	}
	return s.Playbooks[i]
}

// Problem returns the first problem of file, nil if it has none.
func (s *Snapshot) Problem(file string) *problem.Error {
	i, found := slices.BinarySearchFunc(s.Problems, file, func(e *problem.Error, file string) int { return strings.Compare(fileOf(e), file) })
	if !found {
		return nil
	}
	return s.Problems[i]
}

// Changes names the playbooks in which one snapshot differs from another, sorted.
type Changes struct {
	Added, Changed, Removed []string
}

// Since returns what is new in s, compared with old. A playbook has changed when its
// sources have.
func (s *Snapshot) Since(old *Snapshot) Changes {
	var c Changes
	was, is := old.Playbooks, s.Playbooks
	for len(was) > 0 || len(is) > 0 {
		switch {
		case len(was) == 0 || len(is) > 0 && is[0].Name < was[0].Name:
			c.Added = append(c.Added, is[0].Name)
			is = is[1:]
		case len(is) == 0 || was[0].Name < is[0].Name:
			c.Removed = append(c.Removed, was[0].Name)
			was = was[1:]
		default:
			if was[0].Hash != is[0].Hash {
				c.Changed = append(c.Changed, is[0].Name)
			}
			was, is = was[1:], is[1:]
		}
	}
	return c
}

// newSnapshot sorts and hashes.
func newSnapshot(playbooks []*Playbook, problems []*problem.Error) *Snapshot {
	slices.SortFunc(playbooks, func(a, b *Playbook) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(problems, func(a, b *problem.Error) int { return strings.Compare(fileOf(a), fileOf(b)) })
	h := sha256.New()
	for _, p := range playbooks {
		fmt.Fprintf(h, "%s %s\n", p.Name, p.Hash)
	}
	for _, e := range problems {
		fmt.Fprintf(h, "%q %q %d\n", e.Error(), fileOf(e), lineOf(e))
	}
	return &Snapshot{Hash: hex.EncodeToString(h.Sum(nil)), Playbooks: playbooks, Problems: problems}
}

func fileOf(e *problem.Error) string {
	if e.Place == nil {
		return ""
	}
	return e.Place.File
}

func lineOf(e *problem.Error) int {
	if e.Place == nil {
		return 0
	}
	return e.Place.Line
}

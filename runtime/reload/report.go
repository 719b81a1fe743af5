package reload

import (
	"slices"
	"strings"
	"time"

	"moonseal/runtime/problem"
)

// mostLines is how many problems one reload logs each in a line.
const mostLines = 20

// logged is a problem that was logged, and the text of the file that it was about.
type logged struct{ message, text string }

// publish makes the merged state live, and logs what is new in it. start is when the
// loading began.
func (r *Reloader) publish(start time.Time) {
	next, old := newSnapshot(r.merge()), r.Current()
	if next.Hash == old.Hash {
		r.report(old)
		return
	}
	r.current.Store(next)
	r.report(next)
	if c := next.Since(old); len(c.Added)+len(c.Changed)+len(c.Removed) > 0 {
		r.log.Info("scripts are live", "added", names(c.Added), "changed", names(c.Changed), "removed", names(c.Removed),
			"playbooks", len(next.Playbooks), "problems", len(next.Problems), "took", r.clock.Since(start))
	}
	if r.options.Apply != nil {
		r.options.Apply(old, next)
	}
}

// report logs and counts the problems that were not logged yet for the same text.
func (r *Reloader) report(s *Snapshot) {
	now := make(map[string]logged, len(s.Problems))
	lines := 0
	for _, e := range s.Problems {
		file := fileOf(e)
		_, text, _ := r.cache.text(file)
		key := file + "\x00" + e.Error()
		it := logged{e.Error(), text}
		now[key] = it
		if old, ok := r.logged[key]; ok && old == it {
			continue
		}
		r.stats.broken.Add(1)
		if lines++; lines <= mostLines {
			r.logProblem(s, e)
		}
	}
	if lines > mostLines {
		r.log.Warn("more scripts have problems", "more", lines-mostLines, "hint", "moonseal status shows all of them")
	}
	r.logged = now
}

func (r *Reloader) logProblem(s *Snapshot, e *problem.Error) {
	attrs := []any{"error", e.Error()}
	if e.Place != nil {
		attrs = append(attrs, "file", e.Place.File, "line", e.Place.Line)
		if e.Place.Source != "" {
			attrs = append(attrs, "source", strings.TrimSpace(e.Place.Source))
		}
	}
	if e.Hint != "" {
		attrs = append(attrs, "hint", e.Hint)
	}
	switch {
	case e.Place == nil:
		r.log.Error("the scripts folder cannot be used; the last good scripts run", attrs...)
	case slices.ContainsFunc(s.Playbooks, func(p *Playbook) bool { return p.File == e.Place.File }):
		r.log.Error("a script is broken; its last good version runs", attrs...)
	default:
		r.log.Error("a script is broken", attrs...)
	}
}

// names bounds a list in a log line.
func names(all []string) string {
	const most = 10
	if len(all) <= most {
		return strings.Join(all, " ")
	}
	return strings.Join(all[:most], " ") + " …"
}

func sameProblems(a, b []*problem.Error) bool { return slices.EqualFunc(a, b, same) }

// union merges two sorted lists.
func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

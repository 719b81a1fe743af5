package reload

import (
	"slices"
	"strings"
	"time"

	"moonseal/runtime/problem"
)

// mostLines is how many problems one reload logs one by one.
const mostLines = 20

// said is a problem that was logged, and the text that it was about.
type said struct{ message, text string }

// publish makes what is known live, and tells of what is new in it. begun is when
// the loading began.
func (r *Reloader) publish(begun time.Time) {
	next, old := newSnapshot(r.merge()), r.Current()
	if next.Hash == old.Hash {
		r.report(old)
		return
	}
	r.current.Store(next)
	r.report(next)
	if c := next.Since(old); len(c.Added)+len(c.Changed)+len(c.Removed) > 0 {
		r.log.Info("scripts are live", "added", names(c.Added), "changed", names(c.Changed), "removed", names(c.Removed),
			"playbooks", len(next.Playbooks), "problems", len(next.Problems), "took", r.clock.Since(begun))
	}
	if r.options.Apply != nil {
		r.options.Apply(old, next)
	}
}

// report logs and counts the problems that were not yet, for these texts.
func (r *Reloader) report(s *Snapshot) {
	now := make(map[string]said, len(s.Problems))
	lines := 0
	for _, e := range s.Problems {
		file := fileOf(e)
		_, text, _ := r.cache.text(file)
		key := file + "\x00" + e.Error()
		it := said{e.Error(), text}
		now[key] = it
		if old, ok := r.said[key]; ok && old == it {
			continue
		}
		r.stats.broken.Add(1)
		if lines++; lines <= mostLines {
			r.say(s, e)
		}
	}
	if lines > mostLines {
		r.log.Warn("more scripts have problems", "more", lines-mostLines, "hint", "moonseal status shows them all")
	}
	r.said = now
}

func (r *Reloader) say(s *Snapshot, e *problem.Error) {
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
		r.log.Error("the scripts folder cannot be used; the last good scripts go on", attrs...)
	case slices.ContainsFunc(s.Playbooks, func(p *Playbook) bool { return p.File == e.Place.File }):
		r.log.Error("a script is broken; its last good version goes on", attrs...)
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

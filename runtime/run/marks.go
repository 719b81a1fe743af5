package run

import (
	"context"
	"slices"
	"strings"

	"moonseal/runtime/journal"
)

// marks are what happens at most once in the run's life, whichever process comes to it: a
// hook for an event, a line of a renewal.log.
type marks struct {
	rec *recorder
	set map[string]bool
}

func newMarks(rec *recorder, rows []journal.HookRow) *marks {
	m := &marks{rec: rec, set: map[string]bool{}}
	for _, row := range rows {
		m.set[row.Key] = true
	}
	return m
}

func (m *marks) has(key string) bool { return m.set[key] }

// withPrefix returns the marks that start with prefix, without it and sorted.
func (m *marks) withPrefix(prefix string) []string {
	var out []string
	for key := range m.set {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			out = append(out, rest)
		}
	}
	slices.Sort(out)
	return out
}

// sync sets a mark, synced, before what must happen only once; it reports whether that
// may happen now.
func (m *marks) sync(ctx context.Context, key string) bool {
	rec := journal.HookRan{Stamp: m.rec.stamp(), Key: key}
	if m.has(key) || m.rec.quota.Check(journal.ToEnd, rec) != nil {
		return false // a history that is full has room for what has happened, not for observers
	}
	if m.rec.write(ctx, rec) != nil {
		return false // the next synced record meets the same journal
	}
	m.set[key] = true
	return true
}

// lazy sets a mark after what has happened. An error is left to the next record that is
// synced.
func (m *marks) lazy(key string) {
	if m.has(key) {
		return
	}
	m.set[key] = true
	_ = m.rec.lazy(context.Background(), journal.HookRan{Stamp: m.rec.stamp(), Key: key})
}

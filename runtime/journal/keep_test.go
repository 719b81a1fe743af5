package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/sync/errgroup"

	"moonseal/runtime/journal/journaltest"
	"moonseal/runtime/problem"
)

const day = 24 * time.Hour

// kept is a journal whose clock a test moves.
type kept struct {
	*Journal

	t     testing.TB
	clock *clockwork.FakeClock
}

func keeping(t testing.TB) *kept {
	t.Helper()
	clock := clockwork.NewFakeClockAt(time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC))
	j, err := Open(t.Context(), t.TempDir(), Options{Clock: clock})
	must(t, err)
	t.Cleanup(func() { _ = j.Close() })
	return &kept{j, t, clock}
}

// run makes a run of a playbook with a step, an effect with its undo, a record, a
// hook and a log; what it is not is among without.
func (k *kept) run(playbook string, without ...string) string {
	k.t.Helper()
	hash := "bundle of " + k.clock.Now().String()
	must(k.t, k.SaveBundle(k.t.Context(), hash, []Source{{playbook + ".lua", []byte(hash)}}))
	s := Stamp{Run: k.NewRunID(), Epoch: 1, At: k.clock.Now()}
	mark := EffectMarked{Stamp: s, Fn: "f", Undo: &UndoSpec{Fn: "f", Holds: []string{"v"}}}
	recs := []Record{
		RunCreated{Stamp: s, Playbook: playbook, Bundle: hash},
		RunResumed{s},
		StepStarted{Stamp: s, Kind: "step", Name: "a", Attempt: 1},
		mark,
		EffectDone{Stamp: s},
		StepDone{Stamp: s},
		HookRan{Stamp: s, Key: "k"},
	}
	for i := range 450 { // more than one transaction takes
		recs = append(recs, Logged{Stamp: s, Level: "info", Message: fmt.Sprint(i)})
	}
	if !slices.Contains(without, "record") {
		recs = append(recs, Recorded{Stamp: s, Data: json.RawMessage(`{"subject":"x"}`)})
	}
	if !slices.Contains(without, "undo") {
		recs = append(recs, UndoDone{Stamp: s})
	}
	if !slices.Contains(without, "end") {
		recs = append(recs, RunEnded{Stamp: s, Outcome: Done})
	}
	must(k.t, k.Write(k.t.Context(), recs...))
	return s.Run
}

func (k *kept) purge(keep Keep) Removed {
	k.t.Helper()
	r, err := k.Purge(k.t.Context(), keep)
	must(k.t, err)
	var bad int
	must(k.t, k.reads.QueryRowContext(k.t.Context(), `SELECT count(*) FROM pragma_foreign_key_check`).Scan(&bad))
	if bad > 0 {
		k.t.Errorf("%d rows refer to what is gone", bad)
	}
	return r
}

func (k *kept) ids() []string {
	k.t.Helper()
	runs, err := k.Runs(k.t.Context(), Filter{})
	must(k.t, err)
	var ids []string
	for _, r := range runs {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	return ids
}

// What ended long ago goes, with all that belongs to it. What is needed stays.
func TestPurge(t *testing.T) {
	k := keeping(t)
	var gone, stays []string
	gone = append(gone, k.run("a"))
	k.clock.Advance(day)
	gone = append(gone, k.run("a"), k.run("b"))
	k.clock.Advance(day)
	stays = append(stays,
		k.run("waits", "end"),  // unfinished
		k.run("dirty", "undo"), // something is left to clean up
		k.run("a"),             // the newest that recorded anything
		k.run("b"))             // the newest of all
	k.clock.Advance(time.Hour)
	gone = append(gone, k.run("a", "record")) // neither
	k.clock.Advance(time.Hour)
	stays = append(stays, k.run("a", "record")) // the newest
	k.clock.Advance(500 * day)
	stays = append(stays, k.run("dirty"))
	overviews := k.overviews()
	slices.Sort(stays)

	before := k.ids()
	if r := k.purge(Keep{}); r != (Removed{}) || !slices.Equal(k.ids(), before) {
		t.Errorf("nothing is to be removed: %+v", r)
	}
	r := k.purge(Keep{Runs: 400 * day, Logs: 90 * day})
	if want := (Removed{Runs: len(gone), Logs: 450 * len(gone), Bundles: 3}); r != want {
		t.Errorf("removed %+v, want %+v", r, want)
	}
	if got := k.ids(); !slices.Equal(got, stays) {
		t.Errorf("there are %v, want %v", got, stays)
	}
	if now := k.overviews(); now != overviews {
		t.Errorf("the overviews were\n%s\nand are\n%s", overviews, now)
	}
	for _, id := range stays {
		h := history(t, k.Journal, id)
		if sources, err := k.Sources(t.Context(), h.Run.Bundle); err != nil || len(sources) != 1 || len(h.Steps) != 1 || len(h.Effects) != 1 || len(h.Undos) != 1 {
			t.Errorf("run %s has lost something: %v, %+v", id, err, h)
		}
	}
	if r := k.purge(Keep{Runs: 400 * day, Logs: 90 * day}); r != (Removed{}) {
		t.Errorf("a second time: %+v", r)
	}
	horizon, err := k.Horizon(t.Context())
	must(t, err)
	if want := k.clock.Now().Add(-400 * day); !horizon.Runs.Equal(want) {
		t.Errorf("the horizon is %v, want %s", horizon, want)
	}
	if e := problem.From(horizon.Gone(gone[0])); e.Kind != problem.NotFound || !strings.Contains(e.Message, "was removed, and it would be of 2025-03-01") {
		t.Errorf("a run that was removed: %v", e)
	}
	for _, id := range []string{k.NewRunID(), "x"} {
		if e := horizon.Gone(id); e != nil {
			t.Errorf("a run that never was: %v", e)
		}
	}
}

// overviews is all that status and schedules come from.
func (k *kept) overviews() string {
	k.t.Helper()
	o, err := k.Overviews(k.t.Context())
	must(k.t, err)
	text, err := json.Marshal(o)
	must(k.t, err)
	return string(text)
}

// Logs go before their runs do.
func TestPurgeOfLogs(t *testing.T) {
	k := keeping(t)
	old, open := k.run("a"), k.run("b", "end")
	k.clock.Advance(50 * day)
	young := k.run("a")
	k.clock.Advance(50 * day)
	newest := k.run("a")
	if r := k.purge(Keep{Runs: 400 * day, Logs: 90 * day}); r != (Removed{Logs: 450}) {
		t.Errorf("removed %+v", r)
	}
	for id, want := range map[string]int{old: 0, open: 450, young: 450, newest: 450} {
		if lines, err := k.Logs(t.Context(), id, 0, 0); err != nil || len(lines) != want {
			t.Errorf("run %s has %d lines, want %d, %v", id, len(lines), want, err)
		}
	}
	if h, err := k.Horizon(t.Context()); err != nil || h.Logs.IsZero() || !h.Runs.IsZero() {
		t.Errorf("the horizon is %+v, %v", h, err)
	}
}

// A purge that is broken off has removed whole runs, and continues the next time.
func TestPurgeIsBrokenOff(t *testing.T) {
	k := keeping(t)
	for range 2 * purgeRuns {
		k.run("a")
	}
	k.clock.Advance(500 * day)
	ctx, cancel := context.WithCancel(t.Context())
	purged := make(chan error, 1)
	go func() {
		_, err := k.Purge(ctx, Keep{Runs: 400 * day, Pause: time.Hour})
		purged <- err
	}()
	must(t, k.clock.BlockUntilContext(t.Context(), 1)) // it pauses
	k.clock.Advance(time.Hour)
	must(t, k.clock.BlockUntilContext(t.Context(), 1))
	cancel()
	if err := <-purged; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	left := len(k.ids())
	if left == 2*purgeRuns || left == 1 {
		t.Errorf("%d runs are left", left)
	}
	if r := k.purge(Keep{Runs: 400 * day}); r.Runs != left-1 || len(k.ids()) != 1 {
		t.Errorf("the rest: %+v of %d", r, left)
	}
}

const (
	oldRuns = 100_000
	commits = 200 * time.Microsecond // between two of a busy daemon
)

// fill writes old runs, each with three steps, an effect, an undo, a record and ten
// lines, as fast as one transaction takes them.
func (k *kept) fill(runs int) {
	k.t.Helper()
	must(k.t, k.SaveBundle(k.t.Context(), "old", []Source{{"a.lua", []byte("return 1")}}))
	ended := k.clock.Now().UnixNano()
	must(k.t, k.w.do(k.t.Context(), &request{fn: func(w *conn) error {
		for _, q := range []string{
			`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
			INSERT INTO runs (id, playbook, bundle, status, epoch, force, created_at, updated_at, ended_at)
			SELECT printf('0%09d', i), 'p' || (i % 200), 'old', 'done', 1, 0, $2, $2, $2 FROM n`,
			`INSERT INTO playbooks (playbook, last) SELECT playbook, max(id) FROM runs WHERE bundle = 'old' AND $1 > 0 AND $2 > 0 GROUP BY playbook`,
			`INSERT INTO steps (run, step, kind, name, key, state, attempt, started_at, attempt_at, ended_at, result)
			SELECT id, s, 'step', 'downloading_certificate', '', 'done', 1, $2, $2, $2, hex(zeroblob(500)) FROM runs, (SELECT 0 AS s UNION SELECT 1 UNION SELECT 2) WHERE bundle = 'old' AND $1 > 0`,
			`INSERT INTO effects (run, step, n, fn, args, state, marked_at) SELECT id, 0, 0, 'f', '{}', 'done', $2 FROM runs WHERE bundle = 'old' AND $1 > 0`,
			`INSERT INTO undos (run, n, step, effect, fn, state, added_at) SELECT id, 0, 0, 0, 'f', 'done', $2 FROM runs WHERE bundle = 'old' AND $1 > 0`,
			`INSERT INTO records (run, seq, at, data) SELECT id, 0, $2, '{}' FROM runs WHERE bundle = 'old' AND $1 > 0`,
			`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10)
			INSERT INTO logs (run, seq, at, level, step, message) SELECT id, i, $2, 'info', 'a', 'restarted Cisco Tomcat on cucm01-pub.example.com' FROM runs, n WHERE bundle = 'old' AND $1 > 0`,
		} {
			if _, err := w.exec(q, runs, ended); err != nil {
				return err
			}
		}
		return nil
	}}))
}

// BenchmarkPurge: 100,000 old runs are removed while 8 others commit without pause.
// The floor is what the same commits take before it.
func BenchmarkPurge(b *testing.B) {
	for b.Loop() {
		j, err := Open(b.Context(), b.TempDir(), Options{})
		must(b, err)
		k := &kept{j, b, clockwork.NewFakeClockAt(time.Now().Add(-500 * day))}
		k.fill(oldRuns)
		var busy []Stamp
		for range 8 {
			busy = append(busy, newRun(b, j, "busy"))
		}
		quiet := committing(b, j, busy, time.After(3*time.Second))
		started := time.Now()
		var removed Removed
		done := make(chan time.Time)
		go func() {
			defer close(done)
			removed, err = j.Purge(b.Context(), Keep{Runs: 400 * day, Logs: 90 * day, Pause: 5 * time.Millisecond})
		}()
		during := committing(b, j, busy, done)
		must(b, err)
		if removed.Runs != oldRuns-200 {
			b.Errorf("removed %+v", removed)
		}
		b.ReportMetric(time.Since(started).Seconds(), "s/purge")
		for name, took := range map[string][]time.Duration{"quiet": quiet, "purging": during} {
			journaltest.Spread(b, "ms-"+name+"-", took)
		}
		b.ReportMetric(float64(during[len(during)*99/100])/float64(quiet[len(quiet)*99/100]), "p99-ratio") // Spread has sorted them
		must(b, j.Close())
	}
}

// committing writes for each run, one commit after the other, and returns how long each took.
func committing(b *testing.B, j *Journal, runs []Stamp, until <-chan time.Time) []time.Duration {
	b.Helper()
	stop := make(chan struct{})
	var g errgroup.Group
	took := make([][]time.Duration, len(runs))
	for i, s := range runs {
		g.Go(func() error {
			for {
				took[i] = append(took[i], journaltest.Time(b, func() error {
					return j.Write(b.Context(), Logged{Stamp: s, Message: string(payload)})
				}))
				pause := time.NewTimer(commits)
				select {
				case <-stop:
					pause.Stop()
					return nil
				case <-pause.C:
				}
			}
		})
	}
	<-until
	close(stop)
	must(b, g.Wait())
	return slices.Concat(took...)
}

// Runs that had nothing to do are kept for a time of their own, the others longer.
func TestPurgeOfSkippedRuns(t *testing.T) {
	k := keeping(t)
	skipped := func() string {
		id := k.run("a", "end", "undo", "record")
		s := Stamp{Run: id, Epoch: 1, At: k.clock.Now()}
		must(t, k.Write(t.Context(), UndoDone{Stamp: s}, RunEnded{Stamp: s, Outcome: Skipped}))
		k.clock.Advance(day)
		return id
	}
	old, done := skipped(), k.run("a")
	k.clock.Advance(10 * day)
	last := skipped()
	k.clock.Advance(10 * day)
	if r := k.purge(Keep{Runs: 400 * day, Skipped: 15 * day}); r.Runs != 1 {
		t.Errorf("%+v", r)
	}
	if got, want := k.ids(), []string{done, last}; !slices.Equal(got, want) {
		t.Errorf("left: %v, want %v", got, want)
	}
	h, err := k.Horizon(t.Context())
	must(t, err)
	if gone := h.Gone(old); gone == nil || !strings.Contains(gone.Error(), "what had nothing to do and ended before") || h.Gone(last) != nil {
		t.Errorf("%+v: %v", h, gone)
	}
}

package cli

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the journal's

	"moonseal/runtime/journal"
)

const (
	historyScripts   = 10000
	historyPlaybooks = 1000
	historyRuns      = 100 // of each
)

// writeHistory fills a new journal with runs that were skipped, as playbooks leave them
// that were not due: one a day.
func writeHistory(b *testing.B, state string) {
	b.Helper()
	ctx := context.Background()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	check(os.MkdirAll(state, 0o700))
	j, err := journal.Open(ctx, state, journal.Options{})
	check(err)
	check(j.SaveBundle(ctx, "old", []journal.Source{{Path: "old.lua", Body: []byte("-- gone")}}))
	check(j.Close())
	db, err := sql.Open("sqlite", filepath.Join(state, "moonseal.db")+"?_pragma=synchronous(off)")
	check(err)
	defer func() { check(db.Close()) }()
	db.SetMaxOpenConns(1)
	tx, err := db.Begin()
	check(err)
	begun := time.Now().Add(-historyRuns * 24 * time.Hour)
	const result = `{"due":false,"at":1797000000,"reason":"two thirds of its lifetime of 90 days","source":"lifetime","forced":false}`
	const record = `{"subject":"cucm01-pub.example.com tomcat","installed":{"sha256":"7d4a1c7d4a1c7d4a1c7d4a1c7d4a1c7d4a1c7d4a1c7d4a1c7d4a1c7d4a1c7d4a","not_after":1797000000},"served":{"sha256":"7d4a1c7d4a1c7d4a1c7d4a1c7d4a1c7d4a1c7d4a1c7d4a1c7d4a1c7d4a1c7d4a","not_after":1797000000,"issuer":"CN=R11"},"next":1796000000}`
	prepare := func(query string) *sql.Stmt {
		s, err := tx.Prepare(query)
		check(err)
		return s
	}
	run := prepare(`INSERT INTO runs (id, playbook, bundle, status, outcome, epoch, force, created_at, started_at, updated_at, ended_at, reason)
		VALUES ($1, $2, 'old', 'skipped', 'skipped', 1, 0, $3, $3, $3, $3, 'not due: two thirds of its lifetime of 90 days')`)
	step := prepare(`INSERT INTO steps (run, step, kind, name, key, state, attempt, started_at, attempt_at, ended_at, result) VALUES ($1, $2, 'step', 'checking_certificate', '', 'done', 1, $3, $3, $3, $4)`)
	rec := prepare(`INSERT INTO records (run, seq, at, data) VALUES ($1, 0, $2, $3)`)
	line := prepare(`INSERT INTO logs (run, seq, at, level, step, message) VALUES ($1, 1, $2, 'info', '', 'not due')`)
	for day := range historyRuns {
		for p := range historyPlaybooks {
			at := begun.Add(time.Duration(day)*24*time.Hour + time.Duration(p)*time.Second)
			id := runIDAt(at)
			for _, exec := range []func() (sql.Result, error){
				func() (sql.Result, error) { return run.Exec(id, fmt.Sprintf("p%d", p), at.UnixNano()) },
				func() (sql.Result, error) { return step.Exec(id, 0, at.UnixNano(), result) },
				func() (sql.Result, error) { return rec.Exec(id, at.UnixNano(), record) },
				func() (sql.Result, error) { return line.Exec(id, at.UnixNano()) },
			} {
				_, err := exec()
				check(err)
			}
		}
	}
	_, _ = tx.Exec(`INSERT INTO playbooks (playbook, last, recorded) SELECT playbook, max(id), max(id) FROM runs GROUP BY playbook`)
	check(tx.Commit())
}

// runIDAt is the id of a run that began then.
func runIDAt(at time.Time) string {
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	id := uint64(at.Sub(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)).Milliseconds()) << 9
	var out [10]byte
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = alphabet[id&31]
		id >>= 5
	}
	return string(out[:])
}

// BenchmarkHistory: what 100,000 old runs of 1,000 of 10,000 playbooks add to the
// daemon's start, to a status, to a save and to its idling, as ratios against the same
// scripts and an empty journal. Goals: at most 1.5; idle at most 0.5 % of a core.
func BenchmarkHistory(b *testing.B) {
	const settings = "alerts: { urls: [TEAMS_URL] }\n"
	type figures struct{ ready, status, save, idle float64 }
	measure := func(old bool) figures {
		var f figures
		d := serveFolderWith(b, historyScripts, daily(), settings, func(state string) {
			if old {
				writeHistory(b, state)
			}
		})
		f.ready = d.ready.Seconds()
		var times []time.Duration
		for range 9 {
			began := time.Now()
			_, err := d.api.Status(b.Context())
			d.check(err)
			times = append(times, time.Since(began))
		}
		slices.Sort(times)
		f.status = times[len(times)/2].Seconds()
		d.rest()
		before := d.processor()
		const saves = 10
		for i := range saves {
			text := fmt.Sprintf("%s-- save %d\n", daily(), i)
			d.check(os.WriteFile(filepath.Join(filepath.Dir(d.state), "scripts", "p7.lua"), []byte(text), 0o600))
			d.rest()
		}
		f.save = (d.processor() - before).Seconds() / saves
		const span = 65 * time.Second // over a look of the alerts
		f.idle = 100 * d.worked(span).Seconds() / span.Seconds()
		d.stop()
		return f
	}
	for b.Loop() {
		without, with := measure(false), measure(true)
		b.Logf("empty %+v, with history %+v", without, with)
		b.ReportMetric(with.ready/without.ready, "ready-ratio")
		b.ReportMetric(with.status/without.status, "status-ratio")
		b.ReportMetric(with.save/without.save, "save-ratio")
		b.ReportMetric(with.idle, "%-of-core")
	}
}

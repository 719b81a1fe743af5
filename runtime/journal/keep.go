package journal

import (
	"context"
	"fmt"
	"sync"
	"time"

	"moonseal/runtime/problem"
)

// Keep says how long what has ended is kept.
type Keep struct {
	Runs    time.Duration // with all that belongs to them; 0: for ever
	Skipped time.Duration // those that had nothing to do, if that is less; 0: as Runs
	Logs    time.Duration // the lines of their logs; 0: as long as the run
	// Pause is between two transactions; others write meanwhile.
	Pause time.Duration
	// Begin is held while a bundle is removed. A caller that saves a bundle and then creates
	// a run with it must hold it for both. May be nil.
	Begin sync.Locker
}

// Removed counts what a Purge removed.
type Removed struct{ Runs, Logs, Bundles int }

// Bounds of one transaction of a purge: it holds up other writers.
const (
	purgeTime = 2 * time.Millisecond
	purgeRuns = 50  // with a clock that does not advance
	purgeRows = 200 // of one log
)

// Purge removes what has ended too long ago, in small transactions: logs first, then
// runs, then the bundles that no run needs any more. What is needed stays, however
// old: unfinished runs, those with clean-up that is pending, and of each playbook the
// run that ended last and the newest one that recorded anything, unless the playbook
// was forgotten. When ctx ends it stops early and returns what it has removed until then.
//
// The file does not shrink: its space is reused. A backup has only what is kept.
func (j *Journal) Purge(ctx context.Context, keep Keep) (Removed, error) {
	p := &purge{j: j, keep: keep}
	if j.w == nil {
		return p.removed, closed()
	}
	err := p.logs(ctx)
	if err == nil {
		err = p.runs(ctx, "skipped", keep.Skipped, ` AND outcome = 'skipped'`)
	}
	if err == nil {
		err = p.runs(ctx, "runs", keep.Runs, "")
	}
	if err == nil {
		err = p.bundles(ctx)
	}
	return p.removed, err
}

type purge struct {
	j       *Journal
	keep    Keep
	removed Removed
}

// old returns the runs that ended before, but for those that are needed, oldest first.
// more is a further condition.
func (p *purge) old(ctx context.Context, before time.Time, more string) ([]string, error) {
	j := p.j
	text := func(scan func(...any) error) (string, error) {
		var s string
		err := scan(&s)
		return s, err
	}
	kept, err := list(ctx, j, j.reads, text, `
		SELECT last FROM playbooks WHERE last IS NOT NULL
		UNION SELECT recorded FROM playbooks WHERE recorded IS NOT NULL
		UNION SELECT run FROM undos WHERE state = 'pending'`)
	if err != nil {
		return nil, err
	}
	needed := make(map[string]bool, len(kept))
	for _, id := range kept {
		needed[id] = true
	}
	all, err := list(ctx, j, j.reads, text, `SELECT id FROM runs WHERE ended_at < $1`+more+` ORDER BY id`, before.UnixNano())
	out := all[:0]
	for _, id := range all {
		if !needed[id] {
			out = append(out, id)
		}
	}
	return out, err
}

// logs removes the logs of runs that ended long ago.
func (p *purge) logs(ctx context.Context) error {
	if p.keep.Logs == 0 {
		return nil
	}
	before := p.j.clock.Now().Add(-p.keep.Logs)
	ids, err := p.old(ctx, before, ` AND EXISTS (SELECT 1 FROM logs WHERE logs.run = runs.id)`)
	if err != nil || len(ids) == 0 {
		return err
	}
	return p.each(ctx, "logs", before, ids, func(w *conn, id string) (done bool, err error) {
		n, err := w.exec(`DELETE FROM logs WHERE run = $1 AND seq IN (SELECT seq FROM logs WHERE run = $1 ORDER BY seq LIMIT $2)`, id, purgeRows)
		p.removed.Logs += int(n)
		return n < purgeRows, err
	})
}

// runs removes runs that ended longer ago than keep, with all that belongs to them. more
// is a further condition, what its name.
func (p *purge) runs(ctx context.Context, what string, keep time.Duration, more string) error {
	if keep == 0 {
		return nil
	}
	before := p.j.clock.Now().Add(-keep)
	ids, err := p.old(ctx, before, more)
	if err != nil || len(ids) == 0 {
		return err
	}
	return p.each(ctx, what, before, ids, func(w *conn, id string) (done bool, err error) {
		n, err := w.exec(`DELETE FROM logs WHERE run = $1 AND seq IN (SELECT seq FROM logs WHERE run = $1 ORDER BY seq LIMIT $2)`, id, purgeRows)
		p.removed.Logs += int(n)
		if err != nil || n == purgeRows {
			return false, err
		}
		for _, table := range []string{"decisions", "hooks", "records", "undos", "effects", "steps"} { // each before what it refers to
			if _, err := w.exec(`DELETE FROM `+table+` WHERE run = $1`, id); err != nil {
				return false, err
			}
		}
		if err := w.unshare(id); err != nil {
			return false, err
		}
		if _, err := w.exec(`DELETE FROM runs WHERE id = $1`, id); err != nil {
			return false, err
		}
		delete(w.runs, id)
		p.removed.Runs++
		return true, nil
	})
}

// each calls remove for each id until it is done, in short transactions. The horizon is
// recorded first.
func (p *purge) each(ctx context.Context, what string, before time.Time, ids []string, remove func(w *conn, id string) (done bool, err error)) error {
	err := p.write(ctx, func(w *conn) error {
		_, err := w.exec(`INSERT INTO removed (what, before) VALUES ($1, $2) ON CONFLICT (what) DO UPDATE SET before = max(before, excluded.before)`,
			what, before.UnixNano())
		return err
	})
	for err == nil && len(ids) > 0 {
		counted, left := p.removed, ids
		err = p.write(ctx, func(w *conn) error {
			p.removed, left = counted, ids // it may be tried again
			start := p.j.clock.Now()
			for n := 0; len(left) > 0 && n < purgeRuns && p.j.clock.Since(start) < purgeTime; n++ {
				done, err := remove(w, left[0])
				if err != nil {
					return err
				}
				if done {
					left = left[1:]
				}
			}
			return nil
		})
		ids = left
	}
	return err
}

// bundles removes the sources that no run needs any longer.
func (p *purge) bundles(ctx context.Context) error {
	hashes, err := list(ctx, p.j, p.j.reads, func(scan func(...any) error) (string, error) {
		var s string
		err := scan(&s)
		return s, err
	}, `SELECT hash FROM bundles WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.bundle = bundles.hash) ORDER BY hash`)
	for _, hash := range hashes {
		if err == nil {
			err = p.bundle(ctx, hash)
		}
	}
	return err
}

func (p *purge) bundle(ctx context.Context, hash string) error {
	if p.keep.Begin != nil {
		p.keep.Begin.Lock()
		defer p.keep.Begin.Unlock()
	}
	return p.write(ctx, func(w *conn) error {
		var needed bool
		if err := w.row(`SELECT EXISTS (SELECT 1 FROM runs WHERE bundle = $1)`, hash).Scan(&needed); err != nil || needed {
			return err
		}
		if _, err := w.exec(`DELETE FROM sources WHERE bundle = $1`, hash); err != nil {
			return err
		}
		n, err := w.exec(`DELETE FROM bundles WHERE hash = $1`, hash)
		p.removed.Bundles += int(n)
		return err
	})
}

// write makes one transaction, and lets others make theirs.
func (p *purge) write(ctx context.Context, fn func(*conn) error) error {
	if err := p.j.w.do(ctx, &request{fn: fn}); err != nil || p.keep.Pause == 0 {
		return err
	}
	select {
	case <-p.j.clock.After(p.keep.Pause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Horizon is the instant before which ended runs were removed; zero if none were.
type Horizon struct {
	Runs    time.Time `json:"runs,omitzero"`
	Skipped time.Time `json:"skipped,omitzero"` // of those that had nothing to do
	Logs    time.Time `json:"logs,omitzero"`
}

// Horizon returns what was removed so far.
func (j *Journal) Horizon(ctx context.Context) (Horizon, error) {
	type row struct {
		what   string
		before time.Time
	}
	var h Horizon
	rows, err := list(ctx, j, j.reads, func(scan func(...any) error) (row, error) {
		var r row
		err := scan(&r.what, at(&r.before))
		return r, err
	}, `SELECT what, before FROM removed`)
	for _, r := range rows {
		switch r.what {
		case "runs":
			h.Runs = r.before
		case "skipped":
			h.Skipped = r.before
		case "logs":
			h.Logs = r.before
		}
	}
	return h, err
}

// Gone returns the error of a run that was removed; nil if it never existed.
func (h Horizon) Gone(id string) error {
	run, err := ParseRunID(id)
	if err != nil {
		return nil //nolint:nilerr // no run has such an id
	}
	created := runCreated(run)
	what, before, key := "what", h.Runs, "runs"
	if !created.Before(before) {
		what, before, key = "what had nothing to do and", h.Skipped, "skipped"
	}
	if !created.Before(before) {
		return nil
	}
	return &problem.Error{
		Kind: problem.NotFound, Target: "run " + run, Work: problem.NotDone,
		Message: fmt.Sprintf("not in the journal: %s ended before %s was removed, and it would be of %s",
			what, before.Local().Format(time.DateOnly), created.Local().Format(time.DateOnly)),
		Hint: "keep." + key + " in the config says how long runs are kept; a backup may have it",
	}
}

// runCreated returns the moment in a run's id.
func runCreated(id string) time.Time {
	ms := int64(idNumber(id) >> idRandom) // 41 bits
	return time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond)
}

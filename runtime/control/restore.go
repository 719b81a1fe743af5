package control

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/journal"
)

// Restore restores a copy of a journal into the state directory dir, which must have none,
// and parks the runs that were unfinished when the copy was made: what they have done since
// is not known. It returns how many it parked. They are parked before the journal is in its
// place: if killed in between, it leaves no journal whose runs would continue.
func Restore(ctx context.Context, dir, from string, jo journal.Options, d Decision) (parked int, err error) {
	if err := atomicfile.MakeDir(dir); err != nil {
		return 0, err
	}
	beside, err := os.MkdirTemp(dir, "restore-") // 0700
	if err != nil {
		return 0, atomicfile.Explain("write to the state directory", dir, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(beside)) }()
	if err := journal.Restore(ctx, beside, from); err != nil {
		return 0, err
	}
	if parked, err = parkAll(ctx, beside, jo, d); err != nil {
		return 0, err
	}
	if err := journal.Restore(ctx, dir, filepath.Join(beside, "moonseal.db")); err != nil {
		return 0, err
	}
	return parked, removeOld(dir) // of another journal's runs
}

// parkAll parks the unfinished runs of the journal in dir, and returns how many it parked.
func parkAll(ctx context.Context, dir string, jo journal.Options, d Decision) (parked int, err error) {
	jo.Copied = true
	j, err := journal.Open(ctx, dir, jo)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	c := New(j, jo.Clock)
	runs, err := j.Unfinished(ctx, "")
	if err != nil {
		return 0, err
	}
	for _, r := range runs {
		if r.Status == journal.Parked || r.Status == journal.Ending {
			continue
		}
		err := j.DecideRun(ctx, r, func(s journal.Stamp) ([]journal.Record, error) {
			decided := c.decided(journal.DecidedRestore, r.ID, d)
			decided.Stamp = s
			return []journal.Record{decided, journal.RunParked{Stamp: s, Reason: "restored from a copy: what it has done since then is not known"}}, nil
		})
		if err != nil {
			return parked, err
		}
		parked++
	}
	return parked, j.Decide(ctx, c.decided(journal.DecidedRestore, "", d))
}

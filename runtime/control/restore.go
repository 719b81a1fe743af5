package control

import (
	"context"
	"errors"

	"moonseal/runtime/journal"
)

// Restore puts a copy of a journal into the state directory dir, which must hold none,
// and parks the runs that were unfinished when it was made: what they have done since
// is not known. It returns how many that are.
func Restore(ctx context.Context, dir, from string, jo journal.Options, d Decision) (parked int, err error) {
	if err := journal.Restore(ctx, dir, from); err != nil {
		return 0, err
	}
	if err := removeOld(dir); err != nil { // of another journal's runs
		return 0, err
	}
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
		err := j.Settle(ctx, r, func(s journal.Stamp) ([]journal.Record, error) {
			decided := c.decided(journal.DecidedRestore, r.ID, d)
			decided.Stamp = s
			return []journal.Record{decided, journal.RunParked{Stamp: s, Reason: "restored from a copy: what it has done since then is not known"}}, nil
		})
		if err != nil {
			return parked, err
		}
		parked++
	}
	return parked, nil
}

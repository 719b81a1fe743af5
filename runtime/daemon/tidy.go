package daemon

import (
	"context"
	"time"

	"moonseal/runtime/journal"
)

const (
	// tidyEvery is how often what is too old is removed.
	tidyEvery = 24 * time.Hour
	// tidyFirst is how long after the start that is done first: runs continue before.
	tidyFirst = 10 * time.Minute
	// tidyPause is between two transactions of it. With it 100,000 runs take a minute.
	tidyPause = 5 * time.Millisecond
)

// tidy removes what is too old, once a day, until ctx ends.
func (d *Daemon) tidy(ctx context.Context) {
	timer := d.opt.Clock.NewTimer(tidyFirst)
	defer timer.Stop()
	for {
		select {
		case <-timer.Chan():
			d.removeOld(ctx)
			timer.Reset(tidyEvery)
		case <-ctx.Done():
			return
		}
	}
}

func (d *Daemon) removeOld(ctx context.Context) {
	keep := d.config().Keep
	removed, err := d.journal.Purge(ctx, journal.Keep{
		Runs: keep.Runs.Duration(), Skipped: keep.Skipped.Duration(), Logs: keep.Logs.Duration(), Pause: tidyPause, Begin: d.control.Beginning(),
	})
	if removed != (journal.Removed{}) {
		d.log.Info("what is old was removed from the journal", "runs", removed.Runs, "lines", removed.Logs, "bundles", removed.Bundles,
			"keep_runs", keep.Runs.String(), "keep_skipped", keep.Skipped.String(), "keep_logs", keep.Logs.String())
	}
	if err != nil && ctx.Err() == nil {
		d.log.Error("what is old could not be removed from the journal; it is tried again tomorrow", "error", err.Error())
	}
}

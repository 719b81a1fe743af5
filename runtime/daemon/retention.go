package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/control"
	"moonseal/runtime/journal"
)

const (
	// pruneEvery is how often the journal is pruned.
	pruneEvery = 24 * time.Hour
	// firstPrune is how long after the start it is pruned first: runs continue before.
	firstPrune = 10 * time.Minute
	// prunePause is between two transactions of it. With it 100,000 runs take a minute.
	prunePause = 5 * time.Millisecond
)

// retention prunes the journal: it removes runs and logs that are older than the config
// keeps them.
type retention struct {
	journal  *journal.Journal
	control  *control.Control
	settings *settings
	clock    clockwork.Clock
	log      *slog.Logger
}

// run prunes once a day until ctx ends.
func (r *retention) run(ctx context.Context) {
	timer := r.clock.NewTimer(firstPrune)
	defer timer.Stop()
	for {
		select {
		case <-timer.Chan():
			r.prune(ctx)
			timer.Reset(pruneEvery)
		case <-ctx.Done():
			return
		}
	}
}

func (r *retention) prune(ctx context.Context) {
	keep := r.settings.config().Keep
	removed, err := r.journal.Purge(ctx, journal.Keep{
		Runs: keep.Runs.Duration(), Skipped: keep.Skipped.Duration(), Logs: keep.Logs.Duration(), Pause: prunePause, Begin: r.control.Beginning(),
	})
	if removed != (journal.Removed{}) {
		r.log.Info("journal pruned", "runs", removed.Runs, "lines", removed.Logs, "bundles", removed.Bundles,
			"keep_runs", keep.Runs.String(), "keep_skipped", keep.Skipped.String(), "keep_logs", keep.Logs.String())
	}
	if err != nil && ctx.Err() == nil {
		r.log.Error("cannot prune the journal; retried tomorrow", "error", err.Error())
	}
}

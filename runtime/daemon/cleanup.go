package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/sync/errgroup"

	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

const (
	// cleanupEvery is how often the daemon looks for pending clean-ups.
	cleanupEvery = time.Minute
	// longestBackoff is how long a clean-up that failed is not retried at most.
	longestBackoff = 24 * time.Hour
	// cleanupsAtOnce is how many runs are cleaned up after at the same time.
	cleanupsAtOnce = 4
)

// cleaner retries the undos that runs which have ended left pending.
type cleaner struct {
	journal  *journal.Journal
	settings *settings
	clock    clockwork.Clock
	log      *slog.Logger
}

// run retries until ctx ends. It has a goroutine of its own because a clean-up may take as
// long as an appliance does not answer.
func (c *cleaner) run(ctx context.Context) {
	tick := c.clock.NewTicker(cleanupEvery)
	defer tick.Stop()
	for {
		c.retry(ctx)
		select {
		case <-tick.Chan():
		case <-ctx.Done():
			return
		}
	}
}

// retry retries what is due: a few runs at once, so that one whose appliance does not
// answer holds up few others.
func (c *cleaner) retry(ctx context.Context) {
	undos, err := c.journal.Undos(ctx, journal.UndoPending)
	if err != nil {
		if ctx.Err() == nil {
			c.log.Error("cannot look for pending clean-ups", "error", err.Error())
		}
		return
	}
	var all errgroup.Group
	defer func() { _ = all.Wait() }() // each logs its own error
	all.SetLimit(cleanupsAtOnce)
	tried := map[string]bool{}
	for _, u := range undos {
		wait := u.NextAt.Sub(c.clock.Now())
		early := wait > 0 && wait <= longestBackoff // a longer one comes from a clock that was wrong
		if tried[u.Run] || u.NextAt.IsZero() || early {
			continue
		}
		tried[u.Run] = true
		if r, err := c.journal.Run(ctx, u.Run); err != nil || r.Ended.IsZero() {
			continue // a run that continues cleans up by itself
		}
		all.Go(func() error {
			if err := c.cleanUp(ctx, u.Run); err != nil && ctx.Err() == nil {
				c.log.Warn("clean-up failed again", "run", u.Run, "error", problem.From(err).Error())
			}
			return nil
		})
	}
}

// cleanUp tries the pending undos of a run that has ended.
func (c *cleaner) cleanUp(ctx context.Context, id string) error {
	s := c.settings.now()
	job := s.Job
	job.Mode = run.Cleanup
	_, err := s.Executor.Resume(ctx, job, id)
	return err
}

// Cleanup implements [api.Daemon].
func (d *Daemon) Cleanup(ctx context.Context, id, by string) error {
	r, err := d.control.Cleanup(ctx, id, control.Decision{By: by})
	if err != nil {
		return err
	}
	return d.cleaner.cleanUp(ctx, r.ID)
}

// Forget implements [api.Daemon].
func (d *Daemon) Forget(ctx context.Context, id, by string) ([]journal.Undo, error) {
	return d.control.Forget(ctx, id, control.Decision{By: by})
}

package daemon

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"moonseal/runtime/alert"
	"moonseal/runtime/api"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

const (
	// watchEvery is how often the daemon looks for troubles and left-over clean-up.
	watchEvery = time.Minute
	// beatEvery is how often it shows that it lives.
	beatEvery = 5 * time.Minute
	// longestRest is how long a clean-up that failed is left alone at most.
	longestRest = 24 * time.Hour
	// cleanups is how many runs it cleans up after at once.
	cleanups = 4
)

// watch looks around until ctx ends.
func (d *Daemon) watch(ctx context.Context) {
	tick := d.opt.Clock.NewTicker(watchEvery)
	defer tick.Stop()
	// An alert's service may take long to answer.
	look := make(chan struct{}, 1)
	var teller sync.WaitGroup
	defer teller.Wait()
	defer close(look)
	teller.Go(func() {
		for range look {
			d.tellTroubles(ctx)
		}
	})
	var beaten time.Time
	for {
		d.schedule.Look()
		d.probe(ctx)
		d.requeue(ctx)
		select {
		case look <- struct{}{}:
		default: // it looks soon
		}
		if now := d.opt.Clock.Now(); d.now().Beat != nil && now.Sub(beaten) >= beatEvery {
			beaten = now
			d.beat(ctx, d.now().Beat)
		}
		select {
		case <-tick.Chan():
		case <-d.again():
		case <-d.look:
		case <-ctx.Done():
			return
		}
	}
}

// clean tries left-over clean-ups again until ctx ends: beside watch, for a clean-up may
// take as long as an appliance does not answer.
func (d *Daemon) clean(ctx context.Context) {
	tick := d.opt.Clock.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		d.retryCleanups(ctx)
		select {
		case <-tick.Chan():
		case <-ctx.Done():
			return
		}
	}
}

// requeue queues the unfinished runs that the queue does not have, because the journal
// could not be read, or written, when they should have been queued.
func (d *Daemon) requeue(ctx context.Context) {
	added, err := d.queue.Sync(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		d.log.Error("cannot look for unfinished runs", "error", err.Error())
	case added > 0:
		d.log.Warn("the queue lacked runs that the journal has", "runs", added)
	}
}

func (d *Daemon) beat(ctx context.Context, beat func(context.Context) error) {
	if !d.Healthy(ctx) {
		return
	}
	if err := beat(ctx); err != nil && ctx.Err() == nil {
		d.log.Warn("heartbeat not sent", "error", err.Error())
	}
}

// tellTroubles tells people what they have to look at.
func (d *Daemon) tellTroubles(ctx context.Context) {
	if d.now().Send == nil {
		return // what nobody was told is told once there is somebody
	}
	status, err := d.Status(ctx)
	if err == nil {
		err = d.alerts.Update(ctx, status.Problems, func(p api.Problem, since time.Time) string {
			decisions, err := d.journal.Decisions(ctx, p.Run)
			if err != nil || p.Run == "" {
				decisions = nil // how it ended is said without
			}
			return alert.Over(status, p, decisions, d.opt.Clock.Now().Sub(since), d.opt.Clock.Now())
		})
	}
	if err != nil && ctx.Err() == nil && d.storage.trouble.Load() == nil {
		d.log.Error("troubles could not be looked for", "error", err.Error())
	}
}

func (d *Daemon) limits() alert.Limits {
	a := d.config().Alerts
	return alert.Limits{Expiring: time.Duration(a.Expiring), Waiting: time.Duration(a.Waiting)}
}

// retryCleanups tries again, when it is time, what runs that have ended could not
// undo: a few runs at once, so that one whose appliance does not answer keeps few others.
func (d *Daemon) retryCleanups(ctx context.Context) {
	undos, err := d.journal.Undos(ctx, journal.UndoPending)
	if err != nil {
		if ctx.Err() == nil {
			d.log.Error("left-over clean-up could not be looked for", "error", err.Error())
		}
		return
	}
	var all errgroup.Group
	defer func() { _ = all.Wait() }() // each logs its own error
	all.SetLimit(cleanups)
	tried := map[string]bool{}
	for _, u := range undos {
		wait := u.NextAt.Sub(d.opt.Clock.Now())
		early := wait > 0 && wait <= longestRest // a longer one is of a clock that was wrong
		if tried[u.Run] || u.NextAt.IsZero() || early {
			continue
		}
		tried[u.Run] = true
		if r, err := d.journal.Run(ctx, u.Run); err != nil || r.Ended.IsZero() {
			continue // a run that continues cleans up by itself
		}
		all.Go(func() error {
			if err := d.cleanUp(ctx, u.Run); err != nil && ctx.Err() == nil {
				d.log.Warn("clean-up failed again", "run", u.Run, "error", problem.From(err).Error())
			}
			return nil
		})
	}
}

// cleanUp tries the pending undos of a run that has ended.
func (d *Daemon) cleanUp(ctx context.Context, id string) error {
	s := d.now()
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
	return d.cleanUp(ctx, r.ID)
}

// Forget implements [api.Daemon].
func (d *Daemon) Forget(ctx context.Context, id, by string) ([]journal.Undo, error) {
	return d.control.Forget(ctx, id, control.Decision{By: by})
}

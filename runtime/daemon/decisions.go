package daemon

import (
	"context"
	"io"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/queue"
	"moonseal/runtime/run"
)

// Run implements [api.Daemon]: it starts a run, or makes the unfinished one continue now.
func (d *Daemon) Run(ctx context.Context, by string, r api.RunRequest) (*api.RunReply, error) {
	started, err := d.runs.begin(ctx, r.Playbook, r.Force, by)
	if err != nil {
		return nil, err
	}
	if !started.Unfinished {
		return &api.RunReply{ID: started.Run.ID, Broken: brokenScript(d.reload.Current(), r.Playbook)}, nil
	}
	old, due, err := d.control.Retry(ctx, started.Run.ID, control.Decision{By: by})
	if err == nil && due {
		err = d.runs.enqueue(ctx, old)
	}
	if problem.HasCode(err, problem.RunEnded) { // it ended just now
		err = nil
	}
	return &api.RunReply{ID: started.Run.ID, Resumed: true}, err
}

// Cancel implements [api.Daemon].
func (d *Daemon) Cancel(ctx context.Context, id, by string, a api.Decision) (*journal.Run, error) {
	r, err := d.control.Cancel(ctx, id, Decision(by, a))
	if err != nil {
		return nil, err
	}
	if d.queue.Cancel(r.ID) == queue.WasRunning {
		if a.Now {
			d.settings.now().Executor.Hurry(r.ID)
		}
		return &r, nil
	}
	// It waits, or is parked: a process must clean up all the same.
	return &r, d.runs.enqueue(ctx, r)
}

// Approve implements [api.Daemon].
func (d *Daemon) Approve(ctx context.Context, id, by string, a api.Decision) (*journal.Run, error) {
	return d.resumed(ctx)(d.control.Approve(ctx, id, Decision(by, a)))
}

// Deny implements [api.Daemon].
func (d *Daemon) Deny(ctx context.Context, id, by string, a api.Decision) (*journal.Run, error) {
	return d.resumed(ctx)(d.control.Deny(ctx, id, Decision(by, a)))
}

// Resume implements [api.Daemon].
func (d *Daemon) Resume(ctx context.Context, id, by string, a api.Decision) (*journal.Run, error) {
	return d.resumed(ctx)(d.control.Resume(ctx, id, Decision(by, a)))
}

// Unlock implements [api.Daemon].
func (d *Daemon) Unlock(ctx context.Context, id, by string, a api.Decision) ([]string, error) {
	names, err := d.control.Unlock(ctx, id, Decision(by, a))
	d.queue.Recheck()
	return names, err
}

// Decision returns a request's decision for package control.
func Decision(by string, a api.Decision) control.Decision {
	d := control.Decision{By: by, Ticket: a.Ticket, Reason: a.Reason, Now: a.Now, Verdicts: run.Verdicts{}}
	for name, v := range a.Calls {
		d.Verdicts[name] = run.Verdict(v)
	}
	if a.As != "" || len(a.Result) > 0 {
		d.Verdicts[""] = run.Verdict{As: a.As, Result: a.Result}
	}
	return d
}

// resumed returns a function that queues the run that a decision lets continue.
func (d *Daemon) resumed(ctx context.Context) func(journal.Run, error) (*journal.Run, error) {
	return func(r journal.Run, err error) (*journal.Run, error) {
		if err != nil {
			return nil, err
		}
		return &r, d.runs.enqueue(ctx, r)
	}
}

// Follow implements [api.Daemon].
func (d *Daemon) Follow(ctx context.Context, id string, each func(journal.Record) error) (*journal.Run, error) {
	r, err := d.journal.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	records, stop := d.hub.subscribe(r.ID)
	defer stop()
	// The end of a run is a record too, so nothing is missed between two ticks.
	tick := d.opt.Clock.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case rec := <-records:
			if err := each(rec); err != nil {
				return nil, err
			}
			if stops(rec) {
				r, err := d.journal.Run(ctx, r.ID)
				if err != nil {
					return nil, err
				}
				return &r, nil
			}
		case <-tick.Chan():
			r, err := d.journal.Run(ctx, r.ID)
			if err != nil {
				return nil, err
			}
			// Records are observed before they are committed: as long as a worker has the run
			// its row may be out of date.
			if r.Status != journal.Running && r.Status != journal.Ending && r.Status != journal.Created && !d.runs.busy(r.ID) {
				return &r, nil
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// stops reports whether a run's process ends after the record.
func stops(rec journal.Record) bool {
	switch rec.(type) {
	case journal.RunEnded, journal.RunWaiting, journal.RunParked:
		return true
	}
	return false
}

// Backup implements [api.Daemon].
func (d *Daemon) Backup(ctx context.Context, w io.Writer) error { return d.journal.Backup(ctx, w) }

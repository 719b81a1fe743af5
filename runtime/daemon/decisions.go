package daemon

import (
	"context"
	"io"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/bundle"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/queue"
	"moonseal/runtime/run"
)

// Run implements [api.Daemon]: it begins a run, or makes the unfinished one continue now.
func (d *Daemon) Run(ctx context.Context, by string, r api.RunRequest) (*api.RunReply, error) {
	begun, err := d.begin(ctx, r.Playbook, r.Force, by)
	if err != nil {
		return nil, err
	}
	if !begun.Unfinished {
		return &api.RunReply{ID: begun.Run.ID, Broken: d.brokenScript(r.Playbook)}, nil
	}
	old, due, err := d.control.Retry(ctx, begun.Run.ID, control.Decision{By: by})
	if err == nil && due {
		err = d.enqueue(ctx, old)
	}
	if problem.HasCode(err, problem.RunEnded) { // just now
		err = nil
	}
	return &api.RunReply{ID: begun.Run.ID, Resumed: true}, err
}

func (d *Daemon) noPlaybook(name string) error {
	s := d.reload.Current()
	var names []string
	for _, p := range s.Playbooks {
		names = append(names, p.Name)
	}
	return bundle.NoPlaybook(name, names, s.Problems)
}

// Cancel implements [api.Daemon].
func (d *Daemon) Cancel(ctx context.Context, id, by string, a api.Decision) (*journal.Run, error) {
	r, err := d.control.Cancel(ctx, id, Decision(by, a))
	if err != nil {
		return nil, err
	}
	if d.queue.Cancel(r.ID) == queue.WasRunning {
		if a.Now {
			d.now().Executor.Hurry(r.ID)
		}
		return &r, nil
	}
	// It waits, or is parked: a process has to clean up all the same.
	return &r, d.enqueue(ctx, r)
}

// Approve implements [api.Daemon].
func (d *Daemon) Approve(ctx context.Context, id, by string, a api.Decision) (*journal.Run, error) {
	return d.woken(ctx)(d.control.Approve(ctx, id, Decision(by, a)))
}

// Deny implements [api.Daemon].
func (d *Daemon) Deny(ctx context.Context, id, by string, a api.Decision) (*journal.Run, error) {
	return d.woken(ctx)(d.control.Deny(ctx, id, Decision(by, a)))
}

// Resume implements [api.Daemon].
func (d *Daemon) Resume(ctx context.Context, id, by string, a api.Decision) (*journal.Run, error) {
	return d.woken(ctx)(d.control.Resume(ctx, id, Decision(by, a)))
}

// Unlock implements [api.Daemon].
func (d *Daemon) Unlock(ctx context.Context, id, by string, a api.Decision) ([]string, error) {
	names, err := d.control.Unlock(ctx, id, Decision(by, a))
	d.queue.Recheck()
	return names, err
}

// Decision is a request's decision as control takes it.
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

// woken queues the run that a decision has let continue.
func (d *Daemon) woken(ctx context.Context) func(journal.Run, error) (*journal.Run, error) {
	return func(r journal.Run, err error) (*journal.Run, error) {
		if err != nil {
			return nil, err
		}
		return &r, d.enqueue(ctx, r)
	}
}

// Follow implements [api.Daemon].
func (d *Daemon) Follow(ctx context.Context, id string, tell func(journal.Record) error) (*journal.Run, error) {
	r, err := d.journal.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	records, stop := d.hub.subscribe(r.ID)
	defer stop()
	// What stops a run is a record too, so between two looks at it nothing is missed.
	look := d.opt.Clock.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case rec := <-records:
			if err := tell(rec); err != nil {
				return nil, err
			}
			if stops(rec) {
				return d.runNow(ctx, r.ID)
			}
		case <-look.Chan():
			r, err := d.journal.Run(ctx, r.ID)
			if err != nil {
				return nil, err
			}
			// A record is told before it is committed: as long as someone works on the
			// run its row may be that of before.
			if r.Status != journal.Running && r.Status != journal.Ending && r.Status != journal.Created && !d.busy(r.ID) {
				return &r, nil
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// stops reports whether a run's process is about to let go of it.
func stops(rec journal.Record) bool {
	switch rec.(type) {
	case journal.RunEnded, journal.RunWaiting, journal.RunParked:
		return true
	}
	return false
}

func (d *Daemon) runNow(ctx context.Context, id string) (*journal.Run, error) {
	r, err := d.journal.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// Backup implements [api.Daemon].
func (d *Daemon) Backup(ctx context.Context, w io.Writer) error { return d.journal.Backup(ctx, w) }

// busy reports whether a worker has the run right now, or the next free one will. One
// that waits for a lock may do so for long.
func (d *Daemon) busy(run string) bool {
	for _, r := range d.queue.Running() {
		if r.Job.Run == run {
			return true
		}
	}
	now := d.opt.Clock.Now()
	for _, w := range d.queue.Waiting() {
		if w.Job.Run == run {
			return !w.At.After(now) && w.Lock == ""
		}
	}
	return false
}

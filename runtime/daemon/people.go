package daemon

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/queue"
	"moonseal/runtime/run"
	"moonseal/runtime/suggest"
)

// Run implements [api.Daemon]: it begins a run, or wakes the unfinished one.
func (d *Daemon) Run(ctx context.Context, r api.RunRequest) (*api.RunReply, error) {
	id, resumed, err := d.begin(ctx, r.Playbook, r.Force)
	if err != nil {
		return nil, err
	}
	if !resumed {
		return &api.RunReply{ID: id, Broken: d.brokenScript(r.Playbook)}, nil
	}
	old, err := d.journal.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	if old.Status != journal.Parked {
		err = d.enqueue(ctx, old, d.opt.Clock.Now())
	}
	return &api.RunReply{ID: id, Resumed: true}, err
}

func (d *Daemon) noPlaybook(name string) error {
	s := d.reload.Current()
	for _, l := range lameScripts(s) {
		if l.name == name {
			return l.error
		}
	}
	var names []string
	for _, p := range s.Playbooks {
		names = append(names, p.Name)
	}
	e := &problem.Error{Kind: problem.Usage, Message: fmt.Sprintf("there is no playbook %q", name), Hint: "moonseal status lists them"}
	if near := suggest.Closest(name, names); near != "" {
		e.Hint = "did you mean " + near + "?"
	}
	return e
}

// unended gives a run that has not ended.
func (d *Daemon) unended(ctx context.Context, id string) (*journal.History, error) {
	r, err := d.journal.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	if !r.Ended.IsZero() {
		return nil, &problem.Error{Kind: problem.Conflict, Target: "run " + r.ID, Message: "it has ended already: " + string(r.Status)}
	}
	return d.journal.History(ctx, r.ID)
}

// Cancel implements [api.Daemon].
func (d *Daemon) Cancel(ctx context.Context, id string) error {
	h, err := d.unended(ctx, id)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // whole or not at all, whoever waits for the answer
	// It is kept first: a daemon that is killed now cancels the run when it is back.
	if err := d.setCancelled(h.Run.ID, true); err != nil {
		return err
	}
	if met, err := d.queue.Cancel(ctx, h.Run.ID); err != nil || met == queue.WasRunning {
		return err
	}
	// It waits, or is parked: a process has to clean up all the same.
	return d.enqueue(ctx, h.Run, d.opt.Clock.Now())
}

// setCancelled changes nothing where it cannot be kept.
func (d *Daemon) setCancelled(run string, is bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel[run] == is {
		return nil
	}
	cancel := maps.Clone(d.cancel)
	if is {
		cancel[run] = true
	} else {
		delete(cancel, run)
	}
	if err := writeKept(d.opt.Config.State, cancelFile, cancel); err != nil {
		return err
	}
	d.cancel = cancel
	return nil
}

func (d *Daemon) isCancelled(run string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cancel[run]
}

// Decide implements [api.Daemon].
func (d *Daemon) Decide(ctx context.Context, id string, approve bool, by string, a api.Decision) error {
	h, err := d.unended(ctx, id)
	if err != nil {
		return err
	}
	notAsked := &problem.Error{Kind: problem.Conflict, Target: "run " + h.Run.ID, Message: "it waits for no approval", Hint: "moonseal status shows what it waits for"}
	if h.Run.Status != journal.Waiting {
		return notAsked
	}
	return d.settle(ctx, h, func(stamp journal.Stamp) ([]journal.Record, error) {
		answer := run.Approval{By: by, Ticket: a.Ticket, Reason: a.Reason, At: stamp.At}
		rec, asked, err := run.Decide(h, stamp, approve, answer)
		if err != nil {
			return nil, err
		}
		if !asked {
			return nil, notAsked
		}
		return []journal.Record{rec, answer.Logged(stamp, approve)}, nil
	})
}

// forWorker is what a run waits for once a person has let it go on.
const forWorker = "a free worker"

// Resume implements [api.Daemon].
func (d *Daemon) Resume(ctx context.Context, id, by string, a api.Decision) error {
	h, err := d.unended(ctx, id)
	if err != nil {
		return err
	}
	if h.Run.Status != journal.Parked {
		return &problem.Error{
			Kind: problem.Conflict, Target: "run " + h.Run.ID, Message: "it is not parked: it is " + string(h.Run.Status),
			Hint: "moonseal run " + h.Run.Playbook + " makes a waiting run go on now",
		}
	}
	return d.settle(ctx, h, func(stamp journal.Stamp) ([]journal.Record, error) {
		recs, err := run.Settle(h, stamp, a.As)
		if err != nil {
			return nil, err
		}
		line := journal.Logged{Stamp: stamp, Level: "info", Message: strings.TrimSpace("resumed by " + by + " " + a.As)}
		return append(recs, line), nil
	})
}

// settle writes what a person has decided about a run that no process works on,
// and wakes it. It is on record that it waits for nobody any more: a daemon that is
// killed now lets it go on when it is back.
func (d *Daemon) settle(ctx context.Context, h *journal.History, decide func(journal.Stamp) ([]journal.Record, error)) error {
	ctx = context.WithoutCancel(ctx) // whole or not at all, whoever waits for the answer
	stamp := journal.Stamp{Run: h.Run.ID, Epoch: h.Run.Epoch, At: d.opt.Clock.Now().UTC()}
	// What is refused must not take the run from a process that works on it again.
	if _, err := decide(stamp); err != nil {
		return err
	}
	var err error
	if stamp.Epoch, err = d.journal.Adopt(ctx, h.Run.ID); err != nil {
		return err
	}
	recs, err := decide(stamp)
	if err != nil {
		return err
	}
	recs = append(recs, journal.RunWaiting{Stamp: stamp, For: forWorker, Until: stamp.At})
	if err := d.journal.Write(ctx, recs...); err != nil {
		return err
	}
	return d.enqueue(ctx, h.Run, d.opt.Clock.Now())
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

// busy reports whether a worker has the run right now, or the next free one will.
func (d *Daemon) busy(run string) bool {
	for _, r := range d.queue.Running() {
		if r.Job.Run == run {
			return true
		}
	}
	now := d.opt.Clock.Now()
	for _, w := range d.queue.Waiting() {
		if w.Job.Run == run {
			return !w.At.After(now)
		}
	}
	return false
}

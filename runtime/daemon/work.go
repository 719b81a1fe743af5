package daemon

import (
	"context"
	"errors"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/queue"
	"moonseal/runtime/reload"
	"moonseal/runtime/run"
	"moonseal/runtime/schedule"
	"moonseal/runtime/worker"
)

// forPerson is the wait for a person's answer: whoever gives it wakes the run.
const forPerson = 10 * 365 * 24 * time.Hour

// due implements the schedule's Enqueue.
func (d *Daemon) due(ctx context.Context, name string, why schedule.Reason) {
	if d.isPaused(name) {
		d.log.Info("paused, not begun", "playbook", name)
		return
	}
	id, resumed, err := d.begin(ctx, name, d.early(name, why))
	switch {
	case err != nil && ctx.Err() != nil: // the daemon stops; the next start catches it up
		d.log.Debug("due, and not begun any more", "playbook", name)
	case ofStorage(err):
		d.log.Error("a run that is due cannot begin yet", "playbook", name, "error", err.Error())
		d.miss(name, why)
		d.suspect(err)
	case err != nil:
		d.log.Error("a run that is due cannot begin", "playbook", name, "error", err.Error())
	case resumed:
		d.log.Debug("due, and its run is unfinished", "playbook", name, "run", id, "why", string(why.Cause), "due", why.Slot.UTC().Format(time.RFC3339))
	default:
		d.log.Info("run begun", "playbook", name, "run", id, "why", string(why.Cause), "due", why.Slot.UTC().Format(time.RFC3339))
	}
}

// begin queues the playbook's unfinished run, or a new one on today's scripts.
func (d *Daemon) begin(ctx context.Context, name string, force bool) (id string, resumed bool, err error) {
	d.beginning.Lock() // two askers must not begin two runs of one playbook
	defer d.beginning.Unlock()
	open, err := d.journal.Unfinished(ctx, name)
	if err != nil {
		return "", false, err
	}
	if len(open) > 0 {
		if open[0].Status == journal.Created { // it may be that it could not be queued
			err = d.enqueue(ctx, open[0], d.opt.Clock.Now())
		}
		return open[0].ID, true, err
	}
	book := d.reload.Current().Find(name)
	if book == nil {
		return "", false, d.noPlaybook(name)
	}
	var sources []journal.Source
	for _, s := range book.Sources {
		sources = append(sources, journal.Source{Path: s.Path, Body: []byte(s.Text)})
	}
	for _, need := range book.Needs {
		if text, ok := d.opt.Embedded[need]; ok {
			sources = append(sources, journal.Source{Path: need, Body: []byte(text)})
		}
	}
	if err := d.journal.SaveBundle(ctx, book.Hash, sources); err != nil {
		return "", false, err
	}
	ctx = context.WithoutCancel(ctx) // a run that is written is queued too
	id = d.journal.NewRunID()
	stamp := journal.Stamp{Run: id, Epoch: 1, At: d.opt.Clock.Now().UTC()}
	if err := d.journal.Write(ctx, journal.RunCreated{Stamp: stamp, Playbook: name, Bundle: book.Hash, Force: force, Locks: book.Locks}); err != nil {
		return "", false, err
	}
	return id, false, d.enqueue(ctx, journal.Run{ID: id, Playbook: name, Locks: book.Locks}, d.opt.Clock.Now())
}

// handOver is how long a playbook's next run waits for the worker of the one
// before, which has ended, to let go of the playbook.
const handOver = 10 * time.Second

// enqueue queues a run, in the order of what expires first.
func (d *Daemon) enqueue(ctx context.Context, r journal.Run, at time.Time) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOver)
	defer cancel()
	job := d.queued(ctx, r)
	for {
		added, err := d.queue.Enqueue(ctx, job, at)
		if added || err != nil {
			return err
		}
		if mine, err := d.queue.Free(ctx, job); mine || err != nil {
			return err
		}
	}
}

// queued is the run for the queue.
func (d *Daemon) queued(ctx context.Context, r journal.Run) queue.Job {
	return queue.Job{Run: r.ID, Playbook: r.Playbook, Locks: r.Locks, Expires: d.expires(ctx, r.Playbook)}
}

// expires gives when the first of the playbook's certificates ends, as they were
// recorded last.
func (d *Daemon) expires(ctx context.Context, playbook string) time.Time {
	records, err := d.journal.LastRecords(ctx, playbook)
	if err != nil {
		d.log.Warn("it is not known what expires first", "playbook", playbook, "error", err.Error())
	}
	ends := map[string]time.Time{} // of each subject what was seen last
	for _, rec := range records {
		if f := seen(rec); !f.NotAfter.IsZero() {
			ends[f.Subject] = f.NotAfter
		}
	}
	var first time.Time
	for _, at := range ends {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// unfinished gives the queue the runs that the journal has not seen end.
func (d *Daemon) unfinished(ctx context.Context) ([]queue.Waiting, error) {
	runs, err := d.journal.Unfinished(ctx, "")
	if err != nil {
		return nil, err
	}
	var jobs []queue.Waiting
	for _, r := range runs {
		if r.Status == journal.Parked && !d.isCancelled(r.ID) {
			continue // it waits for a person
		}
		jobs = append(jobs, queue.Waiting{Job: d.queued(ctx, r), At: d.wakeAt(r)})
	}
	return jobs, nil
}

// wakeAt gives when an unfinished run goes on.
func (d *Daemon) wakeAt(r journal.Run) time.Time {
	switch {
	case r.Updated.After(d.opt.Clock.Now().Add(time.Hour)): // the clock was wrong when it came to wait
		return d.opt.Clock.Now()
	case r.Status != journal.Waiting || d.isCancelled(r.ID):
		return d.opt.Clock.Now()
	case r.WakeAt.IsZero():
		return d.opt.Clock.Now().Add(forPerson)
	default:
		return r.WakeAt
	}
}

// work implements the queue's Work: it takes a run up in a child process.
func (d *Daemon) work(ctx context.Context, j queue.Job) queue.Result {
	r, err := d.journal.Run(ctx, j.Run)
	if err == nil && !r.Ended.IsZero() || err != nil && problem.From(err).Kind == problem.NotFound {
		return queue.Done() // the queue may know less than the journal after a power cut, or more than a restored one
	}
	if err != nil {
		return d.stopped(ctx, j, err)
	}
	s := d.now()
	ctx, stop := cancellable(ctx)
	defer stop()
	out, err := s.Executor.Resume(ctx, d.job(s, j.Run), j.Run)
	if err != nil {
		return d.stopped(ctx, j, err)
	}
	d.after(ctx, j, out)
	switch {
	case !out.Status.Outcome() && d.isCancelled(j.Run): // it came to wait just when it was cancelled
		return queue.Wait(d.opt.Clock.Now())
	case out.Status == run.Replaying: // the daemon stops
		return queue.Wait(d.opt.Clock.Now())
	case out.Status == journal.Waiting && out.Until.IsZero():
		return queue.Wait(d.opt.Clock.Now().Add(forPerson))
	case out.Status == journal.Waiting:
		return queue.Wait(out.Until)
	default:
		return queue.Done()
	}
}

// cancellable gives a context whose cause, when a person cancels the job, is the
// one that children know.
func cancellable(ctx context.Context) (context.Context, func()) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), queue.ErrCancelled) {
			cancel(run.ErrCancelled)
			return
		}
		cancel(context.Cause(ctx))
	})
	return out, func() {
		stop()
		cancel(nil)
	}
}

// stopped is a run whose process ended without an outcome.
func (d *Daemon) stopped(ctx context.Context, j queue.Job, err error) queue.Result {
	if ctx.Err() != nil { // the daemon stops, or a person has cancelled the run: it is taken up again
		if !errors.Is(context.Cause(ctx), run.ErrCancelled) {
			d.interrupted(j)
		}
		return queue.Wait(d.opt.Clock.Now())
	}
	e := problem.From(err)
	if e.Kind == problem.Conflict && e.Message == journal.ErrStaleEpoch.Error() { // a person has answered meanwhile
		d.log.Info("run taken over", "run", j.Run, "playbook", j.Playbook)
		return queue.Wait(d.opt.Clock.Now())
	}
	d.log.Error("run stopped", "run", j.Run, "playbook", j.Playbook, "error", e.Error())
	d.suspect(e)
	return queue.Retry(e)
}

// interrupted says that a run stops because the daemon does.
func (d *Daemon) interrupted(j queue.Job) {
	d.log.Info("run interrupted; it goes on at the next start", "run", j.Run, "playbook", j.Playbook)
}

// after notes what a run ended or stopped with.
func (d *Daemon) after(ctx context.Context, j queue.Job, out *run.Outcome) {
	if out.Status == run.Replaying {
		d.interrupted(j)
		return
	}
	level, args := d.outcomeLine(j, out)
	d.log.Log(ctx, level, "run "+string(out.Status), args...)
	if !out.Status.Outcome() {
		return
	}
	if err := d.setCancelled(j.Run, false); err != nil {
		d.log.Warn("cannot keep that a cancelled run has ended", "run", j.Run, "error", err.Error())
	}
	records, err := d.journal.History(ctx, j.Run)
	if err != nil {
		d.log.Error("the journal cannot be read", "error", err.Error())
		return
	}
	if at := d.asked(j.Playbook, records.Records); !at.IsZero() {
		d.schedule.SetNext(j.Playbook, at)
	}
}

// job gives what a child needs beside the run's own sources.
func (d *Daemon) job(s *setup, id string) worker.Job {
	job := s.Job
	if d.isCancelled(id) {
		job.Mode = run.Cancel
	}
	return job
}

// load implements the reloader's Load.
func (d *Daemon) load(ctx context.Context, files map[string]string) (*reload.Loaded, error) {
	s := d.now()
	job := s.Job
	job.Files = files
	loaded, err := s.Executor.Load(ctx, job)
	if err != nil {
		return nil, err
	}
	if err := Check(loaded, files, s.cfg.Blackouts, d.opt.Clock.Now()); err != nil {
		return nil, err
	}
	return &reload.Loaded{Playbooks: loaded.Playbooks, Problems: loaded.Problems}, nil
}

// last implements the reloader's Last: a script that is broken at the start goes
// on as its newest run had it.
func (d *Daemon) last(ctx context.Context, file string) map[string]string {
	sources, err := d.journal.LastSources(ctx, file)
	if err != nil {
		d.log.Error("the journal cannot be read", "error", err.Error())
		return nil
	}
	for name := range d.opt.Embedded { // of this version, not of that one
		delete(sources, name)
	}
	return sources
}

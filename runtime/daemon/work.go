package daemon

import (
	"context"
	"errors"
	"time"

	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/queue"
	"moonseal/runtime/reload"
	"moonseal/runtime/run"
	"moonseal/runtime/schedule"
)

// due implements the schedule's Enqueue.
func (d *Daemon) due(ctx context.Context, name string, why schedule.Reason) {
	if d.isPaused(ctx, name) {
		d.log.Info("paused, not begun", "playbook", name)
		return
	}
	begun, err := d.begin(ctx, name, d.early(name, why), "")
	id := begun.Run.ID
	switch {
	case err != nil && ctx.Err() != nil: // the daemon stops; the next start catches it up
		d.log.Debug("due, and not begun any more", "playbook", name)
	case ofStorage(err):
		d.log.Error("a run that is due cannot begin yet", "playbook", name, "error", err.Error())
		d.miss(name, why)
		d.suspect(err)
	case err != nil:
		d.log.Error("a run that is due cannot begin", "playbook", name, "error", err.Error())
	case begun.Unfinished:
		d.log.Debug("due, and its run is unfinished", "playbook", name, "run", id, "why", string(why.Cause), "due", why.Slot.UTC().Format(time.RFC3339))
	default:
		d.log.Info("run begun", "playbook", name, "run", id, "why", string(why.Cause), "due", why.Slot.UTC().Format(time.RFC3339))
	}
}

// begin queues a new run of the playbook on today's scripts, unless one is unfinished.
func (d *Daemon) begin(ctx context.Context, name string, force bool, by string) (control.Begun, error) {
	book := d.reload.Current().Find(name)
	if book == nil {
		open, err := d.journal.Unfinished(ctx, name)
		switch {
		case err != nil:
			return control.Begun{}, err
		case len(open) == 0:
			return control.Begun{}, d.noPlaybook(name)
		}
		return control.Begun{Run: open[0], Unfinished: true}, nil // its script is gone
	}
	b := control.Beginning{
		Playbook: name, Bundle: book.Hash, Locks: book.Locks, Shared: d.config().SharedLocks, Force: force, By: by,
	}
	for _, s := range book.Sources {
		b.Sources = append(b.Sources, journal.Source{Path: s.Path, Body: []byte(s.Text)})
	}
	for _, need := range book.Needs {
		if text, ok := d.opt.Embedded[need]; ok {
			b.Sources = append(b.Sources, journal.Source{Path: need, Body: []byte(text)})
		}
	}
	begun, err := d.control.Begin(ctx, b)
	if err == nil && begun.Run.Status == journal.Created { // an unfinished one may be that could not be queued
		err = d.enqueue(ctx, begun.Run)
	}
	return begun, err
}

// handOver is how long a playbook's next run waits for the worker of the one
// before, which has ended, to let go of the playbook.
const handOver = 10 * time.Second

// enqueue queues a run, to be worked on as soon as its locks and a worker are free.
func (d *Daemon) enqueue(ctx context.Context, r journal.Run) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOver) // a run that is written is queued too
	defer cancel()
	job := d.queued(ctx, r)
	for {
		added, err := d.queue.Enqueue(job, d.opt.Clock.Now())
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
	job := queue.Job{Run: r.ID, Playbook: r.Playbook, Tenant: tenant(r.Playbook), Expires: d.expires(ctx, r.Playbook)}
	if waitsForLock(r) {
		job.Locks = r.Locks
	}
	return job
}

// expires returns when the first of the playbook's certificates ends, as they were
// recorded last.
func (d *Daemon) expires(ctx context.Context, playbook string) time.Time {
	records, err := d.journal.LastRecords(ctx, playbook)
	if err != nil {
		d.log.Warn("it is not known what expires first", "playbook", playbook, "error", err.Error())
	}
	return firstEnd(records)
}

// firstEnd returns when the first of the certificates in a run's records ends; zero if
// none is known.
func firstEnd(records []journal.RecordedRow) (first time.Time) {
	ends := map[string]time.Time{} // of each subject what was seen last
	for _, rec := range records {
		if f := seen(rec); !f.NotAfter.IsZero() {
			ends[f.Subject] = f.NotAfter
		}
	}
	for _, at := range ends {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// unfinished returns the queue the runs that the journal has not seen end.
func (d *Daemon) unfinished(ctx context.Context) ([]queue.Waiting, error) {
	runs, err := d.journal.Unfinished(ctx, "")
	if err != nil {
		return nil, err
	}
	var jobs []queue.Waiting
	for _, r := range runs {
		if waitsForPerson(r) {
			continue
		}
		jobs = append(jobs, queue.Waiting{Job: d.queued(ctx, r), At: d.wakeAt(r)})
	}
	return jobs, nil
}

// waitsForPerson reports whether a run has nothing to do until a decision.
func waitsForPerson(r journal.Run) bool {
	parked := r.Status == journal.Parked || r.Status == journal.Waiting && r.WakeAt.IsZero() && !waitsForLock(r)
	return parked && r.CancelAsked.IsZero()
}

// wakeAt returns when an unfinished run continues.
func (d *Daemon) wakeAt(r journal.Run) time.Time {
	switch {
	case r.ClockSetBack(d.opt.Clock.Now()):
		return d.opt.Clock.Now()
	case r.Status != journal.Waiting || waitsForLock(r) || !r.CancelAsked.IsZero():
		return d.opt.Clock.Now()
	default:
		return r.WakeAt
	}
}

// work implements the queue's Work: it takes a run up in a child process.
func (d *Daemon) work(ctx context.Context, j queue.Job) queue.Result {
	r, err := d.journal.Run(ctx, j.Run)
	if err == nil && (!r.Ended.IsZero() || waitsForPerson(r)) || err != nil && problem.From(err).Kind == problem.NotFound {
		// The queue may know less than the journal after a power cut, or if the run came
		// to stop while the queue was synced, or more than a restored one.
		return queue.Done()
	}
	if err != nil {
		return d.stopped(ctx, j, err)
	}
	// So it may if the run came to wait then. One that waits for its window looks again
	// when windows have changed.
	if at := d.wakeAt(r); r.Status == journal.Waiting && r.WaitFor != run.WaitWindow && at.After(d.opt.Clock.Now()) {
		return queue.Wait(at)
	}
	s := d.now()
	ctx, stop := cancellable(ctx)
	defer stop()
	out, err := s.Executor.Resume(ctx, s.Job, j.Run)
	if err != nil {
		return d.stopped(ctx, j, err)
	}
	d.after(ctx, j, out)
	if r, err = d.journal.Run(context.WithoutCancel(ctx), j.Run); err != nil {
		return d.stopped(ctx, j, err)
	}
	switch {
	case out.Status == journal.Parked && !r.CancelAsked.IsZero(): // its process cannot even end it
		return queue.Retry(out.Error)
	case !out.Status.Outcome() && !r.CancelAsked.IsZero(): // it came to wait just when it was cancelled
		return queue.Wait(d.opt.Clock.Now())
	case out.Status == run.Replaying: // the daemon stops
		return queue.Wait(d.opt.Clock.Now())
	case waitsForLock(r):
		return queue.WaitForLocks(r.Locks)
	case out.Status == journal.Waiting && !waitsForPerson(r):
		return queue.Wait(d.wakeAt(r)) // at once if the clock was set back just now
	default: // it has ended, or a decision enqueues it
		return queue.Done()
	}
}

// cancellable returns a context whose cause, when a person cancels the job, is the
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
	if e.Code == problem.StaleEpoch { // a decision has taken the run over meanwhile
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
	ctx = context.WithoutCancel(ctx) // of a run that was cancelled it has ended
	if out.Status == run.Replaying {
		d.interrupted(j)
		return
	}
	level, args := d.outcomeLine(j, out)
	d.log.Log(ctx, level, "run "+string(out.Status), args...)
	if !out.Status.Outcome() {
		return
	}
	d.queue.Recheck() // its locks are free
	records, err := d.journal.History(ctx, j.Run)
	if err != nil {
		d.log.Error("the journal cannot be read", "error", err.Error())
		return
	}
	if at := d.asked(j.Playbook, records.Records); !at.IsZero() {
		d.schedule.SetNext(j.Playbook, at)
	}
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

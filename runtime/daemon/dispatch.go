package daemon

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/queue"
	"moonseal/runtime/reload"
	"moonseal/runtime/run"
	"moonseal/runtime/schedule"
)

// dispatcher creates runs, queues them and executes them in child processes.
type dispatcher struct {
	journal  *journal.Journal
	control  *control.Control
	queue    queue.Queue
	scripts  *reload.Reloader
	planner  *planner
	settings *settings
	storage  *storage
	embedded map[string]string // scripts that children bring along
	clock    clockwork.Clock
	log      *slog.Logger
}

// due implements the schedule's Enqueue.
func (d *dispatcher) due(ctx context.Context, name string, why schedule.Reason) {
	if d.paused(ctx, name) {
		d.log.Info("run skipped: paused", "playbook", name)
		return
	}
	args := []any{"playbook", name}
	created, err := d.begin(ctx, name, d.planner.early(name, why), "")
	if err == nil {
		args = append(args, "run", created.Run.ID, "why", string(why.Cause), "due", why.Slot.UTC().Format(time.RFC3339))
	}
	switch {
	case err != nil && (ctx.Err() != nil || errors.Is(err, queue.ErrClosed)): // the next start catches it up
		d.log.Debug("run skipped: shutting down", args...)
	case problem.HasCode(err, problem.StateFailed):
		d.log.Error("a due run cannot start yet", append(args, "error", err.Error())...)
		d.storage.miss(name, why)
		d.storage.report(err)
	case err != nil:
		d.log.Error("a due run cannot start", append(args, "error", err.Error())...)
	case created.Unfinished:
		d.log.Debug("run skipped: the last one is unfinished", args...)
	default:
		d.log.Info("run started", args...)
	}
}

// paused reports whether the playbook, or every one, starts no runs by schedule.
func (d *dispatcher) paused(ctx context.Context, playbook string) bool {
	paused, err := d.journal.Paused(ctx)
	return err == nil && paused.Has(playbook)
}

// begin creates and queues a run of the playbook on the current scripts, unless one is
// unfinished.
func (d *dispatcher) begin(ctx context.Context, name string, force bool, by string) (control.Started, error) {
	book := d.scripts.Current().Find(name)
	if book == nil {
		open, err := d.journal.Unfinished(ctx, name)
		switch {
		case err != nil:
			return control.Started{}, err
		case len(open) == 0:
			return control.Started{}, noPlaybook(d.scripts.Current(), name)
		}
		return control.Started{Run: open[0], Unfinished: true}, nil // its script is gone
	}
	b := control.Beginning{
		Playbook: name, Bundle: book.Hash, Locks: book.Locks, Shared: d.settings.config().SharedLocks, Force: force, By: by,
	}
	for _, s := range book.Sources {
		b.Sources = append(b.Sources, journal.Source{Path: s.Path, Body: []byte(s.Text)})
	}
	for _, need := range book.Needs {
		if text, ok := d.embedded[need]; ok {
			b.Sources = append(b.Sources, journal.Source{Path: need, Body: []byte(text)})
		}
	}
	created, err := d.control.Begin(ctx, b)
	if err == nil && created.Run.Status == journal.Created { // an unfinished run may not have been queued
		err = d.enqueue(ctx, created.Run)
	}
	return created, err
}

// handOver is how long a playbook's next run waits until the worker of the one before,
// which has ended, has released the playbook.
const handOver = 10 * time.Second

// enqueue queues a run, to be executed as soon as its locks and a worker are free.
func (d *dispatcher) enqueue(ctx context.Context, r journal.Run) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOver) // a run that is journaled must be queued too
	defer cancel()
	job := d.job(ctx, r)
	for {
		added, err := d.queue.Enqueue(job, d.clock.Now())
		if added || err != nil {
			return err
		}
		if mine, err := d.queue.Free(ctx, job); mine || err != nil {
			return err
		}
	}
}

// job returns the run as the queue has it.
func (d *dispatcher) job(ctx context.Context, r journal.Run) queue.Job {
	job := queue.Job{Run: r.ID, Playbook: r.Playbook, Tenant: tenant(r.Playbook), Expires: d.expires(ctx, r.Playbook)}
	if waitsForLock(r) {
		job.Locks = r.Locks
	}
	return job
}

// expires returns when the first of the playbook's certificates ends, by its last
// records.
func (d *dispatcher) expires(ctx context.Context, playbook string) time.Time {
	records, err := d.journal.LastRecords(ctx, playbook)
	if err != nil {
		d.log.Warn("cannot read which certificate expires first", "playbook", playbook, "error", err.Error())
	}
	return firstEnd(records)
}

// firstEnd returns when the first of the certificates in a run's records ends; zero if
// none is known.
func firstEnd(records []journal.RecordedRow) (first time.Time) {
	ends := map[string]time.Time{} // by subject; the last record counts
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

// unfinished implements the queue's Unfinished: the runs that have not ended and wait for
// no decision.
func (d *dispatcher) unfinished(ctx context.Context) ([]queue.Waiting, error) {
	runs, err := d.journal.Unfinished(ctx, "")
	if err != nil {
		return nil, err
	}
	var jobs []queue.Waiting
	for _, r := range runs {
		if waitsForPerson(r) {
			continue
		}
		jobs = append(jobs, queue.Waiting{Job: d.job(ctx, r), At: d.wakeAt(r)})
	}
	return jobs, nil
}

// waitsForPerson reports whether a run has nothing to do until a decision.
func waitsForPerson(r journal.Run) bool {
	parked := r.Status == journal.Parked || r.Status == journal.Waiting && r.WakeAt.IsZero() && !waitsForLock(r)
	return parked && r.CancelAsked.IsZero()
}

// wakeAt returns when an unfinished run continues.
func (d *dispatcher) wakeAt(r journal.Run) time.Time {
	switch {
	case r.ClockSetBack(d.clock.Now()):
		return d.clock.Now()
	case r.Status != journal.Waiting || waitsForLock(r) || !r.CancelAsked.IsZero():
		return d.clock.Now()
	default:
		return r.WakeAt
	}
}

// work implements the queue's Work: it resumes a run in a child process.
func (d *dispatcher) work(ctx context.Context, j queue.Job) queue.Result {
	r, err := d.journal.Run(ctx, j.Run)
	if err == nil && (!r.Ended.IsZero() || waitsForPerson(r)) || err != nil && problem.From(err).Kind == problem.NotFound {
		// The queue may be behind the journal after a power cut, or if the run stopped while
		// the queue was synced; and ahead of a restored one.
		return queue.Done()
	}
	if err != nil {
		return d.stopped(ctx, j, err)
	}
	// It may be behind too if the run started to wait then. A run that waits for its window
	// checks it again, since windows may have changed.
	if at := d.wakeAt(r); r.Status == journal.Waiting && r.WaitFor != run.WaitWindow && at.After(d.clock.Now()) {
		return queue.Wait(at)
	}
	s := d.settings.now()
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
	case out.Status == journal.Parked && !r.CancelAsked.IsZero(): // its process cannot end it
		return queue.Retry(out.Error)
	case !out.Status.Outcome() && !r.CancelAsked.IsZero(): // it started to wait just when it was cancelled
		return queue.Wait(d.clock.Now())
	case out.Status == run.Replaying: // the daemon stops
		return queue.Wait(d.clock.Now())
	case waitsForLock(r):
		return queue.WaitForLocks(r.Locks)
	case out.Status == journal.Waiting && !waitsForPerson(r):
		return queue.Wait(d.wakeAt(r)) // at once if the clock was set back just now
	default: // it has ended, or a decision enqueues it
		return queue.Done()
	}
}

// cancellable returns a context whose cause, when the job is cancelled, is the one that
// children know.
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

// stopped handles the end of a process without an outcome.
func (d *dispatcher) stopped(ctx context.Context, j queue.Job, err error) queue.Result {
	if ctx.Err() != nil { // the daemon stops, or the run is cancelled: it is resumed later
		if !errors.Is(context.Cause(ctx), run.ErrCancelled) {
			d.interrupted(j)
		}
		return queue.Wait(d.clock.Now())
	}
	e := problem.From(err)
	if e.Code == problem.StaleEpoch { // a decision has adopted the run meanwhile
		d.log.Info("run taken over", "run", j.Run, "playbook", j.Playbook)
		return queue.Wait(d.clock.Now())
	}
	d.log.Error("run stopped", "run", j.Run, "playbook", j.Playbook, "error", e.Error())
	d.storage.report(e)
	return queue.Retry(e)
}

// interrupted logs that a run stops because the daemon does.
func (d *dispatcher) interrupted(j queue.Job) {
	d.log.Info("run interrupted; it continues at the next start", "run", j.Run, "playbook", j.Playbook)
}

// after logs how a run ended or stopped, and plans the next one.
func (d *dispatcher) after(ctx context.Context, j queue.Job, out *run.Outcome) {
	ctx = context.WithoutCancel(ctx) // a cancelled run has ended too
	if out.Status == run.Replaying {
		d.interrupted(j)
		return
	}
	level, args := outcomeLine(j, out)
	d.log.Log(ctx, level, "run "+string(out.Status), args...)
	if !out.Status.Outcome() {
		return
	}
	d.queue.Recheck() // its locks are free
	records, err := d.journal.History(ctx, j.Run)
	if err != nil {
		d.log.Error("cannot read the journal", "error", err.Error())
		return
	}
	d.planner.ended(j.Playbook, records.Records)
}

// busy reports whether a worker has the run right now, or the next free one will. One
// that waits for a lock may do so for long.
func (d *dispatcher) busy(run string) bool {
	for _, r := range d.queue.Running() {
		if r.Job.Run == run {
			return true
		}
	}
	now := d.clock.Now()
	for _, w := range d.queue.Waiting() {
		if w.Job.Run == run {
			return !w.At.After(now) && w.Lock == ""
		}
	}
	return false
}

// wakeWindowWaiters wakes the runs that wait for their window: it may be open now. If it
// is not they wait again.
func (d *dispatcher) wakeWindowWaiters(ctx context.Context) {
	runs, err := d.journal.Unfinished(ctx, "")
	if err != nil {
		d.log.Error("cannot wake the runs that wait for their window", "error", err.Error())
	}
	for _, r := range runs {
		if r.Status == journal.Waiting && r.WaitFor == run.WaitWindow {
			d.queue.Wake(r.ID)
		}
	}
}

package daemon

import (
	"context"
	"errors"
	"time"

	"moonseal/runtime/bundle"
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
	id, resumed, err := d.begin(ctx, name, false)
	switch {
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

// expires gives when the playbook's certificate ends, as it was recorded last.
func (d *Daemon) expires(ctx context.Context, playbook string) time.Time {
	rec, err := d.journal.LastRecord(ctx, playbook)
	if err != nil || rec == nil {
		return time.Time{}
	}
	return seen(*rec).NotAfter
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
	var job worker.Job
	if err == nil {
		job, err = d.job(j.Run)
	}
	if err != nil {
		d.log.Error("a run cannot go on", "run", j.Run, "error", err.Error())
		return queue.Retry(err)
	}
	ctx, stop := cancellable(ctx)
	defer stop()
	out, err := d.exec.Resume(ctx, job, j.Run)
	if err != nil {
		return d.stopped(ctx, j, err)
	}
	d.after(ctx, j, out)
	switch {
	case !out.Status.Outcome() && d.isCancelled(j.Run): // it came to wait just when it was cancelled
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
	if ctx.Err() != nil { // the daemon stops; the next start takes it up
		return queue.Wait(d.opt.Clock.Now())
	}
	e := problem.From(err)
	d.log.Error("run stopped", "run", j.Run, "playbook", j.Playbook, "error", e.Error())
	return queue.Retry(e)
}

// after notes what a run ended or stopped with.
func (d *Daemon) after(ctx context.Context, j queue.Job, out *run.Outcome) {
	level, args := d.outcomeLine(j, out)
	d.log.Log(ctx, level, "run "+string(out.Status), args...)
	if !out.Status.Outcome() {
		return
	}
	if err := d.setCancelled(j.Run, false); err != nil {
		d.log.Warn("cannot keep that a cancelled run has ended", "run", j.Run, "error", err.Error())
	}
	rec, err := d.journal.LastRecord(ctx, j.Playbook)
	if err == nil && rec != nil && rec.Run == j.Run {
		if next := seen(*rec).Next; next != nil && next.After(d.opt.Clock.Now()) {
			d.schedule.SetNext(j.Playbook, *next)
		}
	}
}

// job gives what a child needs beside the run's own sources.
func (d *Daemon) job(id string) (worker.Job, error) {
	job, err := d.opt.Job(d.config())
	if err != nil {
		return job, err
	}
	if d.isCancelled(id) {
		job.Mode = run.Cancel
	}
	return job, nil
}

// load implements the reloader's Load.
func (d *Daemon) load(ctx context.Context, files map[string]string) (*reload.Loaded, error) {
	job, err := d.opt.Job(d.config())
	if err != nil {
		return nil, err
	}
	job.Files = files
	loaded, err := d.exec.Load(ctx, job)
	if err != nil {
		return nil, err
	}
	return d.checked(loaded), nil
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

// checked refuses the playbooks whose schedule or window cannot be.
func (d *Daemon) checked(l *worker.Loaded) *reload.Loaded {
	out := &reload.Loaded{Problems: l.Problems}
	for _, p := range l.Playbooks {
		if err := d.possible(p); err != nil {
			e := *problem.From(err)
			e.Place = &problem.Place{File: p.File, Line: p.Line}
			out.Problems = append(out.Problems, &e)
			continue
		}
		out.Playbooks = append(out.Playbooks, p)
	}
	return out
}

// possible refuses a schedule that never comes and a window that never opens.
func (d *Daemon) possible(p *bundle.Playbook) error {
	_, w, err := d.plan(p)
	if err != nil || w == nil {
		return err
	}
	blackouts, err := schedule.ParseBlackouts(d.config().Blackouts)
	if err != nil {
		return err
	}
	return w.Without(blackouts).Check(d.opt.Clock.Now())
}

// plan reads a playbook's schedule and window; nil where it has none.
func (d *Daemon) plan(p *bundle.Playbook) (*schedule.Schedule, *schedule.Window, error) {
	var s *schedule.Schedule
	if p.Schedule != nil {
		var err error
		if s, err = schedule.Parse(p.Schedule); err != nil {
			return nil, nil, err
		}
	}
	if p.Window == nil {
		return s, nil, nil
	}
	w, err := schedule.ParseWindow(p.Window)
	return s, w, err
}

// apply implements the reloader's Apply: the schedule follows the scripts.
func (d *Daemon) apply(_, now *reload.Snapshot) {
	d.reschedule(now)
	d.notify("STATUS=" + d.summary())
}

// reschedule gives the scheduler what is live now. It touches what has changed.
func (d *Daemon) reschedule(now *reload.Snapshot) {
	ctx := context.Background()
	views, err := d.journal.Overviews(ctx)
	if err != nil {
		d.log.Error("the journal cannot be read; the schedule stays as it is", "error", err.Error())
		return
	}
	entries := map[string]schedule.Entry{}
	for _, p := range now.Playbooks {
		s, _, err := d.plan(&p.Playbook)
		if err != nil { // checked at load
			d.log.Error("no schedule", "playbook", p.Name, "error", err.Error())
			continue
		}
		e := schedule.Entry{Schedule: s, Paused: d.isPaused(p.Name)}
		if v := views[p.Name]; v != nil {
			e.LastRun, e.At = lastAndNext(v)
		}
		entries[p.Name] = e
	}
	d.remember(entries, len(now.Problems) == 0)
	d.schedule.Set(entries)
}

// known is a playbook's schedule, and since when it is that.
type known struct {
	Schedule string    `json:"schedule"`
	Since    time.Time `json:"since"`
}

// remember keeps since when each playbook has its schedule. What was due before
// does not count, and what comes due while the daemon is down is caught up even
// where it would be the playbook's first run. whole says that entries are all
// that there are.
func (d *Daemon) remember(entries map[string]schedule.Entry, whole bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := false
	for name, e := range entries {
		if e.Schedule == nil {
			continue
		}
		k, there := d.schedules[name]
		if !there || k.Schedule != e.Schedule.String() {
			k = known{e.Schedule.String(), d.opt.Clock.Now().UTC()}
			if !there && !e.LastRun.IsZero() {
				k.Since = e.LastRun
			}
			d.schedules[name], changed = k, true
		}
		interval := e.Schedule.Interval()
		if k.Since.After(e.LastRun) && (!interval || e.LastRun.IsZero() && k.Since.Before(d.since)) {
			e.LastRun = k.Since
			entries[name] = e
		}
	}
	for name := range d.schedules {
		if _, there := entries[name]; !there && whole {
			delete(d.schedules, name)
			changed = true
		}
	}
	if !changed {
		return
	}
	if err := writeKept(d.cfg.State, scheduleFile, d.schedules); err != nil {
		d.log.Warn("cannot keep since when schedules are as they are", "error", err.Error())
	}
}

// lastAndNext gives up to when a playbook has run, and the moment that it asked
// for. What was due while a run of it went on was that run's.
func lastAndNext(v *journal.Overview) (last, next time.Time) {
	if v.Last != nil {
		last = v.Last.Ended
	}
	if u := v.Unfinished; u != nil && u.Created.After(last) {
		last = u.Created
	}
	for _, rec := range v.Records {
		if at := seen(rec).Next; at != nil && at.After(rec.At) { // one in the past asks for nothing
			next = *at
		}
	}
	return last, next
}

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
	case !resumed:
		d.log.Info("run begun", "playbook", name, "run", id, "why", string(why.Cause))
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
		return open[0].ID, true, nil
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
	id = d.journal.NewRunID()
	stamp := journal.Stamp{Run: id, Epoch: 1, At: d.opt.Clock.Now().UTC()}
	if err := d.journal.Write(ctx, journal.RunCreated{Stamp: stamp, Playbook: name, Bundle: book.Hash, Force: force}); err != nil {
		return "", false, err
	}
	return id, false, d.enqueue(ctx, id, name, d.opt.Clock.Now())
}

// enqueue queues a run, in the order of what expires first.
func (d *Daemon) enqueue(ctx context.Context, id, playbook string, at time.Time) error {
	job := queue.Job{Run: id, Playbook: playbook, Expires: d.expires(ctx, playbook)}
	if book := d.reload.Current().Find(playbook); book != nil {
		job.Locks = book.Locks
	}
	_, err := d.queue.Enqueue(ctx, job, at)
	return err
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
		if r.Status == journal.Parked {
			continue // it waits for a person
		}
		jobs = append(jobs, queue.Waiting{Job: queue.Job{Run: r.ID, Playbook: r.Playbook, Expires: d.expires(ctx, r.Playbook)}, At: d.wakeAt(r)})
	}
	return jobs, nil
}

// wakeAt gives when an unfinished run goes on.
func (d *Daemon) wakeAt(r journal.Run) time.Time {
	switch {
	case r.Status != journal.Waiting:
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
	if err == nil && !r.Ended.IsZero() {
		return queue.Done() // the queue may know less than the journal after a power cut
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
	d.mu.Lock()
	delete(d.cancel, j.Run)
	d.mu.Unlock()
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
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel[id] {
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
		if _, _, err := d.plan(p); err != nil {
			e := *problem.From(err)
			e.Place = &problem.Place{File: p.File, Line: p.Line}
			out.Problems = append(out.Problems, &e)
			continue
		}
		out.Playbooks = append(out.Playbooks, p)
	}
	return out
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
	d.schedule.Set(entries)
}

// lastAndNext gives when a playbook's newest run began, and the moment that it
// asked for.
func lastAndNext(v *journal.Overview) (last, next time.Time) {
	for _, r := range []*journal.Run{v.Last, v.Unfinished} {
		if r != nil && r.Created.After(last) {
			last = r.Created
		}
	}
	for _, rec := range v.Records {
		if at := seen(rec).Next; at != nil && at.After(rec.At) { // one in the past asks for nothing
			next = *at
		}
	}
	return last, next
}

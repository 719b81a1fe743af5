package daemon

import (
	"context"
	"time"

	"moonseal/runtime/bundle"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/reload"
	"moonseal/runtime/sandbox"
	"moonseal/runtime/schedule"
	"moonseal/runtime/worker"
)

// Check takes out of what was loaded from files the playbooks whose schedule never
// comes or whose window never opens, and adds why to the problems.
func Check(l *worker.Loaded, files map[string]string, blackouts []string, now time.Time) error {
	closed, err := schedule.ParseBlackouts(blackouts)
	if err != nil {
		return err
	}
	good := make([]*bundle.Playbook, 0, len(l.Playbooks))
	for _, p := range l.Playbooks {
		if err := possible(p, closed, now); err != nil {
			e := *problem.From(err)
			e.Place = &problem.Place{File: p.File, Line: p.Line}
			if e.Place = sandbox.KeyPlace(files[p.File], e.Place, e.Call); e.Place.Source == "" { // its call names the key
				e.Place.Source = sandbox.Line(files[p.File], p.Line)
			}
			l.Problems = append(l.Problems, &e)
			continue
		}
		good = append(good, p)
	}
	l.Playbooks = good
	return nil
}

func possible(p *bundle.Playbook, blackouts *schedule.Blackouts, now time.Time) error {
	_, w, err := plan(p)
	if err != nil || w == nil {
		return err
	}
	return w.Without(blackouts).Check(now)
}

// plan reads a playbook's schedule and window; nil where it has none.
func plan(p *bundle.Playbook) (*schedule.Schedule, *schedule.Window, error) {
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
func (d *Daemon) apply(before, now *reload.Snapshot) {
	for _, e := range before.Problems {
		if e.Place != nil && now.Problem(e.Place.File) == nil {
			d.log.Info("a script is no longer broken", "file", e.Place.File)
		}
	}
	d.reschedule(now)
	d.notify("STATUS=" + d.summary())
}

// reschedule returns the scheduler what is live now. It touches what has changed.
func (d *Daemon) reschedule(now *reload.Snapshot) {
	ctx := context.Background()
	views, err := d.journal.Overviews(ctx)
	if err != nil {
		d.log.Error("the journal cannot be read; the schedule stays as it is", "error", err.Error())
		return
	}
	paused, err := d.journal.Paused(ctx)
	if err != nil {
		d.log.Error("the journal cannot be read; the schedule stays as it is", "error", err.Error())
		return
	}
	entries := map[string]schedule.Entry{}
	for _, p := range now.Playbooks {
		s, _, err := plan(&p.Playbook)
		if err != nil { // checked at load
			d.log.Error("no schedule", "playbook", p.Name, "error", err.Error())
			continue
		}
		e := schedule.Entry{Schedule: s, Paused: paused.Has(p.Name)}
		if v := views[p.Name]; v != nil {
			e.LastRun, e.At = lastRun(v), d.asked(p.Name, v.Records)
		}
		entries[p.Name] = e
	}
	d.persistSchedules(ctx, entries, len(now.Problems) == 0)
	d.schedule.Set(entries)
}

// persistSchedules persists the time at which each playbook's current schedule took
// effect. What was due before does not count, and what comes due while the daemon is
// down is caught up even if it would be the playbook's first run. whole says that
// entries are all that there are.
func (d *Daemon) persistSchedules(ctx context.Context, entries map[string]schedule.Entry, whole bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := map[string]journal.Scheduled{}
	for name, e := range entries {
		if e.Schedule == nil {
			continue
		}
		k, there := d.schedules[name]
		if !there || k.Schedule != e.Schedule.String() {
			k = journal.Scheduled{Schedule: e.Schedule.String(), Since: d.opt.Clock.Now().UTC()}
			if !there && !e.LastRun.IsZero() {
				k.Since = e.LastRun
			}
			d.schedules[name], changed[name] = k, k
		}
		interval := e.Schedule.Interval()
		if k.Since.After(e.LastRun) && (!interval || e.LastRun.IsZero() && k.Since.Before(d.since)) {
			e.LastRun = k.Since
			entries[name] = e
		}
	}
	var gone []string
	for name := range d.schedules {
		if _, there := entries[name]; !there && whole {
			delete(d.schedules, name)
			gone = append(gone, name)
		}
	}
	if err := d.journal.SetSchedules(ctx, changed, gone); err != nil {
		d.log.Warn("cannot persist since when schedules are as they are", "error", err.Error())
		for name := range changed { // the next look tries again
			delete(d.schedules, name)
		}
	}
}

// lastRun returns up to when a playbook has run. What was due while a run of it
// continued was that run's.
func lastRun(v *journal.Overview) (last time.Time) {
	if v.Last != nil {
		last = v.Last.Ended
	}
	if u := v.Unfinished; u != nil && u.Created.After(last) {
		last = u.Created
	}
	return last
}

// asked returns the moment at which a run's records ask for the next one; zero where
// they ask for none. In a window that is not the moment itself: it is in the last
// slot before it that leaves two more before the certificate ends.
func (d *Daemon) asked(playbook string, records []journal.RecordedRow) time.Time {
	var want, ends time.Time
	for _, rec := range records {
		f := seen(rec)
		if f.Next != nil && f.Next.After(rec.At) { // one in the past asks for nothing
			want = *f.Next
		}
		if !f.NotAfter.IsZero() {
			ends = f.NotAfter
		}
	}
	book := d.reload.Current().Find(playbook)
	if want.IsZero() || book == nil || book.Window == nil {
		return want
	}
	blackouts, err := schedule.ParseBlackouts(d.config().Blackouts)
	if err != nil {
		return want
	}
	_, window, err := plan(&book.Playbook)
	if err != nil {
		return want
	}
	choice := schedule.Slot(window, blackouts, d.opt.Clock.Now(), want, ends)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tight, playbook)
	if choice.Warning != "" {
		d.tight[playbook] = choice.Warning
		d.log.Warn("the window is tight", "playbook", playbook, "warning", choice.Warning)
	}
	return choice.At
}

// warning says why the playbook's window may be too narrow; "" where it is not.
func (d *Daemon) warning(playbook string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tight[playbook]
}

// early reports whether a run begins before its certificate is due, since no later
// slot of its window would leave two more.
func (d *Daemon) early(playbook string, why schedule.Reason) bool {
	book := d.reload.Current().Find(playbook)
	return why.Cause == schedule.Asked && book != nil && book.Window != nil
}

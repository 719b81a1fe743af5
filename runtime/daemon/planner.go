package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/bundle"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/reload"
	"moonseal/runtime/sandbox"
	"moonseal/runtime/schedule"
	"moonseal/runtime/worker"
)

// Check removes the playbooks whose schedule is never due or whose window never opens
// from what was loaded from files, and adds the reasons to its problems.
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

// plan parses a playbook's schedule and window; nil for one that it does not have.
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

// planner plans when playbooks run: by their schedules, and by the moments that their runs
// ask for.
type planner struct {
	journal  *journal.Journal
	scripts  *reload.Reloader
	schedule *schedule.Scheduler
	settings *settings
	clock    clockwork.Clock
	log      *slog.Logger
	since    time.Time // the daemon's start

	mu        sync.Mutex
	schedules map[string]journal.Scheduled // by playbook, as in the journal
	tight     map[string]string            // by playbook: why its window may be too narrow
}

// update passes the scheduler what is live now, and what is paused. Entries that have not
// changed stay as they are.
func (p *planner) update(now *reload.Snapshot) {
	ctx := context.Background()
	views, err := p.journal.Overviews(ctx)
	if err != nil {
		p.log.Error("cannot read the journal; the schedule stays as it is", "error", err.Error())
		return
	}
	paused, err := p.journal.Paused(ctx)
	if err != nil {
		p.log.Error("cannot read the journal; the schedule stays as it is", "error", err.Error())
		return
	}
	entries := map[string]schedule.Entry{}
	for _, book := range now.Playbooks {
		s, _, err := plan(&book.Playbook)
		if err != nil { // checked at load
			p.log.Error("no schedule", "playbook", book.Name, "error", err.Error())
			continue
		}
		e := schedule.Entry{Schedule: s, Paused: paused.Has(book.Name)}
		if v := views[book.Name]; v != nil {
			e.LastRun, e.At = lastRun(v), p.next(book.Name, v.Records)
		}
		entries[book.Name] = e
	}
	p.persist(ctx, entries, len(now.Problems) == 0)
	p.schedule.Set(entries)
}

// persist persists the time at which each playbook's current schedule took effect. What
// was due before does not count, and what comes due while the daemon is down is caught up
// even if it would be the playbook's first run. complete says that entries are all that
// exist.
func (p *planner) persist(ctx context.Context, entries map[string]schedule.Entry, complete bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := map[string]journal.Scheduled{}
	for name, e := range entries {
		if e.Schedule == nil {
			continue
		}
		k, known := p.schedules[name]
		if !known || k.Schedule != e.Schedule.String() {
			k = journal.Scheduled{Schedule: e.Schedule.String(), Since: p.clock.Now().UTC()}
			if !known && !e.LastRun.IsZero() {
				k.Since = e.LastRun
			}
			p.schedules[name], changed[name] = k, k
		}
		interval := e.Schedule.Interval()
		if k.Since.After(e.LastRun) && (!interval || e.LastRun.IsZero() && k.Since.Before(p.since)) {
			e.LastRun = k.Since
			entries[name] = e
		}
	}
	var gone []string
	for name := range p.schedules {
		if _, exists := entries[name]; !exists && complete {
			delete(p.schedules, name)
			gone = append(gone, name)
		}
	}
	if err := p.journal.SetSchedules(ctx, changed, gone); err != nil {
		p.log.Warn("cannot persist when schedules took effect", "error", err.Error())
		for name := range changed { // the next update tries again
			delete(p.schedules, name)
		}
	}
}

// lastRun returns the time up to which a playbook has run. What was due while a run of it
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

// next returns the moment at which a run's records ask for the next run; zero if they ask
// for none. With a window that is not the moment itself, but in the last slot before it
// that leaves two more before the certificate ends.
func (p *planner) next(playbook string, records []journal.RecordedRow) time.Time {
	var due, ends time.Time
	for _, rec := range records {
		f := seen(rec)
		if f.Next != nil && f.Next.After(rec.At) { // one in the past asks for nothing
			due = *f.Next
		}
		if !f.NotAfter.IsZero() {
			ends = f.NotAfter
		}
	}
	book := p.scripts.Current().Find(playbook)
	if due.IsZero() || book == nil || book.Window == nil {
		return due
	}
	blackouts, err := schedule.ParseBlackouts(p.settings.config().Blackouts)
	if err != nil {
		return due
	}
	_, window, err := plan(&book.Playbook)
	if err != nil {
		return due
	}
	choice := schedule.Slot(window, blackouts, p.clock.Now(), due, ends)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tight, playbook)
	if choice.Warning != "" {
		p.tight[playbook] = choice.Warning
		p.log.Warn("the window is tight", "playbook", playbook, "warning", choice.Warning)
	}
	return choice.At
}

// ended plans the next run that an ended one has asked for in its records.
func (p *planner) ended(playbook string, records []journal.RecordedRow) {
	if at := p.next(playbook, records); !at.IsZero() {
		p.schedule.SetNext(playbook, at)
	}
}

// warning returns why the playbook's window may be too narrow; "" if it is not.
func (p *planner) warning(playbook string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tight[playbook]
}

// early reports whether a run starts before its certificate is due, since no later slot
// of its window would leave two more.
func (p *planner) early(playbook string, why schedule.Reason) bool {
	book := p.scripts.Current().Find(playbook)
	return why.Cause == schedule.Asked && book != nil && book.Window != nil
}

// lastWindow returns the words that a playbook's last window before an instant is open or over; ""
// if another one follows.
func (p *planner) lastWindow(playbook string, now, ends time.Time) string {
	book := p.scripts.Current().Find(playbook)
	if book == nil || book.Window == nil {
		return ""
	}
	blackouts, err := schedule.ParseBlackouts(p.settings.config().Blackouts)
	if err != nil {
		return ""
	}
	_, window, err := plan(&book.Playbook)
	if err != nil {
		return ""
	}
	window = window.Without(blackouts)
	opens, closes := window.Next(now)
	switch {
	case opens.IsZero() || !opens.Before(ends):
		return "and no window of it is left before its certificate ends at " + ends.Format(time.RFC3339)
	case !window.Open(now), closes.IsZero():
		return ""
	}
	if next, _ := window.Next(closes); next.IsZero() || !next.Before(ends) {
		return "and its last window before its certificate ends closes at " + closes.Format(time.RFC3339)
	}
	return ""
}

package schedule

import (
	"time"
)

// Entry is what the scheduler is told about a playbook.
type Entry struct {
	Schedule *Schedule // nil: only At counts
	LastRun  time.Time // when its last run began; zero: never. What was due since is caught up once
	At       time.Time // the exact moment that its last run asked for besides; zero: none
	Paused   bool      // nothing is enqueued
}

// distrust is how far ahead of the clock a run may have been for its time to
// count still: further ahead, the clock was wrong then.
const distrust = 24 * time.Hour

// lateness is how long after its moment a run counts as missed, and is spread
// with the others that were.
const lateness = 5 * time.Minute

// entry is one playbook's plan. Its times are without monotonic part.
type entry struct {
	name     string
	schedule *Schedule
	paused   bool

	done  time.Time // what was due up to here has run, zero: nothing did
	slot  time.Time // the next moment that the schedule names, zero: none
	due   time.Time // when it is enqueued for that: jitter later, or more where it is late
	late  bool      // slot was missed, and due was put off
	at    time.Time // the exact moment that was asked for besides, zero: none
	given time.Time // the At that Set was given last

	place int // in the heap
}

// wake is when e is next to be looked at, zero: never.
func (e *entry) wake() time.Time {
	switch {
	case e.paused:
		return time.Time{}
	case e.due.IsZero() || !e.at.IsZero() && e.at.Before(e.due):
		return e.at
	}
	return e.due
}

// planner makes and changes the plans of entries.
type planner struct {
	seed   uint64
	spread time.Duration // over how long those are spread that are late
}

// begin plans e as at the daemon's start, or where it is no longer paused: what
// was due since its last run is caught up, once.
func (p planner) begin(e *entry, now time.Time) {
	p.drop(e, now)
	if e.schedule != nil {
		p.plan(e, p.fromDone(e, now))
		if !e.due.After(now) {
			p.putOff(e, now)
		}
	}
	if e.at.IsZero() || e.at.After(now) {
		return
	}
	if missed := e.at; missed.After(e.done) && !e.late {
		e.slot = missed
		p.putOff(e, now)
	}
	e.at = time.Time{}
}

// change plans e for a schedule that counts from now on. A run that is due already
// is kept.
func (p planner) change(e *entry, now time.Time) {
	switch {
	case e.schedule == nil:
		p.drop(e, now)
	case !e.slot.IsZero() && !e.slot.After(now):
	case e.schedule.cron != nil:
		p.drop(e, now)
		p.plan(e, e.schedule.Next(later(now, e.done)))
	default:
		p.drop(e, now)
		p.plan(e, p.fromDone(e, now))
		if !e.due.After(now) {
			p.putOff(e, now)
		}
	}
}

// rebase plans e anew after the clock was set back.
func (p planner) rebase(e *entry, now time.Time) {
	switch {
	case e.late:
		p.putOff(e, now)
	case e.schedule == nil || !e.slot.After(now):
	case e.schedule.cron != nil:
		p.drop(e, now)
		p.plan(e, e.schedule.Next(later(now, e.done)))
	case e.slot.After(e.schedule.Next(now)):
		p.drop(e, now)
		p.plan(e, e.schedule.Next(now))
	}
}

// fromDone is the first moment that e's schedule names after its last run.
func (p planner) fromDone(e *entry, now time.Time) time.Time {
	switch {
	case !e.done.IsZero():
		return e.schedule.Next(e.done)
	case e.schedule.cron != nil:
		return e.schedule.Next(now)
	}
	// An interval that never ran begins anywhere in it, so that many that came
	// together do not stay together.
	return now.Add(p.share(e.name, time.Time{}, e.schedule.every) + time.Second)
}

// drop forgets the next run, and a last one that a wrong clock dated.
func (p planner) drop(e *entry, now time.Time) {
	e.slot, e.due, e.late = time.Time{}, time.Time{}, false
	if e.done.After(now.Add(distrust)) {
		e.done = time.Time{}
	}
}

// plan has e run next for slot.
func (p planner) plan(e *entry, slot time.Time) {
	e.slot, e.due, e.late = slot.Round(0), slot.Round(0), false
	if !slot.IsZero() {
		e.due = e.slot.Add(p.share(e.name, slot, e.schedule.jitter))
	}
}

// putOff has e run soon for the slot that was missed, not all at the same moment.
func (p planner) putOff(e *entry, now time.Time) {
	spread := p.spread
	if e.schedule != nil {
		spread = max(spread, e.schedule.jitter)
	}
	e.due, e.late = now.Add(p.share(e.name, e.slot, spread)), true
}

// take returns why e is to run now, if it is, and plans its next run.
func (p planner) take(e *entry, now time.Time) (Reason, bool) {
	byClock := !e.due.IsZero() && !e.due.After(now)
	asked := !e.at.IsZero() && !e.at.After(now)
	missed := byClock && now.Sub(e.due) > lateness // the clock was set, or the machine slept
	if missed && !asked && !e.late {
		p.putOff(e, now)
		return Reason{}, false
	}
	why := Reason{Cause: Due, Slot: e.slot}
	switch {
	case asked:
		why = Reason{Cause: Asked, Slot: e.at}
		e.at = time.Time{}
	case e.late:
		why.Cause = CaughtUp
	}
	switch {
	case e.late || missed:
		e.done = now // it does for all that was due meanwhile
	case byClock:
		e.done = e.slot
	default:
		return why, true
	}
	next := time.Time{}
	if e.schedule != nil {
		next = e.schedule.Next(e.done)
	}
	p.plan(e, next)
	return why, true
}

package schedule

import (
	"time"
)

// Entry is a playbook as the scheduler sees it.
type Entry struct {
	Schedule *Schedule // nil: only At counts
	LastRun  time.Time // when its last run started; zero: never. What was due since is caught up once
	At       time.Time // an exact moment that its last run asked for besides; zero: none
	Paused   bool      // nothing is enqueued
}

// distrust is how far ahead of the clock a run's time may be and still count: if it is
// further ahead, the clock was wrong then.
const distrust = 24 * time.Hour

// lateness is how long after its moment a run counts as missed, and is spread with the
// others that were.
const lateness = 5 * time.Minute

// entry is one playbook's plan. Its times are without monotonic part.
type entry struct {
	name     string
	schedule *Schedule
	paused   bool

	done  time.Time // what was due up to here has run; zero: nothing did
	slot  time.Time // the next moment that the schedule names; zero: none
	due   time.Time // when it is enqueued for that: jitter later, or more if it is late
	late  bool      // slot was missed, and due was put off
	at    time.Time // an exact moment that was asked for besides; zero: none
	given time.Time // the At of the last Set

	place int // in the heap
}

// wake returns when e must be checked next; zero: never.
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
	spread time.Duration // over how long late runs are spread
}

// begin plans e as at the daemon's start, or when it is no longer paused: what was due
// since its last run is caught up, once.
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

// change plans e for a schedule that counts from now on. A run that is due already is
// kept.
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

// rebase plans e again after the clock was set back.
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

// fromDone returns the first moment that e's schedule names after its last run.
func (p planner) fromDone(e *entry, now time.Time) time.Time {
	switch {
	case !e.done.IsZero():
		return e.schedule.Next(e.done)
	case e.schedule.cron != nil:
		return e.schedule.Next(now)
	}
	// An interval that never ran starts anywhere in it, so that many that were added
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

// plan makes slot e's next run.
func (p planner) plan(e *entry, slot time.Time) {
	e.slot, e.due, e.late = slot.Round(0), slot.Round(0), false
	if !slot.IsZero() {
		e.due = e.slot.Add(p.share(e.name, slot, e.schedule.jitter))
	}
}

// putOff plans e soon for the slot that was missed, not all entries at the same moment.
func (p planner) putOff(e *entry, now time.Time) {
	spread := p.spread
	if e.schedule != nil {
		spread = max(spread, e.schedule.jitter)
	}
	e.due, e.late = now.Add(p.share(e.name, e.slot, spread)), true
}

// fire returns why e must run now, if it must, and plans its next run.
func (p planner) fire(e *entry, now time.Time) (Reason, bool) {
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

package queue

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"time"
)

type state int

const (
	waiting  state = iota // until its time
	due                   // its time has come; for a slot or a lock
	granted               // River may fetch it
	running               // Work was called
	settling              // Work has returned, and its result is being written
)

// entry is a job as the gate knows it.
type entry struct {
	id    int64 // River's; a new one each time that it waits
	job   Job
	tries int
	at    time.Time
	seq   uint64 // which came first
	state state
	place int // in the heap, while it waits

	since  time.Time               // granted or running since
	cause  error                   // why Work is to end
	cancel context.CancelCauseFunc // ends Work's context, while it runs
	wake   time.Time               // when it is to run again at the latest, asked for while it ran
	ends   bool                    // it does not go on: Work was done, or it was cancelled since Work returned
}

// index orders the jobs. It is not safe for concurrent use.
type index struct {
	byRun      map[string]*entry
	byPlaybook map[string]*entry
	byID       map[int64]*entry
	waiting    byTime
	due        []*entry // what goes first stands first
	active     map[*entry]struct{}
	locks      map[string]*entry // who holds it
	seq        uint64
}

func newIndex() *index {
	return &index{
		byRun: map[string]*entry{}, byPlaybook: map[string]*entry{}, byID: map[int64]*entry{},
		active: map[*entry]struct{}{}, locks: map[string]*entry{},
	}
}

// add takes a job in that waits until its time.
func (x *index) add(id int64, a args, at time.Time) {
	x.seq++
	e := &entry{id: id, job: a.job(), tries: a.Tries, at: at, seq: x.seq}
	x.byRun[e.job.Run], x.byPlaybook[e.job.Playbook], x.byID[id] = e, e, e
	heap.Push(&x.waiting, e)
}

// again makes e wait until at, under a new id.
func (x *index) again(e *entry, id int64, tries int, at time.Time) {
	x.leave(e)
	delete(x.byID, e.id)
	*e = entry{id: id, job: e.job, tries: tries, at: at, seq: e.seq}
	x.byID[id] = e
	heap.Push(&x.waiting, e)
}

func (x *index) remove(e *entry) {
	x.leave(e)
	delete(x.byRun, e.job.Run)
	delete(x.byPlaybook, e.job.Playbook)
	delete(x.byID, e.id)
}

// leave takes e out of wherever it stands.
func (x *index) leave(e *entry) {
	switch e.state {
	case waiting:
		heap.Remove(&x.waiting, e.place)
	case due:
		if i, ok := slices.BinarySearchFunc(x.due, e, order); ok {
			x.due = slices.Delete(x.due, i, i+1)
		}
	default:
		delete(x.active, e)
		for _, name := range e.job.Locks {
			if x.locks[name] == e {
				delete(x.locks, name)
			}
		}
	}
}

// ripen moves what is due at now out of the heap.
func (x *index) ripen(now time.Time) {
	for len(x.waiting) > 0 && !x.waiting[0].at.After(now) {
		e, _ := heap.Pop(&x.waiting).(*entry)
		x.makeDue(e)
	}
}

// wakeAll makes due what waits.
func (x *index) wakeAll(now time.Time) {
	for len(x.waiting) > 0 {
		e, _ := heap.Pop(&x.waiting).(*entry)
		e.at = now
		x.makeDue(e)
	}
}

func (x *index) makeDue(e *entry) {
	e.state = due
	i, _ := slices.BinarySearchFunc(x.due, e, order)
	x.due = slices.Insert(x.due, i, e)
}

// grant gives slots to the first whose locks are free, and the locks with them.
func (x *index) grant(now time.Time, slots int) []*entry {
	x.ripen(now)
	if slots <= 0 || len(x.due) == 0 {
		return nil
	}
	var all []*entry
	left := x.due[:0]
	x.walk(func(e *entry, lock string) {
		if lock != "" || len(all) == slots {
			left = append(left, e)
			return
		}
		all = append(all, e)
	})
	clear(x.due[len(left):])
	x.due = left
	for _, e := range all {
		e.state, e.since = granted, now
		x.active[e] = struct{}{}
		for _, name := range e.job.Locks {
			x.locks[name] = e
		}
	}
	return all
}

// walk tells of each due job, in order, which lock it has to wait for, "" for
// none: one that is held, or that a job before it wants.
func (x *index) walk(tell func(e *entry, lock string)) {
	wanted := map[string]bool{}
	for _, e := range x.due {
		busy := ""
		for _, name := range e.job.Locks {
			if busy == "" && (x.locks[name] != nil || wanted[name]) {
				busy = name
			}
		}
		for _, name := range e.job.Locks {
			wanted[name] = true
		}
		tell(e, busy)
	}
}

// revoke takes a grant back.
func (x *index) revoke(e *entry) {
	x.leave(e)
	x.makeDue(e)
}

// order puts first what expires first, then what was due first.
func order(a, b *entry) int {
	if az, bz := a.job.Expires.IsZero(), b.job.Expires.IsZero(); az != bz {
		if az {
			return 1
		}
		return -1
	}
	return cmp.Or(a.job.Expires.Compare(b.job.Expires), a.at.Compare(b.at), cmp.Compare(a.seq, b.seq))
}

// byTime is a heap of waiting jobs, the next to be due on top.
type byTime []*entry

func (h *byTime) Len() int { return len(*h) }

func (h *byTime) Less(i, j int) bool {
	a, b := (*h)[i], (*h)[j]
	return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.seq, b.seq)) < 0
}

func (h *byTime) Swap(i, j int) {
	a, b := (*h)[i], (*h)[j]
	(*h)[i], (*h)[j] = b, a
	a.place, b.place = j, i
}

func (h *byTime) Push(v any) {
	e, _ := v.(*entry)
	e.place = len(*h)
	*h = append(*h, e)
}

func (h *byTime) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

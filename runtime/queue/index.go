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
	waiting state = iota // until its time
	due                  // its time has come; for a slot or a lock
	active               // it is being worked on
)

// entry is a job and its state.
type entry struct {
	job       Job
	tries     int
	at        time.Time
	seq       uint64 // which came first
	state     state
	place     int   // in the heap, while it waits
	cancelled bool  // Cancel has found it active, and Work has not seen that yet
	tenant    *load // while it is due or active
	call      *call // while it is active
}

// call is one call of Work.
type call struct {
	since time.Time
	end   context.CancelCauseFunc
	again time.Time // when to call again at the latest, asked for meanwhile
}

// index orders the jobs. It is not safe for concurrent use.
type index struct {
	byRun      map[string]*entry
	byPlaybook map[string]*entry
	waiting    byTime
	due        []*entry // in the order in which they run
	active     map[*entry]struct{}
	tenants    map[string]*load
	reserved   map[string]int // how many active jobs were granted with a lock's name
	released   uint64         // how often a reservation has ended
	locked     int            // due jobs with Locks
	seq        uint64
}

func newIndex() *index {
	return &index{
		byRun: map[string]*entry{}, byPlaybook: map[string]*entry{},
		active: map[*entry]struct{}{}, tenants: map[string]*load{}, reserved: map[string]int{},
	}
}

// add adds a job that waits until its time.
func (x *index) add(job Job, at time.Time) {
	x.seq++
	e := &entry{job: job, at: at, seq: x.seq}
	x.byRun[job.Run], x.byPlaybook[job.Playbook] = e, e
	heap.Push(&x.waiting, e)
}

func (x *index) remove(e *entry) {
	x.leave(e)
	delete(x.byRun, e.job.Run)
	delete(x.byPlaybook, e.job.Playbook)
}

// wait makes e wait until at.
func (x *index) wait(e *entry, at time.Time) {
	x.leave(e)
	e.state, e.at = waiting, at
	heap.Push(&x.waiting, e)
}

// activate grants e a slot, and reserves its locks.
func (x *index) activate(e *entry, c *call) {
	x.leave(e)
	e.state, e.call = active, c
	x.active[e] = struct{}{}
	x.count(e, 0, 1)
	for _, name := range e.job.Locks {
		x.reserved[name]++
	}
}

// leave removes e from the list of its state.
func (x *index) leave(e *entry) {
	switch e.state {
	case waiting:
		heap.Remove(&x.waiting, e.place)
	case due:
		i, _ := slices.BinarySearchFunc(x.due, e, order)
		x.due = slices.Delete(x.due, i, i+1)
		x.count(e, -1, 0)
	case active:
		delete(x.active, e)
		e.call = nil
		x.count(e, 0, -1)
		for _, name := range e.job.Locks {
			x.released++
			if x.reserved[name]--; x.reserved[name] == 0 {
				delete(x.reserved, name)
			}
		}
	}
}

// ripen moves the jobs that are due at now out of the heap, and reports whether there were any.
func (x *index) ripen(now time.Time) (was bool) {
	for len(x.waiting) > 0 && !x.waiting[0].at.After(now) {
		e, _ := heap.Pop(&x.waiting).(*entry)
		x.makeDue(e)
		was = true
	}
	return was
}

// ripenAll makes all waiting jobs due.
func (x *index) ripenAll(now time.Time) {
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
	x.count(e, 1, 0)
}

// count counts the jobs of e's tenant, and those with Locks.
func (x *index) count(e *entry, dues, actives int) {
	e.tenant = x.tenants[e.job.Tenant]
	if e.tenant == nil {
		e.tenant = &load{}
		x.tenants[e.job.Tenant] = e.tenant
	}
	e.tenant.due += dues
	e.tenant.active += actives
	if *e.tenant == (load{}) {
		delete(x.tenants, e.job.Tenant)
	}
	if len(e.job.Locks) > 0 {
		x.locked += dues
	}
}

// order sorts by expiry, then by the time at which jobs were due.
func order(a, b *entry) int {
	if az, bz := a.job.Expires.IsZero(), b.job.Expires.IsZero(); az != bz {
		if az {
			return 1
		}
		return -1
	}
	return cmp.Or(a.job.Expires.Compare(b.job.Expires), a.at.Compare(b.at), cmp.Compare(a.seq, b.seq))
}

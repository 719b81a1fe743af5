package queue

import (
	"iter"
	"slices"
)

// holders are the runs that hold locks, as the gate saw them last.
type holders struct {
	known bool // otherwise each lock may be held
	runs  map[string]string
}

// candidates returns the due jobs in their order, each with the lock that it has
// to wait for, "" for none. One that waits for a lock which is held claims no other:
// that may last for days.
func (x *index) candidates(h holders) iter.Seq2[*entry, string] {
	return func(yield func(*entry, string) bool) {
		needed := map[string]bool{}
		for _, e := range x.due {
			if !yield(e, x.blocker(e, h, needed)) {
				return
			}
			if x.keptBack(e, h) {
				continue
			}
			for _, name := range e.job.Locks {
				needed[name] = true
			}
		}
	}
}

// blocker returns a lock of e's that is held, reserved, or needed by a job before it. What
// the run itself holds does not block it: the jobs before it wait for it.
func (x *index) blocker(e *entry, h holders, needed map[string]bool) string {
	for _, name := range e.job.Locks {
		if h.holds(e.job.Run, name) {
			continue
		}
		if h.heldFrom(e.job.Run, name) || x.reserved[name] > 0 || needed[name] {
			return name
		}
	}
	return ""
}

// keptBack reports whether another run holds one of e's locks.
func (*index) keptBack(e *entry, h holders) bool {
	return slices.ContainsFunc(e.job.Locks, func(name string) bool { return h.heldFrom(e.job.Run, name) })
}

func (h holders) holds(run, lock string) bool { return h.known && h.runs[lock] == run }

// heldFrom reports whether a run other than the given one may hold a lock.
func (h holders) heldFrom(run, lock string) bool {
	holder, held := h.runs[lock]
	return !h.known || held && holder != run
}

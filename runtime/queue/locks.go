package queue

import "iter"

// holders are the runs that hold locks, as the gate saw them last.
type holders struct {
	known bool // otherwise each lock may be held
	runs  map[string]string
}

// candidates returns the due jobs in their order, each with the lock that it has
// to wait for, "" for none.
func (x *index) candidates(h holders) iter.Seq2[*entry, string] {
	return func(yield func(*entry, string) bool) {
		wanted := map[string]bool{}
		for _, e := range x.due {
			if !yield(e, x.blocker(e, h, wanted)) {
				return
			}
			for _, name := range e.job.Locks {
				wanted[name] = true
			}
		}
	}
}

// blocker returns a lock of e's that is held, reserved, or wanted by a job before
// it. What the run itself holds does not block it: those before it wait for it.
func (x *index) blocker(e *entry, h holders, wanted map[string]bool) string {
	for _, name := range e.job.Locks {
		holder, held := h.runs[name]
		if held && holder == e.job.Run {
			continue
		}
		if !h.known || held || x.reserved[name] > 0 || wanted[name] {
			return name
		}
	}
	return ""
}

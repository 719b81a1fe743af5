package queuetest

import (
	"slices"
	"testing/synctest"
	"time"

	"moonseal/runtime/queue"
)

// view is what the queue says after a step.
type view struct {
	now     time.Time
	running []queue.Running
	fresh   []queue.Running // those that began in the step
	due     []queue.Waiting
	ready   []queue.Waiting // those that are due and not blocked by a lock
	active  map[string]int  // of each tenant
	share   int
}

// verify compares the queue with the model after a step.
func (m *model) verify() {
	m.t.Helper()
	synctest.Wait()
	waits := m.Waiting()
	v := view{now: m.clock.Now(), running: m.Running(), active: map[string]int{}, share: max(1, m.slots/2)}
	m.verifyOpen(v.running, waits)
	for _, r := range v.running {
		v.active[r.Job.Tenant]++
		if since, is := m.calls[r.Job.Run]; !is || !since.Equal(r.Since) {
			v.fresh = append(v.fresh, r)
		}
	}
	for _, w := range waits {
		if !w.At.After(v.now) {
			v.due = append(v.due, w)
		}
	}
	m.verifyLocks(&v)
	m.verifySlots(&v)
	m.verifyOrder(&v)
	clear(m.calls)
	for _, r := range v.running {
		m.calls[r.Job.Run] = r.Since
	}
}

// verifyOpen expects each open run, once, with a playbook of its own.
func (m *model) verifyOpen(running []queue.Running, waits []queue.Waiting) {
	m.t.Helper()
	playbooks := map[string]string{}
	seen := func(j queue.Job) {
		if other, is := playbooks[j.Playbook]; is {
			m.t.Fatalf("after %s: %s and %s are of one playbook", m.did, other, j.Run)
		}
		playbooks[j.Playbook] = j.Run
		if m.open[j.Run] == nil {
			m.t.Fatalf("after %s: %s has a job", m.did, j.Run)
		}
	}
	for _, r := range running {
		seen(r.Job)
	}
	for _, w := range waits {
		seen(w.Job)
	}
	if len(playbooks) != len(m.open) {
		m.t.Fatalf("after %s: %d jobs of %d open runs", m.did, len(playbooks), len(m.open))
	}
}

// verifyLocks expects that no lock is granted twice, and finds which due jobs are
// blocked by one.
func (m *model) verifyLocks(v *view) {
	m.t.Helper()
	granted := map[string][]string{}
	for _, r := range v.running {
		for _, name := range r.Job.Locks {
			granted[name] = append(granted[name], r.Job.Run)
		}
	}
	for _, f := range v.fresh {
		for _, name := range f.Job.Locks {
			if holder := m.held[name]; holder != f.Job.Run && (holder != "" || len(granted[name]) > 1) {
				m.t.Fatalf("after %s: %s began, and %q holds %s, which was granted to %v", m.did, f.Job.Run, holder, name, granted[name])
			}
		}
	}
	wanted := map[string]bool{}
	for _, w := range v.due {
		blocked, keptBack := false, false
		for _, name := range w.Job.Locks {
			holder := m.held[name]
			blocked = blocked || holder != w.Job.Run && (holder != "" || granted[name] != nil || wanted[name])
			keptBack = keptBack || holder != w.Job.Run && holder != ""
		}
		for _, name := range w.Job.Locks {
			wanted[name] = wanted[name] || !keptBack
		}
		if blocked != (w.Lock != "") {
			m.t.Fatalf("after %s: %s waits for %q, blocked: %v", m.did, w.Job.Run, w.Lock, blocked)
		}
		if !blocked {
			v.ready = append(v.ready, w)
		}
	}
}

// verifySlots expects no more jobs than slots, and no free slot while a job is
// ready.
func (m *model) verifySlots(v *view) {
	m.t.Helper()
	if n := len(v.running); len(v.fresh) > 0 && n > m.slots || n < m.slots && len(v.ready) > 0 {
		m.t.Fatalf("after %s: %d jobs in %d slots, %d ready", m.did, n, m.slots, len(v.ready))
	}
}

// verifyOrder expects that what has just started is before what is still ready.
func (m *model) verifyOrder(v *view) {
	m.t.Helper()
	if !slices.IsSortedFunc(v.due, func(a, b queue.Waiting) int { return expiry(a.Job, b.Job) }) {
		m.t.Fatalf("after %s: not in order: %+v", m.did, v.due)
	}
	for _, left := range v.ready {
		entitled := v.active[left.Job.Tenant] < v.share
		for _, f := range v.fresh {
			if left.At.After(f.Since) {
				continue
			}
			same := left.Job.Tenant == f.Job.Tenant
			overtaken := expiry(left.Job, f.Job) < 0 && (same || entitled)
			if overtaken || entitled && !same && v.active[f.Job.Tenant] > v.share {
				m.t.Fatalf("after %s: %+v began before %+v; active %v, share %d", m.did, f, left, v.active, v.share)
			}
		}
	}
}

// expiry compares by what expires first; a zero time is last.
func expiry(a, b queue.Job) int {
	switch {
	case a.Expires.IsZero() && b.Expires.IsZero():
		return 0
	case a.Expires.IsZero():
		return 1
	case b.Expires.IsZero():
		return -1
	}
	return a.Expires.Compare(b.Expires)
}

package queue

import (
	"context"
	"log/slog"
	"time"
)

func (m *memory) Enqueue(job Job, at time.Time) (added bool, err error) {
	if err := job.check(); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false, closed()
	}
	at = m.orNow(at)
	if e := m.index.byRun[job.Run]; e != nil {
		m.replace(e, job)
		m.forward(e, at)
		return false, nil
	}
	return m.add(job, at), nil
}

// add adds a job unless its playbook has one.
func (m *memory) add(job Job, at time.Time) bool {
	if m.index.byPlaybook[job.Playbook] != nil {
		return false
	}
	job.Locks = sortedSet(job.Locks)
	m.index.add(job, at)
	m.announce()
	return true
}

// replace updates what may change in a job.
func (m *memory) replace(e *entry, job Job) {
	if e.state == active {
		return
	}
	m.index.wait(e, e.at) // the gate makes it due again, in its new place
	e.job.Tenant, e.job.Locks, e.job.Expires = job.Tenant, sortedSet(job.Locks), job.Expires
	m.announce()
}

// forward makes e due at the given time at the latest.
func (m *memory) forward(e *entry, at time.Time) {
	switch {
	case e.state == active:
		e.call.again = earlier(e.call.again, at)
	case e.state == waiting && at.Before(e.at):
		m.index.wait(e, at)
		m.announce()
	}
}

func (m *memory) Wake(run string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.index.byRun[run]
	if e == nil || m.closed {
		return false
	}
	m.forward(e, m.now())
	return true
}

func (m *memory) Cancel(run string) Cancelled {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.index.byRun[run]
	switch {
	case e == nil || m.closed:
		return NotFound
	case e.state == active:
		e.cancelled = true
		e.call.end(ErrCancelled)
		return WasRunning
	default:
		m.index.remove(e)
		m.announce()
		return WasWaiting
	}
}

func (m *memory) Sync(ctx context.Context) (added int, err error) {
	if m.opt.Unfinished == nil {
		return 0, nil
	}
	all, err := m.opt.Unfinished(ctx)
	if err != nil {
		return 0, err
	}
	unfinished := make(map[string]bool, len(all))
	for _, w := range all {
		if err := w.Job.check(); err != nil {
			return 0, err
		}
		unfinished[w.Job.Run] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, closed()
	}
	for _, w := range all {
		if m.sync(w, unfinished) {
			added++
		}
	}
	return added, nil
}

// sync adds a run that the queue lacks. A job that it has is newer than the journal was
// when it was read.
func (m *memory) sync(w Waiting, unfinished map[string]bool) (added bool) {
	if m.index.byRun[w.Job.Run] != nil {
		return false
	}
	if m.add(w.Job, m.orNow(w.At)) {
		return true
	}
	if other := m.index.byPlaybook[w.Job.Playbook].job.Run; unfinished[other] {
		m.opt.Log.Error("two runs of one playbook are unfinished; the second is not queued",
			slog.String("playbook", w.Job.Playbook), slog.String("run", other), slog.String("second", w.Job.Run))
	}
	return false
}

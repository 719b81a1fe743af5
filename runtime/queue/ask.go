package queue

import (
	"context"
	"database/sql"
	"slices"
	"time"
)

// Enqueue adds a job that is due at the given time, zero being now. Where its
// playbook has an unfinished job it adds none; if that is of the same run, and
// waits for longer, it is brought forward. It returns when the job is written.
func (q *Queue) Enqueue(ctx context.Context, job Job, at time.Time) (added bool, err error) {
	if err := job.check(); err != nil {
		return false, err
	}
	if at.IsZero() {
		at = q.opt.Clock.Now()
	}
	if err := q.begin(ctx); err != nil {
		return false, err
	}
	defer q.end()
	if e, same := q.find(job); e != nil {
		if same {
			_, err = q.forward(ctx, e, at)
		}
		return false, err
	}
	a := argsOf(job, 0)
	var id int64
	err = q.store.tx(ctx, func(tx *sql.Tx) (err error) {
		id, err = q.store.insert(ctx, tx, a, at)
		return err
	})
	if err != nil {
		return false, storeError(q.store.path, err)
	}
	q.update(func(x *index) { x.add(id, a, at) })
	return true, nil
}

func (q *Queue) find(job Job) (e *entry, same bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.index.byRun[job.Run]; e != nil {
		return e, true
	}
	return q.index.byPlaybook[job.Playbook], false
}

// Wake makes a run that waits due now. One that is being worked on is called
// again at once when it comes to wait: what it waits for may have come while it
// was about to. It reports whether the run has a job.
func (q *Queue) Wake(ctx context.Context, run string) (bool, error) {
	if err := q.begin(ctx); err != nil {
		return false, err
	}
	defer q.end()
	q.mu.Lock()
	e := q.index.byRun[run]
	q.mu.Unlock()
	if e == nil {
		return false, nil
	}
	return q.forward(ctx, e, q.opt.Clock.Now())
}

// forward brings e forward to at. The caller has the turn.
func (q *Queue) forward(ctx context.Context, e *entry, at time.Time) (bool, error) {
	q.mu.Lock()
	if e.state != waiting && e.state != due {
		e.wake = earlier(e.wake, at)
	}
	later := e.state == waiting && at.Before(e.at)
	q.mu.Unlock()
	if !later {
		return true, nil
	}
	a := argsOf(e.job, e.tries)
	id, err := q.store.replace(ctx, e.id, a, at)
	if err != nil {
		return false, storeError(q.store.path, err)
	}
	q.update(func(x *index) { x.again(e, id, e.tries, at) })
	return true, nil
}

// Has reports whether the run has a job.
func (q *Queue) Has(run string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.index.byRun[run] != nil
}

// Free returns when no other run than the job's has a job for its playbook, or
// when ctx ends. mine says that this run has one.
func (q *Queue) Free(ctx context.Context, job Job) (mine bool, err error) {
	for {
		q.mu.Lock()
		e, stopping, changed := q.index.byPlaybook[job.Playbook], q.closed, q.changed
		q.mu.Unlock()
		switch {
		case e == nil || e.job.Run == job.Run:
			return e != nil, nil
		case stopping:
			return false, closed()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// Cancelled says what Cancel met.
type Cancelled string

// What Cancel can meet.
const (
	NotFound   Cancelled = ""        // the run has no job
	WasWaiting Cancelled = "waiting" // its job is gone
	WasRunning Cancelled = "running" // the context of its Work has ended, or will begin ended
)

// Cancel takes the job of a run that waits out of the queue. Where the run is
// being worked on, it ends Work's context with ErrCancelled; what Work returns
// then counts as ever. That is not written: when the process dies before Work
// returns, the run is worked on again, and only the journal can tell that it
// was cancelled.
func (q *Queue) Cancel(ctx context.Context, run string) (Cancelled, error) {
	if err := q.begin(ctx); err != nil {
		return NotFound, err
	}
	defer q.end()
	q.mu.Lock()
	e := q.index.byRun[run]
	was := e.cancelled()
	waits := was == WasWaiting && e.state != settling
	q.mu.Unlock()
	if !waits {
		return was, nil
	}
	err := q.store.tx(ctx, func(tx *sql.Tx) error {
		_, err := q.store.client.JobDeleteTx(ctx, tx, e.id)
		return err
	})
	if err != nil {
		return NotFound, storeError(q.store.path, err)
	}
	q.update(func(x *index) { x.remove(e) })
	return WasWaiting, nil
}

// cancelled cancels what is not in the queue's rows.
func (e *entry) cancelled() Cancelled {
	switch {
	case e == nil || e.ends:
		return NotFound
	case e.state == granted || e.state == running:
		e.end(ErrCancelled)
		return WasRunning
	case e.state == settling:
		e.ends, e.wake = true, time.Time{}
	}
	return WasWaiting
}

// Waiting lists the jobs that nobody works on: first what is due, in the order
// in which it goes, then the others by time.
func (q *Queue) Waiting() []Waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	x := q.index
	x.ripen(q.opt.Clock.Now())
	all := make([]Waiting, 0, len(x.due)+len(x.waiting))
	x.walk(func(e *entry, lock string) { all = append(all, e.waits(lock)) })
	later := slices.Clone(x.waiting)
	slices.SortFunc(later, func(a, b *entry) int { return a.at.Compare(b.at) })
	for _, e := range later {
		all = append(all, e.waits(""))
	}
	return all
}

func (e *entry) waits(lock string) Waiting {
	return Waiting{Job: e.job, At: e.at, Lock: lock, Tries: e.tries}
}

// Running lists the jobs that are worked on, the longest first.
func (q *Queue) Running() []Running {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]Running, 0, len(q.index.active))
	for e := range q.index.active {
		all = append(all, Running{Job: e.job, Since: e.since})
	}
	slices.SortFunc(all, func(a, b Running) int { return a.Since.Compare(b.Since) })
	return all
}

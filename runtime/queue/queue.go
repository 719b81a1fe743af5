package queue

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// Options say how a queue works. Dir, Concurrency and Work are needed.
type Options struct {
	// Dir is the state folder, which the caller has locked: the file queue.db
	// (0600) in it is this queue's alone.
	Dir         string
	Concurrency int // jobs worked on at once, 1 to 10,000; see [Queue.SetConcurrency]
	// Work works on a job until its context ends, and obeys that at once. It is
	// called in many goroutines.
	Work func(ctx context.Context, job Job) Result
	// Unfinished gives the jobs of all runs that have not ended, as the journal
	// has them; Open adds those that the queue does not know, and brings forward
	// those that it has later. Without it a damaged queue cannot be opened.
	Unfinished func(ctx context.Context) ([]Waiting, error)
	Clock      clockwork.Clock // nil: the real one; decides what is due
	Log        *slog.Logger    // nil: nowhere
}

// Queue is an open queue. It is safe for concurrent use.
type Queue struct {
	opt      Options
	store    *store
	listener *listener
	turn     chan struct{} // held by whoever changes rows and index; never while Work runs

	mu       sync.Mutex // over what follows
	index    *index
	slots    int           // jobs worked on at once
	changed  chan struct{} // closed at the next change
	started  bool
	halted   bool
	stopping bool
	closed   bool
	seen     time.Time // the clock, when the gate looked last

	wake     chan struct{}      // for the gate
	hard     chan struct{}      // closed when Stop waits no longer
	gateDone chan struct{}      // closed when the gate has ended
	endGate  context.CancelFunc // nil until Start
}

// Open opens the queue in the state folder. What was being worked on when the
// last process ended is due at once. Nothing is worked on before Start.
func Open(ctx context.Context, o Options) (*Queue, error) {
	if o.Work == nil || o.Concurrency < 1 || o.Concurrency > mostSlots {
		return nil, misuse("the queue needs work, and a concurrency from 1 to 10,000, not %d", o.Concurrency)
	}
	if o.Clock == nil {
		o.Clock = clockwork.NewRealClock()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	q := &Queue{
		opt: o, listener: newListener(), index: newIndex(), slots: o.Concurrency, turn: make(chan struct{}, 1), changed: make(chan struct{}),
		wake: make(chan struct{}, 1), hard: make(chan struct{}), gateDone: make(chan struct{}),
	}
	s, old, fresh, err := openStore(ctx, &q.opt, q.listener, &worker{q: q})
	if err != nil {
		return nil, err
	}
	q.store = s
	now := o.Clock.Now()
	for _, r := range old {
		if r.orphan {
			r.at = now
		}
		q.index.add(r.id, r.args, r.at)
	}
	if o.Unfinished != nil {
		if err := q.reconcile(ctx, fresh); err != nil {
			_ = s.db.Close()
			return nil, storeError(s.path, err)
		}
	}
	return q, nil
}

// reconcile brings the queue up to what the journal knows. Of two times the
// earlier is right: a run that is worked on too early waits again, and one that
// was brought forward here must not wait.
func (q *Queue) reconcile(ctx context.Context, fresh bool) error {
	all, err := q.opt.Unfinished(ctx)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(all))
	for _, w := range all {
		known[w.Job.Run] = true
	}
	added := 0
	err = q.store.tx(ctx, func(tx *sql.Tx) error {
		for _, w := range all {
			more, err := q.reconcileOne(ctx, tx, w, known)
			if err != nil {
				return err
			}
			added += more
		}
		return nil
	})
	if err == nil && added > 0 && !fresh {
		q.opt.Log.Warn("the queue lacked runs that the journal has", slog.Int("runs", added))
	}
	return err
}

func (q *Queue) reconcileOne(ctx context.Context, tx *sql.Tx, w Waiting, known map[string]bool) (added int, err error) {
	if err := w.Job.check(); err != nil {
		return 0, err
	}
	e := q.index.byPlaybook[w.Job.Playbook]
	same := e != nil && e.job.Run == w.Job.Run
	switch {
	case same && !w.At.Before(e.at):
		return 0, nil
	case e != nil && !same && known[e.job.Run]:
		q.opt.Log.Error("two runs of one playbook are unfinished; the second is left alone",
			slog.String("playbook", w.Job.Playbook), slog.String("run", e.job.Run), slog.String("second", w.Job.Run))
		return 0, nil
	case e != nil: // its time, or a run that has ended
		if _, err := q.store.client.JobDeleteTx(ctx, tx, e.id); err != nil {
			return 0, err
		}
		q.index.remove(e)
	}
	a := argsOf(w.Job, 0)
	id, err := q.store.insert(ctx, tx, a, w.At)
	if err != nil {
		return 0, err
	}
	q.index.add(id, a, w.At)
	if same {
		return 0, nil
	}
	return 1, nil
}

// Start begins to work on what is due. The values of ctx reach Work; its end
// does not: that is Stop's.
func (q *Queue) Start(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.halted {
		return closed()
	}
	if q.started {
		return misuse("the queue was started before")
	}
	if err := q.store.client.Start(ctx); err != nil {
		return storeError(q.store.path, err)
	}
	ctx, q.endGate = context.WithCancel(ctx)
	q.started = true
	go q.gate(ctx)
	return nil
}

// SetConcurrency lets n jobs be worked on at once from now on. What is worked on
// already goes on, though it be more.
func (q *Queue) SetConcurrency(n int) error {
	if n < 1 || n > mostSlots {
		return misuse("a concurrency is 1 to 10,000, not %d", n)
	}
	q.mu.Lock()
	q.slots = n
	q.mu.Unlock()
	q.announce()
	return nil
}

// Halt begins nothing new from now on. What runs, and jobs that are added, are for
// Stop to see to.
func (q *Queue) Halt() {
	q.mu.Lock()
	halted := q.halted
	q.halted = true
	started := q.started
	q.mu.Unlock()
	if !started {
		return
	}
	if !halted {
		q.endGate()
	}
	<-q.gateDone
}

// Stop begins nothing new and waits for the running Work. When ctx ends, it
// ends the contexts of what still runs, with ErrStopped, and waits for that.
// Until then the queue takes jobs; then it is closed. A second Stop gives
// ErrClosed.
func (q *Queue) Stop(ctx context.Context) error {
	q.mu.Lock()
	if q.stopping {
		q.mu.Unlock()
		return closed()
	}
	q.stopping = true
	started := q.started
	q.mu.Unlock()
	q.Halt()
	if started {
		q.drain(ctx)
	}
	q.turn <- struct{}{}
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.end()
	q.announce()
	return storeError(q.store.path, q.store.db.Close())
}

func (q *Queue) drain(ctx context.Context) {
	if q.store.client.Stop(ctx) == nil {
		return
	}
	close(q.hard)
	q.mu.Lock()
	for e := range q.index.active {
		e.end(ErrStopped)
	}
	q.mu.Unlock()
	<-q.store.client.Stopped()
}

// Idle returns when nothing is worked on and nothing is due, or when ctx ends.
func (q *Queue) Idle(ctx context.Context) error {
	for {
		q.mu.Lock()
		q.index.ripen(q.opt.Clock.Now())
		idle, stopping, changed := len(q.index.active)+len(q.index.due) == 0, q.stopping, q.changed
		q.mu.Unlock()
		if idle {
			return nil
		}
		if stopping {
			return closed()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// begin takes the turn to change rows and index.
func (q *Queue) begin(ctx context.Context) error {
	select {
	case q.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		q.end()
		return closed()
	}
	return nil
}

func (q *Queue) end() { <-q.turn }

// update changes the index, and lets the gate and Idle look again.
func (q *Queue) update(change func(x *index)) {
	q.mu.Lock()
	change(q.index)
	q.mu.Unlock()
	q.announce()
}

func (q *Queue) announce() {
	q.mu.Lock()
	close(q.changed)
	q.changed = make(chan struct{})
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (j Job) check() error {
	if j.Run == "" || j.Playbook == "" {
		return misuse("a job needs a run and a playbook: %q, %q", j.Run, j.Playbook)
	}
	return nil
}

// end makes Work's context end, now or as soon as Work is called.
func (e *entry) end(cause error) {
	if e.cause == nil {
		e.cause = cause
	}
	if e.cancel != nil {
		e.cancel(e.cause)
	}
}

// earlier gives the earlier of two times; a zero one does not count.
func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && (a.IsZero() || b.Before(a)) {
		return b
	}
	return a
}

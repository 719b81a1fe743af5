package journal

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

const (
	mostLazy   = 4096        // lazy records in the queue; then WriteLazy waits
	retryDelay = time.Second // until lazy records are tried again after a failure
)

// request is what one call asks to be written: records of one run and epoch,
// or a function.
type request struct {
	run   string
	epoch int64
	lazy  []Record // queued before it, by calls that do not wait
	recs  []Record
	fn    func(*conn) error
	done  chan error // nil if no caller waits
	err   error      // why it was refused, without harm to the others
}

func newRequest(lazy, recs []Record) (*request, error) {
	var first Stamp
	for _, list := range [][]Record{lazy, recs} {
		for _, r := range list {
			s := r.Stamped()
			if first.Run == "" {
				first = s
			}
			if s.Run != first.Run || s.Epoch != first.Epoch {
				return nil, misuse("records of two runs, or two epochs, in one write: %s/%d and %s/%d", first.Run, first.Epoch, s.Run, s.Epoch)
			}
			if s.At.IsZero() {
				return nil, misuse("%s of run %s has no time", r.Type(), s.Run)
			}
		}
	}
	return &request{run: first.Run, epoch: first.Epoch, lazy: lazy, recs: recs}, nil
}

// writer owns the writing connection, and its queue. A caller that waits for a request and
// finds the turn free commits the whole queue, and answers the others: without concurrent
// callers, a write needs no switch of goroutines. A goroutine commits what no caller waits
// for.
type writer struct {
	path  string
	steps []string
	clock clockwork.Clock
	log   *slog.Logger
	ctx   context.Context //nolint:containedctx // without end: a commit is not aborted
	turn  chan struct{}   // a mutex: held to empty the queue and commit it
	conn  *conn           // the turn's; nil after a failure, until it is opened again
	work  workload        // the turn's
	part  *int64          // the turn's; see conn.last
	alone string          // the turn's; the run that had the last commit to itself, "" for none

	mu     sync.Mutex
	queue  []*request
	wait   int           // requests in queue that a caller waits for
	lazy   int           // lazy records in queue
	room   chan struct{} // closed, and replaced, when the queue was emptied
	timed  bool          // the timer runs, which bounds how long lazy records wait
	due    bool          // it has ended
	last   error         // of the last commit, nil if it succeeded
	lost   error         // why lazy records were lost at the end
	closed bool

	wake     chan struct{} // has room for one
	finished chan struct{}

	commits, quiet, records, refused atomic.Int64
}

func startWriter(ctx context.Context, path string, steps []string, c *conn, clock clockwork.Clock, log *slog.Logger) *writer {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &writer{
		path: path, steps: steps, clock: clock, log: log, ctx: context.WithoutCancel(ctx), conn: c, part: c.last,
		work: workload{clock: clock, stints: map[string]*stint{}},
		turn: make(chan struct{}, 1), room: make(chan struct{}), wake: make(chan struct{}, 1), finished: make(chan struct{}),
	}
	c.work = w.work
	go w.run()
	return w
}

func (w *writer) do(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1) // r itself is the committer's from here on
	r.done = done
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return closed()
	}
	w.queue = append(w.queue, r)
	w.wait++
	w.mu.Unlock()
	gone := ctx.Done()
	for {
		select {
		case err := <-done:
			return err
		case w.turn <- struct{}{}:
			w.lead(r.run, done)
			<-w.turn
		case <-gone:
			if w.withdraw(r) {
				return ctx.Err()
			}
			gone = nil // it is being committed, which is short
		}
	}
}

// lead commits the queue, and with it what done waits for, unless the last holder of the
// turn has committed that.
func (w *writer) lead(run string, done chan error) {
	if len(done) > 0 {
		return
	}
	if run != w.alone {
		runtime.Gosched() // so that concurrent writers join this commit; with GOMAXPROCS=1 none would
	}
	batch, _, _ := w.nextBatch()
	w.alone = run
	if slices.ContainsFunc(batch, func(r *request) bool { return r.run != run }) {
		w.alone = ""
	}
	if len(batch) > 0 {
		w.requeue(w.commit(merge(batch)))
	}
}

func (w *writer) withdraw(r *request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.queue, r)
	if i < 0 {
		return false
	}
	w.queue = slices.Delete(w.queue, i, i+1)
	w.wait--
	return true
}

func (w *writer) queueLazy(ctx context.Context, r *request) error {
	for {
		w.mu.Lock()
		if w.closed {
			w.mu.Unlock()
			return closed()
		}
		if w.lazy == 0 || w.lazy+len(r.lazy) <= mostLazy {
			w.queue = append(w.queue, r)
			w.lazy += len(r.lazy)
			quiet := w.timed && w.lazy < mostLazy/2 // no need to wake the goroutine yet
			w.mu.Unlock()
			if !quiet {
				w.ring()
			}
			return nil
		}
		room, last := w.room, w.last
		w.mu.Unlock()
		if last != nil {
			return last // the disk cannot be written, and the queue is full
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *writer) ring() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *writer) close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.ring()
	<-w.finished
	return w.lost
}

// run is the goroutine. It commits lazy records when they have waited for LazyDelay, or when
// there are very many.
func (w *writer) run() {
	defer close(w.finished)
	var timer clockwork.Timer
	var due <-chan time.Time
	for {
		w.turn <- struct{}{}
		batch, delay, ended := w.nextBatch()
		if len(batch) > 0 {
			w.requeue(w.commit(merge(batch)))
			<-w.turn
			continue
		}
		if ended {
			break // with the turn: nothing can be committed any longer
		}
		<-w.turn
		if delay > 0 {
			timer = w.clock.NewTimer(delay)
			due = timer.Chan()
		}
		select {
		case <-w.wake:
		case <-due:
			w.mu.Lock()
			w.timed, w.due = false, true
			w.mu.Unlock()
		}
	}
	if timer != nil {
		timer.Stop()
	}
	if w.conn != nil {
		w.conn.close()
	}
}

// nextBatch empties the queue and returns it if it must be committed now. Else, if lazy
// records wait in it and the timer does not run, it returns for how long to set it.
func (w *writer) nextBatch() (batch []*request, delay time.Duration, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	full := w.lazy >= mostLazy/2 && w.last == nil
	due := w.due
	w.due = false
	if due || w.wait > 0 || full || w.closed {
		batch = w.queue
		w.queue, w.wait, w.lazy = nil, 0, 0
		close(w.room)
		w.room = make(chan struct{})
		return batch, 0, w.closed
	}
	if w.lazy == 0 || w.timed {
		return nil, 0, false
	}
	w.timed = true
	if w.last != nil {
		return nil, retryDelay, false
	}
	return nil, LazyDelay, false
}

// requeue puts lazy records that could not be written at the head of the queue, unless the
// journal is being closed.
func (w *writer) requeue(failed []*request) {
	if len(failed) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		w.lost = w.last
		return
	}
	w.queue = append(failed, w.queue...)
	for _, r := range failed {
		w.lazy += len(r.lazy)
	}
}

// merge puts lazy records into the next request of the same run, so that they
// are written before it, or not at all and kept.
func merge(queue []*request) []*request {
	type owner struct {
		run   string
		epoch int64
	}
	waiting := map[owner]*request{}
	for _, r := range queue {
		if r.fn != nil {
			clear(waiting) // an adoption must not overtake them
			continue
		}
		key := owner{r.run, r.epoch}
		before := waiting[key]
		if before != nil {
			r.lazy = append(before.lazy, r.lazy...)
			before.lazy = nil
		}
		if r.done == nil {
			waiting[key] = r
		} else {
			delete(waiting, key)
		}
	}
	return slices.DeleteFunc(queue, func(r *request) bool { return r.done == nil && len(r.lazy) == 0 })
}

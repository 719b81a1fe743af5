package queue

import (
	"context"
	"log/slog"
	"time"

	"github.com/jonboulle/clockwork"
)

// Queue decides which run is worked on when. It is safe for concurrent use. Its contract
// is queuetest.Run.
type Queue interface {
	// Start starts to work on due jobs. The values of ctx reach Work; its end does not:
	// use Stop.
	Start(ctx context.Context) error
	// Sync adds the runs that Options.Unfinished has and the queue lacks. It changes
	// no job: what the queue has may be newer than what was read.
	Sync(ctx context.Context) (added int, err error)
	// Enqueue adds a job that is due at the given time, zero being now, unless
	// its playbook has an unfinished one. If that is of the same run, its Locks,
	// Expires and Tenant are updated, and it is brought forward if it waits for
	// longer; if it is being worked on, it runs again at the given time at the
	// latest, whatever its Result, and stays as it is.
	Enqueue(job Job, at time.Time) (added bool, err error)
	// Wake makes a run that waits for a time due now; locks still hold it back.
	// One that is being worked on runs again at once, as what it is about to
	// wait for may have come. Wake reports whether the run has a job.
	Wake(run string) bool
	// Has reports whether the run has a job.
	Has(run string) bool
	// Free returns when no other run than the job's has a job for its playbook,
	// or when ctx ends. It reports whether the job's run has one.
	Free(ctx context.Context, job Job) (mine bool, err error)
	// Cancel removes the job of a run that waits. If the run is being worked on,
	// it ends Work's context with ErrCancelled, and the Result counts as ever; if
	// Work had just returned, it is called again with a context that has ended.
	// Only the journal remembers a cancellation that Work has not seen.
	Cancel(run string) Cancelled
	// Waiting lists the jobs that are not being worked on: first what is due, in
	// the order in which it goes, then the others by time.
	Waiting() []Waiting
	// Running lists the jobs that are being worked on, the longest first.
	Running() []Running
	// SetConcurrency lets n jobs be worked on at once from now on. Those that
	// are being worked on continue, even if they are more.
	SetConcurrency(n int) error
	// Recheck checks at once which locks are free.
	Recheck()
	// Idle returns when nothing is being worked on and what is due, if anything,
	// waits for locks, or when ctx ends.
	Idle(ctx context.Context) error
	// Halt starts no more work from now on. What runs, and jobs that are added, are
	// left to Stop.
	Halt()
	// Stop starts no more work and waits for the running Work. When ctx ends, it ends
	// the contexts of what still runs, with ErrStopped, and waits for that. Until then
	// the queue accepts jobs; then it is closed. A second Stop returns ErrClosed.
	Stop(ctx context.Context) error
}

// Options say how a queue works. Concurrency and Work are needed.
type Options struct {
	Concurrency int // jobs worked on at once, 1 to 10,000; see [Queue.SetConcurrency]
	// Work works on a job, and must return soon when its context ends. It is
	// called in many goroutines, and may be called for a run that has ended.
	Work func(ctx context.Context, job Job) Result
	// Unfinished returns the runs of the journal that must be worked on, and when;
	// nil: none.
	Unfinished func(ctx context.Context) ([]Waiting, error)
	// Held returns the id of the run that holds each lock, as the journal has it; nil:
	// none is held.
	Held  func(ctx context.Context) (map[string]string, error)
	Clock clockwork.Clock // nil: the real one; decides what is due
	Log   *slog.Logger    // nil: discard
}

// mostSlots is how many jobs may be worked on at once.
const mostSlots = 10_000

func checkConcurrency(n int) error {
	if n < 1 || n > mostSlots {
		return misuse("the concurrency must be from 1 to 10,000, not %d", n)
	}
	return nil
}

// New returns a queue in memory that has the journal's unfinished runs. Nothing
// is worked on before Start.
func New(ctx context.Context, o Options) (Queue, error) {
	if o.Work == nil {
		return nil, misuse("the queue must have a Work")
	}
	if err := checkConcurrency(o.Concurrency); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = clockwork.NewRealClock()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m := &memory{opt: o, index: newIndex(), slots: o.Concurrency, wake: make(chan struct{}, 1), gateDone: make(chan struct{})}
	if _, err := m.Sync(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/queue"
	"moonseal/runtime/schedule"
)

const (
	// maintainEvery is how often the daemon checks its own state and looks for troubles.
	maintainEvery = time.Minute
	// beatEvery is how often it sends its heartbeat.
	beatEvery = 5 * time.Minute
)

// signal wakes a goroutine that receives from it. Signals that were not received yet are
// merged into one.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) send() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// maintenance is what the daemon does by itself every minute.
type maintenance struct {
	queue    queue.Queue
	schedule *schedule.Scheduler
	settings *settings
	storage  *storage
	notifier *notifier
	start    func(ctx context.Context, playbook string, why schedule.Reason) // a run that is due
	healthy  func(context.Context) bool
	wake     signal // makes it work now
	clock    clockwork.Clock
	log      *slog.Logger
}

// run works until ctx ends.
func (m *maintenance) run(ctx context.Context) {
	tick := m.clock.NewTicker(maintainEvery)
	defer tick.Stop()
	check := newSignal()
	var notifying sync.WaitGroup
	defer notifying.Wait()
	defer close(check)
	notifying.Go(func() { m.notifier.run(ctx, check) }) // an alert's service may take long to answer
	var beaten time.Time
	for {
		m.schedule.CheckClock()
		m.storage.probe(ctx, m.start)
		m.requeue(ctx)
		check.send()
		if now := m.clock.Now(); m.settings.now().Beat != nil && now.Sub(beaten) >= beatEvery {
			beaten = now
			m.beat(ctx, m.settings.now().Beat)
		}
		select {
		case <-tick.Chan():
		case <-m.storage.retry():
		case <-m.wake:
		case <-ctx.Done():
			return
		}
	}
}

// requeue queues the unfinished runs that the queue does not have, because the journal
// could not be read, or written, when they should have been queued.
func (m *maintenance) requeue(ctx context.Context) {
	added, err := m.queue.Sync(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		m.log.Error("cannot look for unfinished runs", "error", err.Error())
	case added > 0:
		// Not a warning: a run that is being created meanwhile may be found here first.
		m.log.Info("queued unfinished runs", "runs", added)
	}
}

func (m *maintenance) beat(ctx context.Context, beat func(context.Context) error) {
	if !m.healthy(ctx) {
		return
	}
	if err := beat(ctx); err != nil && ctx.Err() == nil {
		m.log.Warn("heartbeat not sent", "error", err.Error())
	}
}

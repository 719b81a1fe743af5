package queue

import (
	"context"
	"log/slog"
	"time"
)

// recheckEvery is how often the gate reads the clock and the locks at least while jobs
// wait.
const recheckEvery = time.Second

// setBack is how far a clock goes back if it is not just adjusted by NTP.
const setBack = time.Minute

// gate starts the work on due jobs, in as many slots as there are, until ctx ends.
func (m *memory) gate(ctx context.Context) {
	defer close(m.gateDone)
	failing := false
	for ctx.Err() == nil {
		err := m.grantReady(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			m.opt.Log.Error("cannot read which locks are held; runs that wait for one keep waiting, retried each second", slog.Any("err", err))
		}
		failing = err != nil
		m.rest(ctx)
	}
}

// grantReady grants slots to the jobs that may run now.
func (m *memory) grantReady(ctx context.Context) error {
	m.mu.Lock()
	now := m.now()
	m.checkClock(now)
	if m.index.ripen(now) {
		m.changes++
	}
	ask, released, changes := m.index.locked > 0, m.index.released, m.changes
	m.mu.Unlock()

	var h holders
	var err error
	if ask {
		h, err = m.askHolders(ctx)
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	if m.index.released != released {
		h = holders{} // what was reserved may be held by now; the end of that job wakes the gate again
	}
	m.holders = h
	m.grant(ctx, now)
	m.checked = changes
	if err != nil {
		m.checked = 0
	}
	m.notify()
	return err
}

// checkClock makes all waiting jobs due if the clock was set back: their moments may come
// from a wrong clock. Those that are early wait again.
func (m *memory) checkClock(now time.Time) {
	if back := m.seen.Sub(now); back > setBack {
		m.opt.Log.Warn("the clock was set back: all runs that wait are checked", slog.String("by", back.Round(time.Second).String()))
		m.index.ripenAll(now)
		m.changes++
	}
	m.seen = now
}

func (m *memory) askHolders(ctx context.Context) (holders, error) {
	if m.opt.Held == nil {
		return holders{known: true}, nil
	}
	runs, err := m.opt.Held(ctx)
	return holders{known: err == nil, runs: runs}, err
}

func (m *memory) grant(ctx context.Context, now time.Time) {
	if m.halted {
		return
	}
	for _, e := range m.index.pick(m.holders, m.slots) {
		work, end := context.WithCancelCause(context.WithoutCancel(ctx))
		if e.cancelled {
			end(ErrCancelled)
		}
		m.index.activate(e, &call{since: now, end: end})
		m.workers.Go(func() { m.work(work, e) })
	}
}

// rest waits for a change, or until the next job is due.
func (m *memory) rest(ctx context.Context) {
	m.mu.Lock()
	now := m.now()
	until := now.Add(recheckEvery)
	if len(m.index.waiting) > 0 {
		until = earlier(until, m.index.waiting[0].at)
	}
	idle := len(m.index.waiting)+len(m.index.due) == 0
	m.mu.Unlock()
	var timeout <-chan time.Time
	if !idle {
		timer := m.opt.Clock.NewTimer(until.Sub(now))
		defer timer.Stop()
		timeout = timer.Chan()
	}
	select {
	case <-m.wake:
	case <-timeout:
	case <-ctx.Done():
	}
}

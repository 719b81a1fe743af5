package queue

import (
	"context"
	"log/slog"
	"time"
)

// lookAgain is how often the gate looks at the clock and the locks at the least
// while jobs wait.
const lookAgain = time.Second

// setBack is by how much a clock goes back before that is more than NTP's work.
const setBack = time.Minute

// gate begins the work on what is due, in as many slots as there are, until ctx
// ends.
func (m *memory) gate(ctx context.Context) {
	defer close(m.gateDone)
	failing := false
	for ctx.Err() == nil {
		err := m.look(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			m.opt.Log.Error("cannot read which locks are held; runs that wait for one stay where they are, trying again each second", slog.Any("err", err))
		}
		failing = err != nil
		m.rest(ctx)
	}
}

// look grants what may go now.
func (m *memory) look(ctx context.Context) error {
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
		h = holders{} // what was reserved may be held by now; that a job was settled makes the gate look again
	}
	m.holders = h
	m.grant(ctx, now)
	m.looked = changes
	if err != nil {
		m.looked = 0
	}
	m.notify()
	return err
}

// checkClock makes due what waits until a moment that a wrong clock had. What is
// too early waits again.
func (m *memory) checkClock(now time.Time) {
	if back := m.seen.Sub(now); back > setBack {
		m.opt.Log.Warn("the clock was set back: all runs that wait are looked at", slog.String("by", back.Round(time.Second).String()))
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

// rest waits for a change, or until it is time to look.
func (m *memory) rest(ctx context.Context) {
	m.mu.Lock()
	now := m.now()
	until := now.Add(lookAgain)
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

package queue

import (
	"context"
	"sync"
	"time"
)

// memory implements Queue.
type memory struct {
	opt Options

	mu       sync.Mutex // over what follows
	index    *index
	holders  holders
	slots    int           // jobs worked on at once
	changed  chan struct{} // closed at the next change; nil if nothing waits for one
	started  bool
	halted   bool
	stopping bool
	closed   bool
	changes  uint64    // how often something changed that the gate must check
	checked  uint64    // the changes that the gate has checked
	seen     time.Time // the clock at the gate's last check

	wake     chan struct{}      // for the gate
	gateDone chan struct{}      // closed when the gate has ended
	endGate  context.CancelFunc // nil until Start
	workers  sync.WaitGroup
}

func (m *memory) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.halted {
		return closed()
	}
	if m.started {
		return misuse("the queue was started before")
	}
	ctx, m.endGate = context.WithCancel(context.WithoutCancel(ctx))
	m.started = true
	go m.gate(ctx)
	return nil
}

func (m *memory) SetConcurrency(n int) error {
	if err := checkConcurrency(n); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slots = n
	m.announce()
	return nil
}

func (m *memory) Recheck() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.announce()
}

func (m *memory) Halt() {
	m.mu.Lock()
	m.halted = true
	started := m.started
	m.mu.Unlock()
	if started {
		m.endGate()
		<-m.gateDone
	}
}

func (m *memory) Stop(ctx context.Context) error {
	m.mu.Lock()
	stopping := m.stopping
	m.stopping = true
	m.mu.Unlock()
	if stopping {
		return closed()
	}
	m.Halt()
	m.drain(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.announce()
	return nil
}

func (m *memory) drain(ctx context.Context) {
	drained := make(chan struct{})
	go func() {
		m.workers.Wait()
		close(drained)
	}()
	select {
	case <-drained:
		return
	case <-ctx.Done():
	}
	m.mu.Lock()
	for e := range m.index.active {
		e.call.end(ErrStopped)
	}
	m.mu.Unlock()
	<-drained
}

func (m *memory) Idle(ctx context.Context) error {
	for {
		m.mu.Lock()
		m.ripen()
		// What is due after a check that left all slots free waits for locks.
		idle := len(m.index.active) == 0 && (len(m.index.due) == 0 || m.checked == m.changes)
		stopping, changed := m.stopping, m.nextChange()
		m.mu.Unlock()
		switch {
		case idle:
			return nil
		case stopping:
			return closed()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// The methods below are called with the lock held.

// announce makes the gate, Idle and Free check again.
func (m *memory) announce() {
	m.changes++
	m.notify()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// notify makes Idle and Free check again.
func (m *memory) notify() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

func (m *memory) nextChange() <-chan struct{} {
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.changed
}

// ripen makes due the jobs whose time has come; the gate's timer may be about to.
func (m *memory) ripen() {
	if m.index.ripen(m.now()) {
		m.announce()
	}
}

// now returns the wall clock's time, which can jump.
func (m *memory) now() time.Time { return m.opt.Clock.Now().Round(0) }

// orNow returns at without its monotonic reading, or now for the zero time.
func (m *memory) orNow(at time.Time) time.Time {
	if at.IsZero() {
		return m.now()
	}
	return at.Round(0)
}

// earlier returns the earlier of two times; a zero one does not count.
func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && (a.IsZero() || b.Before(a)) {
		return b
	}
	return a
}

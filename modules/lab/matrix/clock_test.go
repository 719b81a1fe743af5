package matrix

import (
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

const (
	// shortWait is the longest wait that passes for real: the lab works in real time, and
	// a poll of it has to allow for some.
	shortWait = 400 * time.Millisecond
	// jumpTakes is what a longer one takes.
	jumpTakes = 15 * time.Millisecond
)

// clock jumps over long waits, such as back-offs, and notes them.
type clock struct {
	clockwork.Clock
	mu     sync.Mutex
	offset time.Duration
}

func newClock() *clock { return &clock{Clock: clockwork.NewRealClock()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Clock.Now().Add(c.offset)
}

func (c *clock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }
func (c *clock) Until(t time.Time) time.Duration { return t.Sub(c.Now()) }

func (c *clock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

func (c *clock) NewTimer(d time.Duration) clockwork.Timer {
	if d <= shortWait {
		return c.Clock.NewTimer(d)
	}
	c.jump(d)
	return c.Clock.NewTimer(jumpTakes)
}

func (c *clock) After(d time.Duration) <-chan time.Time { return c.NewTimer(d).Chan() }

package control_test

import (
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// wallClock is the bubble's clock with an offset, which someone can set wrong. Timers
// are not affected by it, as the kernel's are not.
type wallClock struct {
	clockwork.Clock

	mu     sync.Mutex
	offset time.Duration
}

func newWallClock() *wallClock { return &wallClock{Clock: clockwork.NewRealClock()} }

func (w *wallClock) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Clock.Now().Add(w.offset)
}

func (w *wallClock) Since(t time.Time) time.Duration { return w.Now().Sub(t) }

func (w *wallClock) Until(t time.Time) time.Duration { return t.Sub(w.Now()) }

// set sets it forward, or back.
func (w *wallClock) set(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.offset += d
}

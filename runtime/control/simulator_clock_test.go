package control_test

import (
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// wallClock is the bubble's clock with an offset, which someone can set wrong. Timers
// are not affected by it, as the kernel's are not, and neither is Since of what Now has
// returned, as that of an instant with a monotonic reading is not.
type wallClock struct {
	clockwork.Clock

	mu     sync.Mutex
	offset time.Duration
}

func newWallClock() *wallClock { return &wallClock{Clock: clockwork.NewRealClock()} }

// Now returns an instant whose location tells Since by how much the clock is wrong. As a
// monotonic reading it is lost on the way through UTC and the journal.
func (w *wallClock) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Clock.Now().Add(w.offset).In(time.FixedZone(w.offset.String(), 0))
}

func (w *wallClock) Since(t time.Time) time.Duration {
	if offset, err := time.ParseDuration(t.Location().String()); err == nil {
		return w.Clock.Since(t.Add(-offset))
	}
	return w.Now().Sub(t)
}

func (w *wallClock) Until(t time.Time) time.Duration { return -w.Since(t) }

// set sets it forward, or back.
func (w *wallClock) set(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.offset += d
}

package reload

import (
	"time"

	"github.com/jonboulle/clockwork"
)

// debounce is the wait from the first hint to the reading of the folder: until no hint
// came for delay, but no longer than maxDelay in all.
type debounce struct {
	clock           clockwork.Clock
	delay, maxDelay time.Duration
	timer           clockwork.Timer // nil: nothing to wait for
	deadline        time.Time       // the end of maxDelay
}

// elapsed returns the channel of the timer, nil if there is nothing to wait for.
func (d *debounce) elapsed() <-chan time.Time {
	if d.timer == nil {
		return nil
	}
	return d.timer.Chan()
}

// trigger starts the wait, or extends it.
func (d *debounce) trigger() {
	now := d.clock.Now()
	if d.timer == nil {
		d.deadline = now.Add(d.maxDelay)
	} else {
		d.timer.Stop()
	}
	d.timer = d.clock.NewTimer(max(0, min(d.delay, d.deadline.Sub(now))))
}

// overdue reports whether the wait has lasted for maxDelay.
func (d *debounce) overdue() bool { return !d.clock.Now().Before(d.deadline) }

// restart waits once more, after a reading that found something half done.
func (d *debounce) restart() {
	if d.overdue() {
		d.deadline = d.clock.Now().Add(d.maxDelay)
	}
	d.trigger()
}

func (d *debounce) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

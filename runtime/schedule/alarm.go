package schedule

import (
	"sync/atomic"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/jonboulle/clockwork"
)

// glance is how long the scheduler sleeps at most. A clock that was set, and a
// machine that slept, are noticed by then: timers know nothing of either.
const glance = time.Minute

// alarm tells gocron when to fire next. Of gocron's kinds of job only one with a
// Cron of its own will do: a one-time job whose moment passes while it is added
// spins for ever, and an interval follows its last firing, a year ahead where the
// clock was set back by one.
type alarm struct {
	clock  clockwork.Clock
	glance time.Duration
	at     atomic.Int64 // Unix time in ns
	count  atomic.Int64
}

var _ gocron.Cron = (*alarm)(nil)

// IsValid is gocron.Cron's.
func (*alarm) IsValid(string, *time.Location, time.Time) error { return nil }

// Next is gocron.Cron's. It is later than now, whatever the last firing was, and
// differs from call to call: gocron continues asking until it has a moment that it
// does not know yet.
func (a *alarm) Next(time.Time) time.Time {
	now := a.clock.Now().Round(0)
	at := earlier(later(time.Unix(0, a.at.Load()), now.Add(time.Millisecond)), now.Add(a.glance))
	return at.Add(time.Duration(a.count.Add(1) % 1000))
}

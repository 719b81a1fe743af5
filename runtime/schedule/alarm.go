package schedule

import (
	"sync/atomic"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/jonboulle/clockwork"
)

// glance is how long the scheduler sleeps at most. By then it notices that the clock was
// set or the machine slept: timers do not.
const glance = time.Minute

// alarm is the gocron.Cron that says when to fire next. Of gocron's kinds of job only one
// with a Cron of its own works: a one-time job whose moment passes while it is added spins
// for ever, and an interval follows its last firing, a year ahead if the clock was set back
// by one.
type alarm struct {
	clock  clockwork.Clock
	glance time.Duration
	at     atomic.Int64 // Unix time in ns
	count  atomic.Int64
}

var _ gocron.Cron = (*alarm)(nil)

// IsValid implements gocron.Cron.
func (*alarm) IsValid(string, *time.Location, time.Time) error { return nil }

// Next implements gocron.Cron. It is later than now, whatever the last firing was, and
// differs from call to call: gocron calls it until it returns a moment that is new.
func (a *alarm) Next(time.Time) time.Time {
	now := a.clock.Now().Round(0)
	at := earlier(later(time.Unix(0, a.at.Load()), now.Add(time.Millisecond)), now.Add(a.glance))
	return at.Add(time.Duration(a.count.Add(1) % 1000))
}

package reload

import (
	"time"

	"github.com/jonboulle/clockwork"
)

// settling is the wait from the first hint to the look at the folder: until none
// came for the time quiet, but no longer than most in all.
type settling struct {
	clock       clockwork.Clock
	quiet, most time.Duration
	timer       clockwork.Timer // nil: nothing to wait for
	until       time.Time       // the end of most
}

func (s *settling) settled() <-chan time.Time {
	if s.timer == nil {
		return nil
	}
	return s.timer.Chan()
}

// hint begins the wait, or makes it longer.
func (s *settling) hint() {
	now := s.clock.Now()
	if s.timer == nil {
		s.until = now.Add(s.most)
	} else {
		s.timer.Stop()
	}
	s.timer = s.clock.NewTimer(max(0, min(s.quiet, s.until.Sub(now))))
}

// capped reports whether it has waited long enough, quiet or not.
func (s *settling) capped() bool { return !s.clock.Now().Before(s.until) }

// again waits once more, after a look that found something half done.
func (s *settling) again() {
	if s.capped() {
		s.until = s.clock.Now().Add(s.most)
	}
	s.hint()
}

func (s *settling) end() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

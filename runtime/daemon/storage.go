package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/schedule"
)

const (
	// probeFile is written, and removed, to find out whether the state directory can be
	// written again: probeSize bytes, more than a run writes in a step.
	probeFile = ".probe"
	probeSize = 256 << 10
	// probeEvery is how often that is tried.
	probeEvery = 2 * time.Second
)

// storage watches whether the state directory can be written, and keeps what was due
// while it could not.
type storage struct {
	journal *journal.Journal
	dir     string
	wake    signal // wakes the maintenance loop
	clock   clockwork.Clock
	log     *slog.Logger

	trouble atomic.Pointer[problem.Error] // why it cannot be written; nil while it can

	mu     sync.Mutex
	missed map[string]schedule.Reason // by playbook
}

// report records an error of writing to the state directory and wakes the maintenance
// loop to probe it. Other errors are ignored.
func (s *storage) report(err error) {
	if !problem.HasCode(err, problem.StateFailed) {
		return
	}
	e := problem.From(err)
	if s.trouble.Swap(e) == nil {
		s.log.Error("cannot write to the state directory: runs wait, and continue by themselves once it can be written",
			"error", e.Error(), "hint", e.Hint)
	}
	s.wake.send()
}

// probe finds out whether the state directory can be written. Once it can be again it
// calls start for each run that was missed.
func (s *storage) probe(ctx context.Context, start func(ctx context.Context, playbook string, why schedule.Reason)) {
	err := s.journal.Probe(ctx)
	if ctx.Err() != nil {
		return
	}
	if err == nil && s.trouble.Load() != nil {
		path := filepath.Join(s.dir, probeFile)
		err = atomicfile.WriteFile(path, bytes.Repeat([]byte{'x'}, probeSize))
		_ = os.Remove(path)
	}
	switch {
	case err != nil && s.trouble.Load() == nil:
		s.report(err)
	case err == nil && s.trouble.Swap(nil) != nil:
		s.log.Info("the state directory can be written again")
	}
	if err != nil {
		return
	}
	s.mu.Lock()
	missed := s.missed
	s.missed = nil
	s.mu.Unlock()
	for name, why := range missed {
		start(ctx, name, why)
	}
}

// miss keeps a due run that could not be journaled until it can be.
func (s *storage) miss(playbook string, why schedule.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.missed == nil {
		s.missed = map[string]schedule.Reason{}
	}
	s.missed[playbook] = why
}

// retry returns a channel that fires when a directory that cannot be written must be
// probed again; nil if it can be written.
func (s *storage) retry() <-chan time.Time {
	if s.trouble.Load() == nil {
		return nil
	}
	return s.clock.After(probeEvery)
}

package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"moonseal/runtime/run"
)

const (
	// checkEvery is how often a parent checks whether its child is stopped.
	checkEvery = 5 * time.Second
	// longestStop is how long a child may be stopped: it may be under a debugger. If the
	// run is cancelled the child is killed at once.
	longestStop = 30 * time.Second
)

// stoppable is a [Process] that can be stopped (SIGSTOP): it then reacts to nothing, not
// even to the end of its pair.
type stoppable interface{ Stopped() bool }

// Stopped reports whether the process is stopped, by a signal or a debugger.
func (p *process) Stopped() bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return false
	}
	// pid (name) state …; the name may hold anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	return len(fields) > 0 && (string(fields[0]) == "T" || string(fields[0]) == "t")
}

// watchdog kills the child when it is stopped for long: a stopped process would occupy its
// run, and a worker, for ever. The run continues in the next one. stop ends the watchdog.
func (s *session) watchdog(ctx context.Context) (stop func()) {
	child, ok := s.proc.(stoppable)
	if !ok || s.parent.Clock == nil {
		return func() {}
	}
	tick := s.parent.Clock.NewTicker(checkEvery)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var stopped time.Duration
		for {
			select {
			case <-tick.Chan():
			case <-quit:
				return
			}
			if !child.Stopped() {
				stopped = 0
				continue
			}
			if stopped += checkEvery; stopped >= longestStop || errors.Is(context.Cause(ctx), run.ErrCancelled) {
				s.frozen.Store(true)
				s.proc.Kill()
				return
			}
		}
	}()
	return func() {
		tick.Stop()
		close(quit)
		<-done
	}
}

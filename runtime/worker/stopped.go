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
	// lookEvery is how often a parent looks whether its child is stopped.
	lookEvery = 5 * time.Second
	// longestStop is how long a child may be: somebody may be looking at it. When the
	// run is cancelled it is not waited for.
	longestStop = 30 * time.Second
)

// stoppable is a [Process] that can be stopped (SIGSTOP): it heeds nothing then, not
// even the end of its pair.
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

// guard kills the child when it is stopped for long: a stopped process would keep its
// run, and a worker, for ever. The run continues in the next one. stop ends the guard.
func (s *session) guard(ctx context.Context) (stop func()) {
	child, ok := s.proc.(stoppable)
	if !ok || s.parent.Clock == nil {
		return func() {}
	}
	look := s.parent.Clock.NewTicker(lookEvery)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var stopped time.Duration
		for {
			select {
			case <-look.Chan():
			case <-quit:
				return
			}
			if !child.Stopped() {
				stopped = 0
				continue
			}
			if stopped += lookEvery; stopped >= longestStop || errors.Is(context.Cause(ctx), run.ErrCancelled) {
				s.frozen.Store(true)
				s.proc.Kill()
				return
			}
		}
	}()
	return func() {
		look.Stop()
		close(quit)
		<-done
	}
}

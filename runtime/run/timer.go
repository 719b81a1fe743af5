package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/problem"
)

// workTimer measures a run's work against its playbook's timeout; waits do not count.
type workTimer struct {
	clock   clockwork.Clock
	limit   time.Duration // 0: none
	left    time.Duration
	started time.Time
	timer   clockwork.Timer
	expire  context.CancelCauseFunc

	mu   sync.Mutex
	busy int  // calls under way, which may finish
	due  bool // the limit was reached meanwhile
}

// call lets a call finish that is under way when the limit is reached, within its own
// deadline, until the function that it returns is called.
func (t *workTimer) call() (finished func()) {
	if t == nil {
		return func() {}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.busy--; t.busy == 0 && t.due {
			t.expire(errWorkUsed)
		}
	}
}

func (t *workTimer) reached() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.due = true; t.busy == 0 {
		t.expire(errWorkUsed)
	}
}

var errWorkUsed = errors.New("the playbook's timeout is used up")

func newWorkTimer(clock clockwork.Clock, limit, worked time.Duration) *workTimer {
	return &workTimer{clock: clock, limit: limit, left: limit - worked}
}

// context gives a context that ends when the limit is reached.
func (t *workTimer) context(ctx context.Context) (context.Context, func()) {
	ctx, t.expire = context.WithCancelCause(ctx)
	t.start()
	return ctx, func() {
		t.stop()
		t.expire(nil)
	}
}

func (t *workTimer) start() {
	if t.limit > 0 {
		t.started = t.clock.Now()
		t.timer = t.clock.AfterFunc(max(t.left, 0), t.reached)
	}
}

func (t *workTimer) stop() {
	if t.timer != nil {
		t.timer.Stop()
		t.left -= t.clock.Since(t.started)
		t.timer = nil
	}
}

// pause stops the measuring until the function that it returns is called.
func (t *workTimer) pause() func() {
	if t.timer == nil {
		return func() {}
	}
	t.stop()
	return t.start
}

// used gives the error of a run that has worked too long, nil if it has not.
func (t *workTimer) used(ctx context.Context) error {
	if !errors.Is(context.Cause(ctx), errWorkUsed) {
		return nil
	}
	return &problem.Error{
		Kind: problem.Timeout, Message: fmt.Sprintf("the run worked for longer than its timeout of %s", t.limit), Cause: errWorkUsed, Work: problem.NotDone,
		Hint: "raise timeout in the playbook",
	}
}

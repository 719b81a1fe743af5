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

// workTimer measures a run's work against its playbook's timeout; waits do not count. It goes
// by durations of the clock only, which nobody sets.
type workTimer struct {
	clock   clockwork.Clock
	limit   time.Duration // 0: none
	before  time.Duration // worked by earlier processes
	limited bool          // what expire ends has the limit
	timer   clockwork.Timer
	expire  context.CancelCauseFunc

	mu     sync.Mutex
	busy   int  // calls under way, which may finish
	due    bool // the limit was reached meanwhile
	worked time.Duration
	since  time.Time // it works, and what comes after is not in worked; zero while it waits
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

func newWorkTimer(clock clockwork.Clock, limit, before time.Duration) *workTimer {
	return &workTimer{clock: clock, limit: limit, before: before, since: clock.Now()}
}

// context returns a context that ends when the limit is reached.
func (t *workTimer) context(ctx context.Context) (context.Context, func()) {
	ctx, t.expire = context.WithCancelCause(ctx)
	t.limited = t.limit > 0
	t.arm()
	return ctx, func() {
		t.limited = false
		t.disarm()
		t.expire(nil)
	}
}

func (t *workTimer) arm() {
	if t.limited {
		t.timer = t.clock.AfterFunc(max(t.limit-t.before-t.work(), 0), t.reached)
	}
}

func (t *workTimer) disarm() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}

// pause stops the measuring until the function that it returns is called.
func (t *workTimer) pause() (goOn func()) {
	t.disarm()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.worked, t.since = t.worked+t.clock.Since(t.since), time.Time{}
	return func() {
		t.mu.Lock()
		t.since = t.clock.Now()
		t.mu.Unlock()
		t.arm()
	}
}

// work returns how long this process has worked.
func (t *workTimer) work() time.Duration {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		return t.worked
	}
	return t.worked + t.clock.Since(t.since)
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

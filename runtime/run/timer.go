package run

import (
	"context"
	"errors"
	"fmt"
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
		expire := t.expire
		t.started = t.clock.Now()
		t.timer = t.clock.AfterFunc(max(t.left, 0), func() { expire(errWorkUsed) })
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

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
// by durations of the clock only, which are right even if the clock is set.
type workTimer struct {
	clock   clockwork.Clock
	limit   time.Duration // 0: none
	before  time.Duration // worked by earlier processes
	limited bool          // what expire ends has the limit
	timer   clockwork.Timer
	expire  context.CancelCauseFunc

	parent context.Context //nolint:containedctx // of the one that context returns
	grace  time.Duration   // how long a call under way may continue once the run is cancelled
	hurry  context.Context //nolint:containedctx // a signal, which ends when it may not any more

	mu      sync.Mutex
	busy    int      // calls under way, which may finish
	due     error    // why the context ends once they have; nil: it does not
	pending []func() // stop what ends it all the same
	worked  time.Duration
	since   time.Time // it works, and what comes after is not in worked; zero while it waits
}

// longestCall bounds a call under way that has no deadline of its own, once the run's
// time is used up.
const longestCall = time.Hour

// call lets a call finish that is under way when the run's time is used up, or when it is
// cancelled, until the function that it returns is called.
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
		if t.busy--; t.busy == 0 && t.due != nil {
			t.expire(t.due)
		}
	}
}

// end ends the context for a reason, at once or when the call under way has returned; it
// reports whether one is.
func (t *workTimer) end(why error) (under bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy == 0 {
		t.expire(why)
		return false
	}
	if t.due == nil {
		t.due = why
	}
	return true
}

// reached ends a context whose limit is reached.
func (t *workTimer) reached() {
	if t.end(errWorkUsed) {
		t.last(context.Background(), longestCall, errWorkUsed)
	}
}

// interrupted ends a context whose parent has ended. A person's cancel lets a call finish,
// within grace.
func (t *workTimer) interrupted(why error) {
	if !errors.Is(why, ErrCancelled) {
		t.expire(why)
		return
	}
	if t.end(why) {
		t.last(t.hurry, t.grace, why)
	}
}

// last ends a context with a call under way after a while, or when hurry ends.
func (t *workTimer) last(hurry context.Context, grace time.Duration, why error) {
	timer := t.clock.AfterFunc(grace, func() { t.expire(why) })
	unwatch := context.AfterFunc(hurry, func() { t.expire(why) })
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending = append(t.pending, func() {
		timer.Stop()
		unwatch()
	})
}

// stopped returns why no call may begin any more, as soon as that is known: the context
// of a call follows a moment later.
func (t *workTimer) stopped() error {
	if t == nil || t.parent == nil || t.parent.Err() == nil {
		return nil
	}
	return context.Cause(t.parent)
}

// release stops what would end a context that is not needed any more.
func (t *workTimer) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, stop := range t.pending {
		stop()
	}
}

var errWorkUsed = errors.New("the playbook's timeout is used up")

func newWorkTimer(clock clockwork.Clock, limit, before time.Duration) *workTimer {
	return &workTimer{clock: clock, limit: limit, before: before, since: clock.Now()}
}

// context returns a context that ends when the limit is reached.
func (t *workTimer) context(ctx context.Context) (context.Context, func()) {
	parent := ctx
	t.parent = parent
	ctx, t.expire = context.WithCancelCause(context.WithoutCancel(parent))
	unwatch := context.AfterFunc(parent, func() { t.interrupted(context.Cause(parent)) })
	t.limited = t.limit > 0
	t.arm()
	return ctx, func() {
		unwatch()
		t.limited = false
		t.disarm()
		t.release()
		t.expire(nil)
	}
}

func (t *workTimer) arm() {
	if !t.limited {
		return
	}
	left := t.limit - t.before - t.work()
	if left <= 0 { // and nothing is started any more
		t.reached()
		return
	}
	t.timer = t.clock.AfterFunc(left, t.reached)
}

func (t *workTimer) disarm() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}

// pause stops the measuring until the function that it returns is called.
func (t *workTimer) pause() (resume func()) {
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

// wait waits in the process; the time does not count as work. If drain ends first, the
// run stops here and the next process waits for the rest.
func (t *workTimer) wait(ctx context.Context, d time.Duration, drain <-chan struct{}) error {
	defer t.pause()()
	timer := t.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		return nil
	case <-drain:
		return &control{outcome: &Outcome{Status: Replaying}}
	case <-ctx.Done():
		return context.Cause(ctx)
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

// used returns the error of a run that has worked too long, nil if it has not.
func (t *workTimer) used(ctx context.Context) error {
	if !errors.Is(context.Cause(ctx), errWorkUsed) {
		return nil
	}
	return &problem.Error{
		Kind: problem.Timeout, Message: fmt.Sprintf("the run worked for longer than its timeout of %s", t.limit), Cause: errWorkUsed, Work: problem.NotDone,
		Hint: "raise timeout in the playbook",
	}
}

package queue

import (
	"context"
	"log/slog"
	"time"
)

// lookAgain is how often the gate looks at the clock at the least while jobs
// wait, and after what time a grant that had no effect is made again.
const lookAgain = time.Second

// setBack is by how much a clock goes back before that is more than NTP's work.
const setBack = time.Minute

// mostSlots is how many jobs may be worked on at once.
const mostSlots = 10_000

// gate lets jobs through to River, as many as there are slots, until ctx ends.
func (q *Queue) gate(ctx context.Context) {
	defer close(q.gateDone)
	failing := false
	for ctx.Err() == nil {
		err := q.grant(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			q.opt.Log.Error("cannot begin to work on what is due; trying again each second", slog.Any("err", storeError(q.store.path, err)))
		}
		failing = err != nil
		q.rest(ctx, failing)
	}
}

// rest waits for a change, or until it is time to look.
func (q *Queue) rest(ctx context.Context, failing bool) {
	q.mu.Lock()
	until := q.opt.Clock.Now().Add(lookAgain)
	idle := len(q.index.waiting)+len(q.index.due)+len(q.index.active) == 0
	if len(q.index.waiting) > 0 {
		until = earlier(until, q.index.waiting[0].at)
	}
	q.mu.Unlock()
	wake := q.wake
	if failing { // a change of another's does not mend the disk
		wake, until = nil, q.opt.Clock.Now().Add(lookAgain)
	}
	if idle {
		select {
		case <-wake:
		case <-ctx.Done():
		}
		return
	}
	timer := q.opt.Clock.NewTimer(until.Sub(q.opt.Clock.Now()))
	defer timer.Stop()
	select {
	case <-wake:
	case <-timer.Chan():
	case <-ctx.Done():
	}
}

// grant makes available what may go now.
func (q *Queue) grant(ctx context.Context) error {
	if err := q.begin(ctx); err != nil {
		return err
	}
	defer q.end()
	now := q.opt.Clock.Now().Round(0)
	q.mu.Lock()
	if back := q.seen.Sub(now); back > setBack {
		// Some wait until a moment that the wrong clock gave. Who is too early waits again.
		q.opt.Log.Warn("the clock was set back: all runs that wait are looked at", slog.String("by", back.Round(time.Second).String()))
		q.index.wakeAll(now)
	}
	q.seen = now
	var ids []int64
	for e := range q.index.active {
		if e.state == granted && now.Sub(e.since).Abs() >= lookAgain {
			ids = append(ids, e.id)
		}
	}
	fresh := q.index.grant(now, q.slots-len(q.index.active))
	for _, e := range fresh {
		ids = append(ids, e.id)
	}
	q.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	if err := q.store.release(ctx, ids); err != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, e := range fresh {
			q.index.revoke(e)
		}
		return err
	}
	q.listener.kick()
	return nil
}

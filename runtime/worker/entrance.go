package worker

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// entrance lets few children at a time load their scripts: where many runs continue at
// once, as after a restart of the daemon, the first continues soon, and the last no
// later.
type entrance struct {
	once  sync.Once
	slots chan struct{}
}

// longestStart is how long a child may keep others from starting.
const longestStart = time.Second

// enter waits for its turn. leave, which may be called more than once, ends it; it
// ends by itself after a while.
func (e *entrance) enter(ctx context.Context, clock clockwork.Clock) (leave func(), err error) {
	e.once.Do(func() { e.slots = make(chan struct{}, 1+runtime.GOMAXPROCS(0)) })
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	free := sync.OnceFunc(func() { <-e.slots })
	late := clock.AfterFunc(longestStart, free)
	return func() {
		late.Stop()
		free()
	}, nil
}

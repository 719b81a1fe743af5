package worker

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// startLimiter limits how many children load their scripts at the same time: when many
// runs continue at once, as after a restart of the daemon, the first continues soon, and
// the last no later. The zero startLimiter is ready to use.
type startLimiter struct {
	once  sync.Once
	slots chan struct{}
}

// longestStart is how long a child may keep others from starting.
const longestStart = time.Second

// acquire waits for a slot. release frees it; it may be called more than once. A slot
// that is held for longestStart is freed by itself.
func (l *startLimiter) acquire(ctx context.Context, clock clockwork.Clock) (release func(), err error) {
	l.once.Do(func() { l.slots = make(chan struct{}, 1+runtime.GOMAXPROCS(0)) })
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	free := sync.OnceFunc(func() { <-l.slots })
	late := clock.AfterFunc(longestStart, free)
	return func() {
		late.Stop()
		free()
	}, nil
}

package run

import (
	"context"
	"time"

	"github.com/jonboulle/clockwork"
)

// DefaultGracePeriod is how long a function may continue after its context has ended.
const DefaultGracePeriod = time.Minute

// watchdog reports functions that hang, in a loop or in a library: those that continue
// for long after their context has ended. The process is all that can be ended then.
type watchdog struct {
	clock  clockwork.Clock
	grace  time.Duration
	onHang func(call string) // nil: nothing is watched
}

// watch watches a function that was called with ctx, until the function that it returns is
// called.
func (w watchdog) watch(ctx context.Context, call string) (returned func()) {
	if w.onHang == nil || ctx.Done() == nil {
		return func() {}
	}
	back, watched := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(watched)
		select {
		case <-back:
		case <-w.clock.After(w.grace):
			w.onHang(call)
		}
	})
	return func() {
		close(back)
		if !stop() {
			<-watched
		}
	}
}

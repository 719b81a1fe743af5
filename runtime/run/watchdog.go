package run

import (
	"context"
	"time"
)

// DefaultGracePeriod is how long a function may continue after its context has ended.
const DefaultGracePeriod = time.Minute

// watchdog watches a function that was called with ctx, until the function that it
// returns is called: one that continues for long after ctx has ended hangs, in a
// loop or in a library, and no one else can end it.
func (r *Run) watchdog(ctx context.Context, call string) (returned func()) {
	if r.opt.OnHang == nil || ctx.Done() == nil {
		return func() {}
	}
	back, watched := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(watched)
		select {
		case <-back:
		case <-r.opt.Clock.After(r.opt.GracePeriod):
			r.opt.OnHang(call)
		}
	})
	return func() {
		close(back)
		if !stop() {
			<-watched
		}
	}
}

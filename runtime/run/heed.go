package run

import (
	"context"
	"time"
)

// DefaultPatience is how long a function may continue after its context has ended.
const DefaultPatience = time.Minute

// heed watches a function that was called with ctx, until the function that it
// returns is called: one that continues for long after ctx has ended hangs, in a
// loop or in a library, and no one else can end it.
func (r *Run) heed(ctx context.Context, call string) (returned func()) {
	if r.opt.Stuck == nil || ctx.Done() == nil {
		return func() {}
	}
	back, watched := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(watched)
		select {
		case <-back:
		case <-r.opt.Clock.After(r.opt.Patience):
			r.opt.Stuck(call)
		}
	})
	return func() {
		close(back)
		if !stop() {
			<-watched
		}
	}
}

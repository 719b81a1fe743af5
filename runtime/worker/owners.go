package worker

import (
	"context"
	"sync"
)

// owners lets one caller at a time work on a run: a second caller's process would end
// the first one's. The zero owners is ready to use.
type owners struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // by run; closed when it is free
}

// own waits until no other caller works on the run. The caller must call free when done.
func (o *owners) own(ctx context.Context, run string) (free func(), err error) {
	for {
		o.mu.Lock()
		other, taken := o.busy[run]
		if !taken {
			mine := make(chan struct{})
			if o.busy == nil {
				o.busy = map[string]chan struct{}{}
			}
			o.busy[run] = mine
			o.mu.Unlock()
			return func() {
				o.mu.Lock()
				defer o.mu.Unlock()
				delete(o.busy, run)
				close(mine)
			}, nil
		}
		o.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

package worker

import (
	"context"
	"sync"
)

// drain is the state of a parent's draining. The zero one has not started.
type drain struct {
	once sync.Once
	ctx  context.Context //nolint:containedctx // a signal: it ends when the draining starts
	end  context.CancelFunc
}

// context returns a context that ends when the draining starts.
func (d *drain) context() context.Context {
	d.once.Do(func() { d.ctx, d.end = context.WithCancel(context.Background()) })
	return d.ctx
}

func (d *drain) start() {
	d.context()
	d.end()
}

func (d *drain) started() bool { return d.context().Err() != nil }

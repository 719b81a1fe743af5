package worker

import (
	"context"
	"sync"
)

// drainage is whether a parent drains. The zero one does not.
type drainage struct {
	once sync.Once
	ctx  context.Context //nolint:containedctx // of nothing but this: it ends when it begins
	end  context.CancelFunc
}

// context returns a context that ends when the draining begins.
func (d *drainage) context() context.Context {
	d.once.Do(func() { d.ctx, d.end = context.WithCancel(context.Background()) })
	return d.ctx
}

func (d *drainage) begin() {
	d.context()
	d.end()
}

func (d *drainage) begun() bool { return d.context().Err() != nil }

package matrix

import (
	"context"
	"net"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/worker"
	"moonseal/scripts"
)

// children starts a run's child in this process.
type children struct {
	clock   *clock
	modules func() []*bind.Module
}

// Start implements [worker.Spawner].
func (c children) Start(ctx context.Context, lock *journal.RunLock) (worker.Process, error) {
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &child{pair: ours, kill: cancel, ended: make(chan struct{})}
	setup := worker.Setup{Modules: c.modules, Embedded: scripts.Embedded(), Clock: c.clock}
	go func() {
		defer close(p.ended)
		defer cancel()
		p.err = worker.Serve(ctx, theirs, setup)
		_ = theirs.Close()
		if lock != nil {
			_ = lock.Release() // the kernel does, at a process's end
		}
	}()
	return p, nil
}

type child struct {
	pair  net.Conn
	kill  context.CancelFunc
	ended chan struct{}
	err   error // of Serve, once ended
}

func (p *child) Pair() worker.Pair { return p.pair }
func (p *child) Kill()             { p.kill() }

func (p *child) Wait() string {
	<-p.ended
	if p.err != nil {
		return p.err.Error()
	}
	return ""
}

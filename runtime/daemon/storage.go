package daemon

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/problem"
	"moonseal/runtime/schedule"
)

const (
	// probeFile is written, and removed, to find out whether the state folder takes
	// anything again: probeSize bytes, more than a run writes in a step.
	probeFile = ".probe"
	probeSize = 256 << 10
	// probeEvery is how often that is tried.
	probeEvery = 2 * time.Second
)

// storage is what is known of the state folder.
type storage struct {
	trouble atomic.Pointer[problem.Error] // why it cannot be written; nil while it can

	mu     sync.Mutex
	missed map[string]schedule.Reason // by playbook: what was due and could not be written
}

// ofStorage reports whether err says that cannot write to the state directory, and not
// that something is wrong with what was to be written.
func ofStorage(err error) bool {
	e := problem.From(err)
	return err != nil && (e.Call == "journal" || e.Call == "queue") && (e.Kind == problem.Unavailable || e.Kind == problem.Usage)
}

// suspect notes that the state folder took something not, and has that looked at.
func (d *Daemon) suspect(err error) {
	if !ofStorage(err) {
		return
	}
	if d.storage.trouble.Swap(problem.From(err)) == nil {
		e := problem.From(err)
		d.log.Error("cannot write to the state directory: runs wait, and continue by themselves once it can be written", "error", e.Error(), "hint", e.Hint)
	}
	select {
	case d.look <- struct{}{}:
	default:
	}
}

// probe finds out whether the state folder takes what is written. Once it does again
// what could not begin begins.
func (d *Daemon) probe(ctx context.Context) {
	err := d.journal.Probe(ctx)
	if ctx.Err() != nil {
		return
	}
	if err == nil && d.storage.trouble.Load() != nil {
		path := filepath.Join(d.config().State, probeFile)
		err = atomicfile.WriteFile(path, bytes.Repeat([]byte{'x'}, probeSize))
		_ = os.Remove(path)
	}
	switch {
	case err != nil && d.storage.trouble.Load() == nil:
		d.suspect(err)
	case err == nil && d.storage.trouble.Swap(nil) != nil:
		d.log.Info("the state directory can be written again")
	}
	if err != nil {
		return
	}
	d.storage.mu.Lock()
	missed := d.storage.missed
	d.storage.missed = nil
	d.storage.mu.Unlock()
	for name, why := range missed {
		d.due(ctx, name, why)
	}
}

// miss keeps what was due and could not be written, for when it can be.
func (d *Daemon) miss(name string, why schedule.Reason) {
	d.storage.mu.Lock()
	defer d.storage.mu.Unlock()
	if d.storage.missed == nil {
		d.storage.missed = map[string]schedule.Reason{}
	}
	d.storage.missed[name] = why
}

// again is when a state directory that cannot be written is to be looked at again; nil
// where there is none.
func (d *Daemon) again() <-chan time.Time {
	if d.storage.trouble.Load() == nil {
		return nil
	}
	return d.opt.Clock.After(probeEvery)
}

package daemon

import (
	"context"
	"fmt"
	"maps"

	"golang.org/x/sys/unix"

	"moonseal/runtime/api"
)

// Pause implements [api.Daemon].
func (d *Daemon) Pause(_ context.Context, r api.PauseRequest) error {
	if r.Playbook != "" && r.Paused && d.reload.Current().Find(r.Playbook) == nil {
		return d.noPlaybook(r.Playbook)
	}
	if err := d.setPaused(r); err != nil {
		return err
	}
	d.reschedule(d.reload.Current())
	return nil
}

// setPaused changes nothing where it cannot be kept.
func (d *Daemon) setPaused(r api.PauseRequest) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	paused := maps.Clone(d.paused)
	if r.Paused {
		paused[r.Playbook] = true
	} else {
		delete(paused, r.Playbook)
	}
	if err := writeKept(d.opt.Config.State, pauseFile, paused); err != nil {
		return err
	}
	d.paused = paused
	return nil
}

// isPaused reports whether the playbook, or all for "", is paused.
func (d *Daemon) isPaused(playbook string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.paused[""] || (playbook != "" && d.paused[playbook])
}

// reloading is what systemd wants to be told at the begin of a reload
// (sd_notify(3), RELOADING=1): with the monotonic clock, so that it can tell one
// reload from the next.
func reloading() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", ts.Nano()/1000)
}

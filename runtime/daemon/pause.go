package daemon

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"moonseal/runtime/api"
	"moonseal/runtime/control"
)

// Pause implements [api.Daemon].
func (d *Daemon) Pause(ctx context.Context, by string, r api.PauseRequest) error {
	if r.Playbook != "" && r.Paused && d.reload.Current().Find(r.Playbook) == nil {
		return noPlaybook(d.reload.Current(), r.Playbook)
	}
	set := d.control.Unpause
	if r.Paused {
		set = d.control.Pause
	}
	if err := set(ctx, r.Playbook, control.Decision{By: by}); err != nil {
		return err
	}
	d.planner.update(d.reload.Current())
	return nil
}

// ForgetPlaybook implements [api.Daemon].
func (d *Daemon) ForgetPlaybook(ctx context.Context, by string, r api.ForgetRequest) error {
	s := d.reload.Current()
	for _, u := range unloadables(s) {
		if u.name == r.Playbook {
			return control.ScriptExists(r.Playbook, u.file)
		}
	}
	if book := s.Find(r.Playbook); book != nil {
		return control.ScriptExists(r.Playbook, book.File)
	}
	return d.control.ForgetPlaybook(ctx, r.Playbook, control.Decision{By: by, Ticket: r.Ticket, Reason: r.Reason})
}

// reloading returns what systemd expects at the start of a reload (sd_notify(3),
// RELOADING=1): with the monotonic clock, so that it can tell one reload from the next.
func reloading() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", ts.Nano()/1000)
}

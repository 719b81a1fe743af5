package daemon

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

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
	if err := writeKept(d.cfg.State, pauseFile, paused); err != nil {
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

// reloadConfig reads the config again and names the settings that a restart is
// needed for.
func (d *Daemon) reloadConfig() ([]string, error) {
	now, err := d.opt.LoadConfig()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.cfg
	var restart []string
	for name, pair := range map[string][2]any{
		"scripts": {old.Scripts, now.Scripts}, "state": {old.State, now.State}, "ca_bundle": {old.CABundle, now.CABundle}, "listen": {old.Listen, now.Listen},
		"concurrency": {old.Concurrency, now.Concurrency}, "limits": {old.Limits, now.Limits}, "secrets": {old.Secrets, now.Secrets},
		"log": {old.Log, now.Log}, "alerts.urls": {old.Alerts.URLs, now.Alerts.URLs}, "alerts.heartbeat": {old.Alerts.Heartbeat, now.Alerts.Heartbeat},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			restart = append(restart, name)
		}
	}
	slices.Sort(restart)
	if len(restart) > 0 {
		d.log.Warn("these settings change at the next start", "settings", strings.Join(restart, " "))
	}
	fixed := *now
	fixed.Scripts, fixed.State, fixed.Listen, fixed.Concurrency, fixed.Limits = old.Scripts, old.State, old.Listen, old.Concurrency, old.Limits
	fixed.CABundle = old.CABundle // the one file that processes of runs may read
	fixed.Secrets, fixed.Log, fixed.Alerts.URLs, fixed.Alerts.Heartbeat = old.Secrets, old.Log, old.Alerts.URLs, old.Alerts.Heartbeat
	d.cfg = &fixed
	return restart, nil
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

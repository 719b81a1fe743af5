package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moonseal/runtime/account"
	"moonseal/runtime/api"
	"moonseal/runtime/problem"
)

// pauses are the playbooks that begin no runs; "" stands for all. They are kept
// in a file of the state folder.
type pauses map[string]bool

const pauseFile = "paused.json"

func readPauses(state string) (pauses, error) {
	path := filepath.Join(state, pauseFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return pauses{}, nil
	}
	p := pauses{}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		return nil, &problem.Error{Kind: problem.Usage, Target: path, Message: "cannot read what is paused: " + err.Error(), Cause: err}
	}
	return p, nil
}

// Pause implements [api.Daemon].
func (d *Daemon) Pause(_ context.Context, r api.PauseRequest) error {
	if r.Playbook != "" && r.Paused && d.reload.Current().Find(r.Playbook) == nil {
		return d.noPlaybook(r.Playbook)
	}
	d.mu.Lock()
	if r.Paused {
		d.paused[r.Playbook] = true
	} else {
		delete(d.paused, r.Playbook)
	}
	data, err := json.Marshal(d.paused)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	if err := account.WriteFile(filepath.Join(d.config().State, pauseFile), data); err != nil {
		return err
	}
	d.reschedule(d.reload.Current())
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
		"scripts": {old.Scripts, now.Scripts}, "state": {old.State, now.State}, "listen": {old.Listen, now.Listen},
		"concurrency": {old.Concurrency, now.Concurrency}, "limits": {old.Limits, now.Limits},
	} {
		if pair[0] != pair[1] {
			restart = append(restart, name)
		}
	}
	fixed := *now
	fixed.Scripts, fixed.State, fixed.Listen, fixed.Concurrency, fixed.Limits = old.Scripts, old.State, old.Listen, old.Concurrency, old.Limits
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

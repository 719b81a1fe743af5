package daemon

import (
	"context"
	"slices"
	"strings"

	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/reload"
)

// reconfigured is what a new config changes.
type reconfigured struct {
	changed, restart []string // settings, by name
	scripts          bool     // all scripts must be loaded again
}

// Reload implements [api.Daemon].
func (d *Daemon) Reload(ctx context.Context) (*api.ReloadReply, error) {
	d.reloads.Lock() // two configs at once would be a mixture
	defer d.reloads.Unlock()
	d.notify(reloading())
	defer func() { d.notify("READY=1\nSTATUS=" + d.summary()) }()
	r, err := d.reloadConfig(ctx)
	if ctx.Err() == nil {
		d.settings.refuse(err)
	}
	if err != nil {
		return nil, err
	}
	old := d.reload.Current()
	load := d.reload.Reload
	if r.scripts {
		folders := reload.Folders{Scripts: d.settings.config().Scripts, Hooks: d.settings.config().Hooks}
		load = func(ctx context.Context) (*reload.Snapshot, error) { return d.reload.Renew(ctx, folders) }
	}
	now, err := load(ctx)
	if err != nil {
		return nil, err
	}
	if slices.Contains(r.changed, "blackouts") {
		d.planner.update(now) // runs that are due in a slot of their window get another
		d.runs.wakeWindowWaiters(ctx)
	}
	c := now.Since(old)
	return &api.ReloadReply{
		Added: c.Added, Changed: c.Changed, Removed: c.Removed, Problems: now.Problems, Config: r.changed, Restart: r.restart,
	}, nil
}

// reloadConfig reads the config again and puts it into force, whole or, with an
// error, not at all.
func (d *Daemon) reloadConfig(ctx context.Context) (*reconfigured, error) {
	next, err := d.opt.LoadConfig()
	if err != nil {
		return nil, err
	}
	old := d.settings.config()
	names, err := config.Diff(old, next)
	if err != nil {
		return nil, err
	}
	r := &reconfigured{}
	for _, name := range names {
		key, _, _ := strings.Cut(name, ".")
		switch key {
		case "state", "listen": // locked, open, and known to other processes
			r.restart = append(r.restart, name)
			continue
		case "scripts", "hooks", "grants", "modules", "blackouts": // loading depends on them
			r.scripts = true
		}
		r.changed = append(r.changed, name)
	}
	fixed := *next
	fixed.State, fixed.Listen = old.State, old.Listen
	s, err := d.settings.try(ctx, &fixed)
	if err != nil {
		return nil, err
	}
	if err := d.queue.SetConcurrency(fixed.Concurrency); err != nil {
		return nil, err
	}
	d.settings.use(s)
	if len(r.changed) > 0 {
		d.wake.send() // alerts may go elsewhere now
		d.log.Info("the config is live", "changed", strings.Join(r.changed, " "))
	}
	if len(r.restart) > 0 {
		d.log.Warn("these settings take effect when the daemon is restarted", "settings", strings.Join(r.restart, " "))
	}
	return r, nil
}

// load implements the reloader's Load.
func (d *Daemon) load(ctx context.Context, files map[string]string) (*reload.Loaded, error) {
	s := d.settings.now()
	job := s.Job
	job.Files = files
	loaded, err := s.Executor.Load(ctx, job)
	if err != nil {
		return nil, err
	}
	if err := Check(loaded, files, s.cfg.Blackouts, d.opt.Clock.Now()); err != nil {
		return nil, err
	}
	return &reload.Loaded{Playbooks: loaded.Playbooks, Problems: loaded.Problems}, nil
}

// last implements the reloader's Last: a script that is broken at the start runs as in
// its newest run.
func (d *Daemon) last(ctx context.Context, file string) map[string]string {
	sources, err := d.journal.LastSources(ctx, file)
	if err != nil {
		d.log.Error("cannot read the journal", "error", err.Error())
		return nil
	}
	for name := range d.opt.Embedded { // of this version, not of that one
		delete(sources, name)
	}
	return sources
}

// apply implements the reloader's Apply: the schedule follows the scripts.
func (d *Daemon) apply(before, now *reload.Snapshot) {
	for _, e := range before.Problems {
		if e.Place != nil && now.Problem(e.Place.File) == nil {
			d.log.Info("a script is no longer broken", "file", e.Place.File)
		}
	}
	d.planner.update(now)
	d.notify("STATUS=" + d.summary())
}

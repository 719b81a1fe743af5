package daemon

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"moonseal/runtime/alert"
	"moonseal/runtime/api"
	"moonseal/runtime/bundle"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/reload"
	"moonseal/runtime/run"
	"moonseal/runtime/worker"
)

// Parts are what a config makes of the daemon. They are replaced as a whole: what
// begins, or continues, takes all from one of them.
type Parts struct {
	Job      worker.Job // all that the config says but for the scripts
	Executor Executor   // a *worker.Parent, or a test's
	// Secret looks a secret up.
	Secret func(ctx context.Context, name string) api.SecretState
	// Send sends an alert; nil: nobody is told.
	Send alert.Send
	// Beat shows that the daemon lives to whoever watches from outside; may be nil.
	Beat func(ctx context.Context) error
	// Begin is called when the parts come into force; may be nil.
	Begin func()
}

// setup is a config with its parts.
type setup struct {
	Parts

	cfg *config.Config
}

// now returns the config and its parts as they are in force.
func (d *Daemon) now() *setup { return d.setup.Load() }

func (d *Daemon) config() *config.Config { return d.now().cfg }

// use makes the parts of a config, and puts them into force.
func (d *Daemon) use(s *setup) {
	d.setup.Store(s)
	if s.Begin != nil {
		s.Begin()
	}
}

// parts makes the parts of a config.
func (d *Daemon) parts(cfg *config.Config) (*setup, error) {
	p, err := d.opt.Parts(cfg, d.journal, d.control, d.observe)
	return &setup{p, cfg}, err
}

// reconfigured is what a new config changes.
type reconfigured struct {
	changed, restart []string // settings, by name
	scripts          bool     // every script is to be loaded anew
}

// reloadConfig reads the config again and puts it into force, whole or, with an
// error, not at all.
func (d *Daemon) reloadConfig(ctx context.Context) (*reconfigured, error) {
	next, err := d.opt.LoadConfig()
	if err != nil {
		return nil, err
	}
	old := d.config()
	names, err := config.Diff(old, next)
	if err != nil {
		return nil, err
	}
	r := &reconfigured{}
	for _, name := range names {
		key, _, _ := strings.Cut(name, ".")
		switch key {
		case "state", "listen": // locked, open, and others know the way
			r.restart = append(r.restart, name)
			continue
		case "scripts", "hooks", "grants", "modules", "blackouts": // loading asks for them
			r.scripts = true
		}
		r.changed = append(r.changed, name)
	}
	fixed := *next
	fixed.State, fixed.Listen = old.State, old.Listen
	s, err := d.tried(ctx, &fixed)
	if err != nil {
		return nil, err
	}
	if err := d.queue.SetConcurrency(fixed.Concurrency); err != nil {
		return nil, err
	}
	d.use(s)
	if len(r.changed) > 0 {
		select { // who is told of what may have changed
		case d.look <- struct{}{}:
		default:
		}
		d.log.Info("the config is live", "changed", strings.Join(r.changed, " "))
	}
	if len(r.restart) > 0 {
		d.log.Warn("these settings stay as they are until the daemon is started again", "settings", strings.Join(r.restart, " "))
	}
	return r, nil
}

// tried returns a config's parts when they work: the scripts can be read, and a
// process under these limits can load what there is to load.
func (d *Daemon) tried(ctx context.Context, cfg *config.Config) (*setup, error) {
	s, err := d.parts(cfg)
	if err != nil {
		return nil, err
	}
	if old := d.config(); cfg.Scripts != old.Scripts || cfg.Hooks != old.Hooks {
		if _, err := bundle.ReadWith(cfg.Scripts, bundle.Reading{Hooks: cfg.Hooks}); err != nil {
			return nil, err
		}
	}
	job := s.Job
	job.Files = map[string]string{}
	if _, err := s.Executor.Load(ctx, job); err != nil {
		e := *problem.From(err)
		e.Message = "the new config does not work, and the old one goes on: " + e.Message
		e.Hint = cmp.Or(e.Hint, "a process without a script could not be started with it: are limits.memory or limits.files too small?")
		return nil, &e
	}
	return s, nil
}

// Reload implements [api.Daemon].
func (d *Daemon) Reload(ctx context.Context) (*api.ReloadReply, error) {
	d.reloads.Lock() // two configs at once would be a mixture
	defer d.reloads.Unlock()
	d.notify(reloading())
	defer func() { d.notify("READY=1\nSTATUS=" + d.summary()) }()
	r, err := d.reloadConfig(ctx)
	if ctx.Err() == nil {
		d.refusedConfig(err)
	}
	if err != nil {
		return nil, err
	}
	old := d.reload.Current()
	load := d.reload.Reload
	if r.scripts {
		folders := reload.Folders{Scripts: d.config().Scripts, Hooks: d.config().Hooks}
		load = func(ctx context.Context) (*reload.Snapshot, error) { return d.reload.Renew(ctx, folders) }
	}
	now, err := load(ctx)
	if err != nil {
		return nil, err
	}
	if slices.Contains(r.changed, "blackouts") {
		d.reschedule(now) // what asks for a slot of its window gets another
		d.lookAtWindows(ctx)
	}
	c := now.Since(old)
	return &api.ReloadReply{
		Added: orEmpty(c.Added), Changed: orEmpty(c.Changed), Removed: orEmpty(c.Removed), Problems: orEmpty(now.Problems),
		Config: orEmpty(r.changed), Restart: r.restart,
	}, nil
}

// lookAtWindows makes the runs that wait for their window look again: it may be open
// now. One that is not waits again.
func (d *Daemon) lookAtWindows(ctx context.Context) {
	runs, err := d.journal.Unfinished(ctx, "")
	if err != nil {
		d.log.Error("runs that wait for their window do not look again", "error", err.Error())
	}
	for _, r := range runs {
		if r.Status == journal.Waiting && r.WaitFor == run.WaitWindow {
			d.queue.Wake(r.ID)
		}
	}
}

// refusedConfig remembers, for status, why the config's file is not in force; nil: it
// is.
func (d *Daemon) refusedConfig(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = nil
	if err != nil {
		d.refused = problem.From(err)
	}
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

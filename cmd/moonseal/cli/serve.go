package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"moonseal/modules"
	"moonseal/runtime/api"
	"moonseal/runtime/bind"
	"moonseal/runtime/config"
	"moonseal/runtime/control"
	"moonseal/runtime/daemon"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/worker"
	"moonseal/scripts"
)

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon: schedule, run and watch over all playbooks",
		Long: `Runs in the foreground, as systemd expects it: loads the scripts, reloads them as
they change, and runs each playbook when it is due. SIGHUP reads config and scripts
again. SIGTERM stops: running steps get stop_timeout to end; unfinished runs continue
at the next start. A second signal stops at once.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), cfg)
		},
	}
}

func (a *app) serve(ctx context.Context, cfg *config.Config) error {
	if err := ownState(cfg); err != nil {
		return err
	}
	if cfg.Path != "" {
		a.config = cfg.Path // if it is gone at a reload, neither another one nor the defaults replace it
	}
	lines := newLiveLog()
	lines.use(a.wire(cfg).logHandler())
	log := slog.New(lines)
	reg, err := bind.NewRegistry(modules.All()...)
	if err != nil {
		return err
	}
	d, err := daemon.Open(ctx, daemon.Options{
		Functions: reg, Config: cfg, LoadConfig: a.loadConfig, Parts: a.parts(lines),
		Clock: a.clock, Log: log, Version: version(), Build: a.build, Embedded: scripts.Embedded(), Notify: notify,
	})
	if err != nil {
		return err
	}
	l, err := api.Listen(cfg.Listen.Socket, cfg.Listen.Group)
	if err != nil {
		return errors.Join(err, d.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer signals(ctx, d, log)()
	defer watchdog(ctx, d)()
	return d.Serve(ctx, l)
}

// parts returns what makes a config's parts: the first parent of children, and its
// successors, which share what the process has once.
func (a *app) parts(lines *liveLog) func(*config.Config, *journal.Journal, *control.Control, func(journal.Record)) (daemon.Parts, error) {
	var first *worker.Parent
	return func(cfg *config.Config, j *journal.Journal, c *control.Control, observe func(journal.Record)) (daemon.Parts, error) {
		if _, err := grant.New(cfg.Network()); err != nil {
			return daemon.Parts{}, err
		}
		work, err := job(cfg)
		if err != nil {
			return daemon.Parts{}, err
		}
		w := a.wire(cfg)
		if first == nil {
			first, err = w.parent(j, c, observe)
			if err != nil {
				return daemon.Parts{}, err
			}
		}
		spawner := first.Spawner
		if exec, ok := spawner.(worker.Exec); ok {
			exec.Limits, exec.Jail, exec.Log = w.limits(), w.jail(), slog.New(lines)
			spawner = exec
		}
		return daemon.Parts{
			Job: work, Executor: first.With(spawner, w.secrets()), Send: w.alerts(), Beat: w.beat(),
			Secret: func(ctx context.Context, name string) api.SecretState { return w.lookUp(ctx, name) },
			Begin:  func() { lines.use(w.logHandler()) },
		}, nil
	}
}

// signals reloads at SIGHUP, and ends the process at the second signal to stop.
// The function that it returns waits for its goroutine.
func signals(ctx context.Context, d *daemon.Daemon, log *slog.Logger) func() {
	hup, again := make(chan os.Signal, 1), make(chan os.Signal, 2)
	signal.Notify(hup, syscall.SIGHUP)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		stops := 0
		for {
			select {
			case <-hup:
				if _, err := d.Reload(ctx); err != nil {
					log.Error("reload failed; config and scripts stay as they were", "error", err.Error(), "hint", problem.From(err).Hint)
				}
			case <-again:
				if stops++; stops > 1 {
					os.Exit(exitFailed)
				}
			case <-quit:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hup)
		signal.Stop(again)
		close(quit)
		<-done
	}
}

// notify sends a state to the service manager, if there is one.
func notify(state string) { _, _ = sd.SdNotify(false, state) }

// watchdog notifies systemd, twice in its interval, that the daemon is alive: that
// it answers a query of its own state.
func watchdog(ctx context.Context, d *daemon.Daemon) func() {
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil || interval <= 0 {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(interval / 2)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				if d.Healthy(ctx) {
					notify(sd.SdNotifyWatchdog)
				}
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

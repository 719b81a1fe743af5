package cli

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"moonseal/modules"
	"moonseal/runtime/alert"
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
again. SIGTERM stops: running steps get stop_timeout to end, and what they do not
end goes on at the next start. A second signal stops at once.`,
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
		a.config = cfg.Path // where that is gone at a reload, no other is meant, and not the defaults
	}
	lines := newLiveLog()
	lines.use(a.logHandler(cfg))
	log := slog.New(lines)
	reg, err := bind.NewRegistry(modules.All()...)
	if err != nil {
		return err
	}
	d, err := daemon.Open(ctx, daemon.Options{
		Functions: reg, Config: cfg, LoadConfig: a.loadConfig, Parts: a.parts(lines),
		Clock: a.clock, Log: log, Version: version(), Build: a.build, Embedded: scripts.Embedded(), Notify: a.notify,
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
	defer a.signals(ctx, d, log)()
	defer a.watchdog(ctx, d)()
	return d.Serve(ctx, l)
}

// parts returns what makes a config's parts: the first parent of children, and those
// that come after it, which share what is the process's.
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
		if first == nil {
			first, err = a.parent(cfg, j, c, observe)
			if err != nil {
				return daemon.Parts{}, err
			}
		}
		spawner := first.Spawner
		if exec, ok := spawner.(worker.Exec); ok {
			exec.Limits, exec.Jail, exec.Log = limits(cfg), a.jail(cfg), slog.New(lines)
			spawner = exec
		}
		return daemon.Parts{
			Job: work, Executor: first.With(spawner, a.secrets(cfg)), Send: a.alerts(cfg), Beat: a.beat(cfg),
			Secret: func(ctx context.Context, name string) api.SecretState { return a.lookUpHere(ctx, cfg, name) },
			Begin:  func() { lines.use(a.logHandler(cfg)) },
		}, nil
	}
}

// signals reloads at SIGHUP, and ends the process at the second signal to stop.
// The function that it returns waits for its goroutine.
func (a *app) signals(ctx context.Context, d *daemon.Daemon, log *slog.Logger) func() {
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
					log.Error("reload failed; all goes on as before", "error", err.Error(), "hint", problem.From(err).Hint)
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

// notify tells the service manager a state, where there is one.
func (a *app) notify(state string) { _, _ = sd.SdNotify(false, state) }

// watchdog tells systemd, twice in its interval, that the daemon is alive: that
// it answers a question about its own state.
func (a *app) watchdog(ctx context.Context, d *daemon.Daemon) func() {
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
					a.notify(sd.SdNotifyWatchdog)
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

// alerts sends to the services whose URLs the config's secrets hold; nil where
// there are none.
func (a *app) alerts(cfg *config.Config) alert.Send {
	if len(cfg.Alerts.URLs) == 0 {
		return nil
	}
	secrets := a.secrets(cfg)
	return alert.Shoutrrr(func(ctx context.Context) ([]alert.Service, error) {
		var services []alert.Service
		for _, name := range cfg.Alerts.URLs {
			url, err := secrets.Value(ctx, name)
			if err != nil {
				return nil, err
			}
			services = append(services, alert.Service{Name: name, URL: url})
		}
		return services, nil
	})
}

// beat asks for the heartbeat's URL; nil where there is none.
func (a *app) beat(cfg *config.Config) func(context.Context) error {
	if cfg.Alerts.Heartbeat == "" {
		return nil
	}
	secrets := a.secrets(cfg)
	opt := cfg.Network()
	opt.Denied = &grant.Denials{} // a wrong password is sent once, not with each beat
	return func(ctx context.Context) error {
		network, err := grant.New(opt)
		if err != nil {
			return err
		}
		url, err := secrets.Value(ctx, cfg.Alerts.Heartbeat)
		if err != nil {
			return err
		}
		transport := network.Transport()
		defer transport.CloseIdleConnections()
		return alert.Heartbeat(ctx, &http.Client{Transport: transport}, url)
	}
}

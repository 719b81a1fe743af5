package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/alert"
	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/queue"
	"moonseal/runtime/reload"
	"moonseal/runtime/run"
	"moonseal/runtime/schedule"
	"moonseal/runtime/worker"
)

// Options are what a daemon needs.
type Options struct {
	Config *config.Config
	// LoadConfig reads the config again, for a reload.
	LoadConfig func() (*config.Config, error)
	// Parts makes what a config says, at the start and at each change of it.
	// Executors of one call after the other drain together.
	Parts func(*config.Config, *journal.Journal, *control.Control, func(journal.Record)) (Parts, error)
	// Functions are what playbooks can call.
	Functions run.Functions
	Clock     clockwork.Clock
	Log       *slog.Logger
	Version   string
	Build     string            // tells this program from other builds of it
	Embedded  map[string]string // the scripts that children bring along
	// Notify tells the service manager a state (sd_notify(3)); may be nil.
	Notify func(state string)
}

// Executor works on runs and loads scripts, in processes that it watches over.
type Executor interface {
	Resume(ctx context.Context, job worker.Job, id string) (*run.Outcome, error)
	// Hurry lets a run that is being cancelled not wait for the call under way.
	Hurry(id string)
	Load(ctx context.Context, job worker.Job) (*worker.Loaded, error)
	// Drain lets runs stop where their steps end, with status [run.Replaying].
	Drain()
}

// Daemon is a running daemon.
type Daemon struct {
	opt      Options
	log      *slog.Logger
	journal  *journal.Journal
	control  *control.Control
	queue    queue.Queue
	schedule *schedule.Scheduler
	reload   *reload.Reloader
	hub      *hub
	alerts   *alert.Alerter
	watching sync.WaitGroup
	since    time.Time

	setup   atomic.Pointer[setup] // never nil once the daemon is open
	reloads sync.Mutex            // held while config and scripts are read again
	look    chan struct{}         // makes watch look now
	storage storage

	mu        sync.Mutex
	schedules map[string]journal.Scheduled // by playbook, as in the journal
	tight     map[string]string            // by playbook: why its window may be too narrow
	refused   *problem.Error               // why the config's file is not in force; nil: it is
}

// Open opens the state folder and loads the scripts. Nothing works yet.
func Open(ctx context.Context, opt Options) (_ *Daemon, err error) {
	d := &Daemon{opt: opt, log: opt.Log, hub: newHub(), look: make(chan struct{}, 1), since: opt.Clock.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.journal, err = journal.Open(ctx, opt.Config.State, journal.Options{Clock: opt.Clock, Log: opt.Log}); err != nil {
		return nil, err
	}
	if err = control.TakeOver(ctx, d.journal); err != nil {
		return nil, err
	}
	d.control, d.tight = control.New(d.journal, opt.Clock).Knowing(opt.Functions), map[string]string{}
	if d.schedules, err = d.journal.Schedules(ctx); err != nil {
		return nil, err
	}
	s, err := d.parts(opt.Config)
	if err != nil {
		return nil, err
	}
	d.use(s)
	send := func(ctx context.Context, title, message string) error {
		if now := d.now().Send; now != nil {
			return now(ctx, title, message)
		}
		return nil
	}
	if d.alerts, err = alert.Open(opt.Config.State, send, opt.Clock, opt.Log); err != nil {
		return nil, err
	}
	if d.queue, err = queue.New(ctx, queue.Options{
		Clock: opt.Clock, Log: opt.Log, Concurrency: opt.Config.Concurrency, Work: d.work, Unfinished: d.unfinished, Held: d.journal.Holders,
	}); err != nil {
		return nil, err
	}
	d.schedule = schedule.New(schedule.Options{Clock: opt.Clock, Enqueue: d.due, Log: opt.Log})
	d.reload = reload.New(reload.Options{Dir: opt.Config.Scripts, Hooks: opt.Config.Hooks, Clock: opt.Clock, Log: opt.Log, Load: d.load, Last: d.last, Apply: d.apply})
	return d, nil
}

// Close closes what Open has opened, for a daemon that never served.
func (d *Daemon) Close() error {
	var err error
	if d.queue != nil {
		err = d.stopQueue()
	}
	if d.journal != nil {
		err = errors.Join(err, d.journal.Close())
	}
	return err
}

// Serve works until ctx ends, then stops in order. l is the socket; it is closed.
func (d *Daemon) Serve(ctx context.Context, l net.Listener) (err error) {
	defer func() {
		err = errors.Join(err, d.Close())
		d.log.Info("stopped")
	}()
	base := context.WithoutCancel(ctx) // what is under way at the stop ends in order, not with ctx
	if err := d.queue.Start(base); err != nil {
		return errors.Join(err, l.Close())
	}
	if err := d.reload.Start(base); err != nil {
		return errors.Join(err, l.Close())
	}
	defer d.reload.Close()
	if err := d.schedule.Start(base); err != nil {
		return errors.Join(err, l.Close())
	}
	watch, stopWatch := context.WithCancel(base)
	d.watching.Go(func() { d.watch(watch) })
	d.watching.Go(func() { d.clean(watch) })
	d.watching.Go(func() { d.tidy(watch) })
	defer d.watching.Wait()
	defer stopWatch()
	d.notify("READY=1\nSTATUS=" + d.summary())
	live := d.reload.Current()
	d.log.Info("moonseal serves", "version", d.opt.Version, "scripts", d.config().Scripts, "state", d.config().State,
		"playbooks", len(live.Playbooks), "broken", files(lameScripts(live)))
	err = api.Serve(ctx, l, d, d.opt.Build, d.log)
	d.queue.Halt() // from here on nothing begins, neither a run nor a step
	d.now().Executor.Drain()
	d.notify("STOPPING=1\nSTATUS=waiting for running steps")
	d.log.Info("stopping", "timeout", time.Duration(d.config().StopTimeout))
	return errors.Join(err, d.schedule.Stop())
}

// Healthy reports whether the daemon answers a question about its own state.
func (d *Daemon) Healthy(ctx context.Context) bool {
	_, err := d.journal.Unfinished(ctx, "")
	return err == nil
}

// stopQueue returns the runs that are under way the stop timeout.
func (d *Daemon) stopQueue() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(d.config().StopTimeout))
	defer cancel()
	return d.queue.Stop(ctx)
}

func (d *Daemon) notify(state string) {
	if d.opt.Notify != nil {
		d.opt.Notify(state)
	}
}

// summary is the line that systemctl status shows.
func (d *Daemon) summary() string {
	s := d.reload.Current()
	text := fmt.Sprintf("%d playbooks", len(s.Playbooks))
	if len(s.Playbooks) == 1 {
		text = "1 playbook"
	}
	broken := map[string]bool{}
	for _, e := range s.Problems {
		if e.Place != nil {
			broken[e.Place.File] = true
		}
	}
	switch n := len(broken); {
	case n == 1:
		text += ", 1 broken script"
	case n > 1:
		text += fmt.Sprintf(", %d broken scripts", n)
	}
	return text
}

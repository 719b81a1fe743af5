package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/alert"
	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
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
	// Parts makes the parts of a config, at the start and at each change of it. The
	// Executors that successive calls return drain together.
	Parts func(*config.Config, *journal.Journal, *control.Control, func(journal.Record)) (Parts, error)
	// Functions are what playbooks can call.
	Functions run.Functions
	Clock     clockwork.Clock
	Log       *slog.Logger
	Version   string
	Build     string            // tells this program from other builds of it
	Embedded  map[string]string // the scripts that children bring along
	// Notify sends a state to the service manager (sd_notify(3)); may be nil.
	Notify func(state string)
}

// Executor executes runs and loads scripts, in processes that it supervises.
type Executor interface {
	Resume(ctx context.Context, job worker.Job, id string) (*run.Outcome, error)
	// Hurry makes a run that is being cancelled not wait for the call under way.
	Hurry(id string)
	Load(ctx context.Context, job worker.Job) (*worker.Loaded, error)
	// Drain makes runs stop at the end of their step, with status [run.Replaying].
	Drain()
}

// Daemon is a running daemon: it wires its parts and starts and stops them in order.
type Daemon struct {
	opt      Options
	log      *slog.Logger
	since    time.Time
	journal  *journal.Journal
	control  *control.Control
	queue    queue.Queue
	schedule *schedule.Scheduler
	reload   *reload.Reloader
	hub      *hub

	settings    *settings
	storage     *storage
	planner     *planner
	runs        *dispatcher
	status      *statusReader
	cleaner     *cleaner
	maintenance *maintenance
	retention   *retention

	wake       signal         // of maintenance
	reloads    sync.Mutex     // held while config and scripts are read again
	background sync.WaitGroup // maintenance, clean-up, retention
}

// Open opens the state directory. Nothing runs yet.
func Open(ctx context.Context, opt Options) (_ *Daemon, err error) {
	d := &Daemon{opt: opt, log: opt.Log, since: opt.Clock.Now(), hub: newHub(), wake: newSignal()}
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
	d.control = control.New(d.journal, opt.Clock).Knowing(opt.Functions)
	schedules, err := d.journal.Schedules(ctx)
	if err != nil {
		return nil, err
	}
	d.settings = &settings{build: func(cfg *config.Config) (Parts, error) { return opt.Parts(cfg, d.journal, d.control, d.observe) }}
	s, err := d.settings.prepare(opt.Config)
	if err != nil {
		return nil, err
	}
	d.settings.use(s)
	alerts, err := alert.Open(opt.Config.State, d.sendAlert, opt.Clock, opt.Log)
	if err != nil {
		return nil, err
	}
	d.wire(schedules, alerts)
	if d.queue, err = queue.New(ctx, queue.Options{
		Clock: opt.Clock, Log: opt.Log, Concurrency: opt.Config.Concurrency, Work: d.runs.work, Unfinished: d.runs.unfinished, Held: d.journal.Holders,
	}); err != nil {
		return nil, err
	}
	d.runs.queue, d.maintenance.queue = d.queue, d.queue
	return d, nil
}

// wire makes the parts of the daemon, but for the queue.
func (d *Daemon) wire(schedules map[string]journal.Scheduled, alerts *alert.Alerter) {
	clock, cfg := d.opt.Clock, d.settings.config()
	d.storage = &storage{journal: d.journal, dir: cfg.State, wake: d.wake, clock: clock, log: d.log}
	d.planner = &planner{
		journal: d.journal, settings: d.settings, clock: clock, log: d.log, since: d.since, schedules: schedules, tight: map[string]string{},
	}
	d.runs = &dispatcher{
		journal: d.journal, control: d.control, planner: d.planner, settings: d.settings, storage: d.storage,
		embedded: d.opt.Embedded, clock: clock, log: d.log,
	}
	d.schedule = schedule.New(schedule.Options{Clock: clock, Enqueue: d.runs.due, Log: d.log})
	d.reload = reload.New(reload.Options{
		Dir: cfg.Scripts, Hooks: cfg.Hooks, Clock: clock, Log: d.log, Load: d.load, Last: d.last, Apply: d.apply,
	})
	d.planner.scripts, d.planner.schedule, d.runs.scripts = d.reload, d.schedule, d.reload
	d.status = &statusReader{
		journal: d.journal, scripts: d.reload, schedule: d.schedule, planner: d.planner, settings: d.settings, storage: d.storage,
		clock: clock, version: d.opt.Version, since: d.since,
	}
	d.maintenance = &maintenance{
		schedule: d.schedule, settings: d.settings, storage: d.storage, start: d.runs.due, healthy: d.Healthy, wake: d.wake, clock: clock, log: d.log,
		notifier: &notifier{
			journal: d.journal, settings: d.settings, storage: d.storage, alerts: alerts, status: d.status.read, clock: clock, log: d.log,
		},
	}
	d.cleaner = &cleaner{journal: d.journal, settings: d.settings, clock: clock, log: d.log}
	d.retention = &retention{journal: d.journal, control: d.control, settings: d.settings, clock: clock, log: d.log}
}

// sendAlert sends an alert as the config says now.
func (d *Daemon) sendAlert(ctx context.Context, title, message string) error {
	if send := d.settings.now().Send; send != nil {
		return send(ctx, title, message)
	}
	return nil
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

// Serve works until ctx ends, then stops in order. l is the socket; Serve closes it.
func (d *Daemon) Serve(ctx context.Context, l net.Listener) (err error) {
	defer func() {
		err = errors.Join(err, d.Close())
		d.log.Info("stopped")
	}()
	base := context.WithoutCancel(ctx) // what is under way must end in order, not with ctx
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
	background, stopBackground := context.WithCancel(base)
	for _, run := range []func(context.Context){d.maintenance.run, d.cleaner.run, d.retention.run} {
		d.background.Go(func() { run(background) })
	}
	defer d.background.Wait()
	defer stopBackground()
	d.notify("READY=1\nSTATUS=" + d.summary())
	live := d.reload.Current()
	d.log.Info("moonseal serves", "version", d.opt.Version, "scripts", d.settings.config().Scripts, "state", d.settings.config().State,
		"playbooks", len(live.Playbooks), "broken", fileNames(unloadables(live)))
	err = api.Serve(ctx, l, d, d.opt.Build, d.log)
	d.queue.Halt() // from here on neither a run nor a step starts
	d.settings.now().Executor.Drain()
	d.notify("STOPPING=1\nSTATUS=waiting for running steps")
	d.log.Info("stopping", "timeout", time.Duration(d.settings.config().StopTimeout))
	return errors.Join(err, d.schedule.Stop())
}

// Healthy reports whether the daemon can read its own state.
func (d *Daemon) Healthy(ctx context.Context) bool {
	_, err := d.journal.Unfinished(ctx, "")
	return err == nil
}

// stopQueue stops the queue; the runs under way have the stop timeout to stop.
func (d *Daemon) stopQueue() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(d.settings.config().StopTimeout))
	defer cancel()
	return d.queue.Stop(ctx)
}

func (d *Daemon) notify(state string) {
	if d.opt.Notify != nil {
		d.opt.Notify(state)
	}
}

// summary returns the line that systemctl status shows.
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

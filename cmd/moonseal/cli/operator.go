package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"moonseal/runtime/api"
	"moonseal/runtime/bind"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// operator is everything that a person can do with a moonseal. It has two
// implementations: remote, the daemon's client, and local, the engine in this process.
// [app.operator] chooses one for a command, once. Both do the same, and refuse the same
// with the same codes.
type operator interface {
	viewer
	decider
	// Config returns the config; of a daemon whose config file is broken, only what is
	// needed to reach it.
	Config() *config.Config
	// Run starts a run of a playbook, or continues its unfinished one, shows it on p, and
	// returns the exit code.
	Run(ctx context.Context, playbook string, o runOptions, p *progress) (int, error)
	Reload(ctx context.Context) (*api.ReloadReply, error)
	TestAlerts(ctx context.Context) (*api.AlertReply, error)
	Backup(ctx context.Context, w io.Writer) error
	Close() error
}

// viewer is what there is to see. Nothing here needs the lock of the state directory.
type viewer interface {
	// Status is the daemon's; without one the error is why there is none.
	Status(ctx context.Context) (*api.Status, error)
	Records(ctx context.Context) (api.Records, error)
	// Interrupted reports whether a run that is running has lost its process.
	Interrupted(r journal.Run) (bool, error)
	// Scripts returns what the scripts directory has, as it is on disk if this user may
	// read it.
	Scripts(ctx context.Context) (*checked, error)
	SecretNames(ctx context.Context) ([]string, error)
	Secret(ctx context.Context, name string) api.SecretState
	// Examine checks what the playbooks name, and changes nothing.
	Examine(ctx context.Context) ([]bind.Finding, error)
}

// decider is what a person can decide.
type decider interface {
	Approve(ctx context.Context, run string, d api.Decision) (*journal.Run, error)
	Deny(ctx context.Context, run string, d api.Decision) (*journal.Run, error)
	Resume(ctx context.Context, run string, d api.Decision) (*journal.Run, error)
	// Cancel returns the run as it ended, or unended if its process could not end it.
	Cancel(ctx context.Context, run string, d api.Decision) (*journal.Run, error)
	Unlock(ctx context.Context, run string, d api.Decision) ([]string, error)
	Cleanup(ctx context.Context, run string) error
	Forget(ctx context.Context, run string) ([]journal.Undo, error)
	Pause(ctx context.Context, r api.PauseRequest) error
	// ForgetPlaybook drops what is known of a playbook whose script is gone.
	ForgetPlaybook(ctx context.Context, r api.ForgetRequest) error
	// Continues describes how a run continues once nothing holds it up.
	Continues(r *journal.Run) string
}

// access is what a command needs of the state directory.
type access int

const (
	reads   access = iota // needs no lock: it works beside a foreground run
	decides               // needs the lock, unless a daemon has it
)

// operator reads the config and chooses the operator. If the config is broken, and a daemon
// continues with the one that it has, that daemon is still reached, and the error is only
// shown.
func (a *app) operator(ctx context.Context, needs access) (operator, error) {
	cfg, err := a.loadConfig()
	if err == nil {
		return a.choose(ctx, cfg, needs)
	}
	where, lost := config.Where(a.config, a.getenv)
	if lost != nil {
		return nil, err
	}
	r := a.remote(where)
	if r.Reach(ctx) != nil {
		return nil, err
	}
	printError(a.stderr, err)
	_, _ = fmt.Fprintln(a.stderr, "the daemon continues with the config that it has")
	return r, nil
}

// choose returns the daemon's client if the daemon answers. Otherwise the process that has
// the lock of the state directory is the local engine: what decides takes the lock now,
// what only reads never does. The socket is tried before the lock, because only the socket
// names the daemon: the config may name no state directory, or another one than
// the daemon was started with. If the lock turns out to be taken, a socket that nothing
// listened on is tried once more, in case a daemon has just started.
func (a *app) choose(ctx context.Context, cfg *config.Config, needs access) (operator, error) {
	r := a.remote(cfg)
	absent := r.Reach(ctx)
	if absent == nil {
		return r, nil
	}
	l := a.local(cfg)
	l.absent = absent
	if needs == reads {
		return l, nil
	}
	err := l.lock(ctx)
	switch {
	case err == nil:
		return l, nil
	case !errors.Is(err, journal.ErrLocked):
		return nil, err
	case problem.HasCode(absent, problem.NeedsDaemon) && r.Reach(ctx) == nil:
		return r, nil
	}
	return nil, inUse(err, cfg.Listen.Socket)
}

// inUse is the error of a state directory whose lock another process has, and that no
// daemon answers for.
func inUse(err error, socket string) error {
	e := *problem.From(err)
	e.Code, e.Message = problem.StateInUse, e.Message+", and no daemon answers on "+socket
	e.Hint = "if a daemon is starting or stopping, try again in a moment; else wait until the process has ended, or stop it"
	return &e
}

// with calls do with the operator, and closes it.
func (a *app) with(ctx context.Context, needs access, do func(operator) error) error {
	op, err := a.operator(ctx, needs)
	return using(op, err, do)
}

// strictly is with for a command that only reads, and that a broken config ends though a
// daemon may run.
func (a *app) strictly(ctx context.Context, do func(operator) error) error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	op, err := a.choose(ctx, cfg, reads)
	return using(op, err, do)
}

func using(op operator, err error, do func(operator) error) error {
	if err != nil {
		return err
	}
	return errors.Join(do(op), op.Close())
}

// onRun calls do with the operator and the run that id names.
func (a *app) onRun(ctx context.Context, id string, do func(operator, journal.Run) error) error {
	return a.with(ctx, decides, func(op operator) error {
		r, err := runOf(ctx, op, id)
		if err != nil {
			return err
		}
		return do(op, r)
	})
}

// runOf returns the run that id names.
func runOf(ctx context.Context, op operator, id string) (journal.Run, error) {
	records, err := op.Records(ctx)
	if err != nil {
		return journal.Run{}, err
	}
	return findRun(ctx, records, id)
}

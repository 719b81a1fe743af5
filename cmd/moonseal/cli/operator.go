package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"moonseal/modules"
	"moonseal/runtime/api"
	"moonseal/runtime/bind"
	"moonseal/runtime/bundle"
	"moonseal/runtime/config"
	"moonseal/runtime/control"
	"moonseal/runtime/daemon"
	"moonseal/runtime/journal"
	"moonseal/runtime/run"
)

// operator is what a person can decide: through the daemon, or here if none runs. Both
// do the same, and refuse the same with the same codes.
type operator interface {
	Records() api.Records
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
	Backup(ctx context.Context, w io.Writer) error
	// Continues says how a run continues that is free to.
	Continues(r *journal.Run) string
	Close() error
}

// operator returns the daemon's client, or if no daemon listens, what works in the
// state directory.
func (a *app) operator(ctx context.Context, cfg *config.Config) (operator, error) {
	if c := a.daemon(cfg); c.Alive(ctx) {
		return remote{c}, nil
	}
	j, err := a.openJournal(ctx, cfg)
	if err != nil {
		return nil, err
	}
	reg, err := bind.NewRegistry(modules.All()...)
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return &local{app: a, cfg: cfg, journal: j, control: control.New(j, a.clock).Knowing(reg)}, nil
}

// remote lets the daemon do it.
type remote struct{ *api.Client }

// Cancel waits until the run has ended, or its process cannot end it.
func (r remote) Cancel(ctx context.Context, id string, d api.Decision) (*journal.Run, error) {
	now, err := r.Client.Cancel(ctx, id, d)
	for err == nil && now.Ended.IsZero() {
		now, err = r.Follow(ctx, now.ID, func(journal.Record) {})
		if err == nil && now.Status == journal.Parked {
			break
		}
	}
	return now, err
}

func (remote) Continues(*journal.Run) string { return "it continues now" }

func (remote) Close() error { return nil }

// local works in a state directory that no daemon has.
type local struct {
	app     *app
	cfg     *config.Config
	journal *journal.Journal
	control *control.Control
}

func (l *local) Close() error { return l.journal.Close() }

func (l *local) Records() api.Records { return l.journal }

func (l *local) decision(d api.Decision) control.Decision {
	return daemon.Decision(l.app.who(), d)
}

// who names the person at the terminal, as the daemon would.
func (a *app) who() string { return api.Who(os.Getuid(), a.getenv("SUDO_USER")) }

func (l *local) Approve(ctx context.Context, id string, d api.Decision) (*journal.Run, error) {
	return orNil(l.control.Approve(ctx, id, l.decision(d)))
}

func (l *local) Deny(ctx context.Context, id string, d api.Decision) (*journal.Run, error) {
	return orNil(l.control.Deny(ctx, id, l.decision(d)))
}

func (l *local) Resume(ctx context.Context, id string, d api.Decision) (*journal.Run, error) {
	return orNil(l.control.Resume(ctx, id, l.decision(d)))
}

func (l *local) Cancel(ctx context.Context, id string, d api.Decision) (*journal.Run, error) {
	r, err := l.control.Cancel(ctx, id, l.decision(d))
	if err != nil {
		return nil, err
	}
	if err := l.work(ctx, r.ID, run.Cancel); err != nil {
		return nil, err
	}
	return orNil(l.journal.Run(ctx, r.ID))
}

func (l *local) Unlock(ctx context.Context, id string, d api.Decision) ([]string, error) {
	return l.control.Unlock(ctx, id, l.decision(d))
}

func (l *local) Cleanup(ctx context.Context, id string) error {
	r, err := l.control.Cleanup(ctx, id, l.decision(api.Decision{}))
	if err != nil {
		return err
	}
	return l.work(ctx, r.ID, run.Cleanup)
}

func (l *local) Forget(ctx context.Context, id string) ([]journal.Undo, error) {
	return l.control.Forget(ctx, id, l.decision(api.Decision{}))
}

func (l *local) Pause(ctx context.Context, r api.PauseRequest) error {
	if !r.Paused {
		return l.control.Unpause(ctx, r.Playbook, l.decision(api.Decision{}))
	}
	if r.Playbook != "" {
		if err := l.app.knownPlaybook(ctx, l.cfg, r.Playbook); err != nil {
			return err
		}
	}
	return l.control.Pause(ctx, r.Playbook, l.decision(api.Decision{}))
}

func (l *local) ForgetPlaybook(ctx context.Context, r api.ForgetRequest) error {
	loaded, err := l.app.loadScripts(ctx, l.cfg, l.cfg.Scripts, nil)
	if err != nil {
		return err
	}
	for _, p := range loaded.Playbooks {
		if p.Name == r.Playbook {
			return control.ScriptExists(r.Playbook, p.File)
		}
	}
	for _, e := range loaded.Problems { // a broken script's playbook may be called as its file
		if e.Place != nil && bundle.ScriptName(e.Place.File) == r.Playbook {
			return control.ScriptExists(r.Playbook, e.Place.File)
		}
	}
	return l.control.ForgetPlaybook(ctx, r.Playbook, l.decision(api.Decision{Ticket: r.Ticket, Reason: r.Reason}))
}

func (l *local) Backup(ctx context.Context, w io.Writer) error { return l.journal.Backup(ctx, w) }

func (*local) Continues(r *journal.Run) string {
	return "moonseal run " + r.Playbook + " continues it: no daemon is running"
}

// work takes a run up in a child of this process.
func (l *local) work(ctx context.Context, id string, mode run.Mode) error {
	parent, err := l.app.parent(l.cfg, l.journal, l.control, nil)
	if err != nil {
		return err
	}
	work, err := job(l.cfg)
	if err != nil {
		return err
	}
	work.Mode = mode
	_, err = parent.Resume(ctx, work, id)
	return err
}

func orNil(r journal.Run, err error) (*journal.Run, error) {
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// operate calls do with an operator and the run that was named.
func (a *app) operate(ctx context.Context, id string, do func(operator, journal.Run) error) (err error) {
	cfg, err := a.reachConfig(ctx)
	if err != nil {
		return err
	}
	op, err := a.operator(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, op.Close()) }()
	r, err := findRun(ctx, op.Records(), id)
	if err != nil {
		return err
	}
	return do(op, r)
}

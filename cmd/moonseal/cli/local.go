package cli

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"moonseal/modules"
	"moonseal/runtime/api"
	"moonseal/runtime/bind"
	"moonseal/runtime/bundle"
	"moonseal/runtime/config"
	"moonseal/runtime/control"
	"moonseal/runtime/daemon"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/worker"
)

// local is the operator that works in a state directory that no daemon has. What decides
// needs lock first; what reads opens the journal at its first use.
type local struct {
	wire    *wiring
	who     string           // the name of the person at the terminal
	absent  error            // why no daemon is used
	journal *journal.Journal // nil until it is needed
	control *control.Control // nil without the lock

	scripts *loadedScripts // as they were loaded, once
	unread  error          // why they could not be
}

// local returns the engine that works here, without the lock.
func (a *app) local(cfg *config.Config) *local {
	return &local{wire: a.wire(cfg), who: a.who()}
}

// who returns the name of the person at the terminal, as the daemon would.
func (a *app) who() string { return api.Who(os.Getuid(), a.getenv("SUDO_USER")) }

// lock opens the journal to write, if the state directory is this user's.
func (l *local) lock(ctx context.Context) error {
	cfg := l.wire.cfg
	if err := ownState(cfg); err != nil {
		return err
	}
	reg, err := bind.NewRegistry(modules.All()...)
	if err != nil {
		return err
	}
	j, err := journal.Open(ctx, cfg.State, journal.Options{Clock: l.wire.clock, Log: slog.New(l.wire.logHandler())})
	if err != nil {
		return err
	}
	if err := control.TakeOver(ctx, j); err != nil {
		return errors.Join(err, j.Close())
	}
	l.journal, l.control = j, control.New(j, l.wire.clock).Knowing(reg)
	return nil
}

func (l *local) Config() *config.Config { return l.wire.cfg }

func (l *local) Close() error {
	if l.journal == nil {
		return nil
	}
	return l.journal.Close()
}

func (*local) Continues(r *journal.Run) string {
	return "moonseal run " + r.Playbook + " continues it: no daemon is running"
}

// Status implements [viewer]: only a daemon has a schedule, and watches over the runs.
func (l *local) Status(context.Context) (*api.Status, error) { return nil, l.absent }

// Reload implements [operator]: without a daemon nothing is loaded.
func (l *local) Reload(context.Context) (*api.ReloadReply, error) { return nil, l.absent }

func (l *local) Records(ctx context.Context) (api.Records, error) {
	if l.journal == nil {
		j, err := journal.OpenReadOnly(ctx, l.wire.cfg.State)
		if err != nil {
			return nil, err
		}
		l.journal = j
	}
	return l.journal, nil
}

func (l *local) Interrupted(r journal.Run) (bool, error) {
	if r.Status != journal.Running {
		return false, nil
	}
	held, err := journal.RunLocked(l.wire.cfg.State, r.ID)
	return !held, err
}

// loaded returns the scripts, and loads them once.
func (l *local) loaded(ctx context.Context) (*loadedScripts, error) {
	if l.scripts == nil && l.unread == nil {
		l.scripts, l.unread = l.wire.loadScripts(ctx, l.wire.cfg.Scripts, nil)
	}
	return l.scripts, l.unread
}

func (l *local) Scripts(ctx context.Context) (*checked, error) {
	loaded, err := l.loaded(ctx)
	if err != nil {
		return nil, err
	}
	return &checked{Playbooks: loaded.playbooks(), Problems: loaded.Problems}, nil
}

func (l *local) SecretNames(ctx context.Context) ([]string, error) {
	loaded, err := l.loaded(ctx)
	if err != nil {
		return nil, err
	}
	return loaded.secretNames(l.wire.cfg), nil
}

func (l *local) Secret(ctx context.Context, name string) api.SecretState {
	return l.wire.lookUp(ctx, name)
}

func (l *local) Examine(ctx context.Context) ([]bind.Finding, error) {
	loaded, err := l.loaded(ctx)
	if err != nil {
		return nil, err
	}
	work, err := job(l.wire.cfg)
	if err != nil {
		return nil, err
	}
	parent, err := l.wire.parent(nil, nil, nil)
	if err != nil {
		return nil, err
	}
	records, err := l.Records(ctx)
	if err != nil {
		records = nil // no run has named anything, or doctor reports why the journal cannot be read
	}
	return daemon.Examine(ctx, parent, work, loaded.files(), records)
}

func (l *local) TestAlerts(ctx context.Context) (*api.AlertReply, error) {
	return daemon.TestAlerts(ctx, l.wire.cfg, l.wire.alerts(), l.wire.beat())
}

func (l *local) Backup(ctx context.Context, w io.Writer) error { return l.journal.Backup(ctx, w) }

func (l *local) decision(d api.Decision) control.Decision { return daemon.Decision(l.who, d) }

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
		if _, err := l.wire.findPlaybook(ctx, r.Playbook); err != nil {
			return err
		}
	}
	return l.control.Pause(ctx, r.Playbook, l.decision(api.Decision{}))
}

func (l *local) ForgetPlaybook(ctx context.Context, r api.ForgetRequest) error {
	loaded, err := l.loaded(ctx)
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

// work runs a child of this process for what is left of a run.
func (l *local) work(ctx context.Context, id string, mode run.Mode) error {
	parent, err := l.wire.parent(l.journal, l.control, nil)
	if err != nil {
		return err
	}
	work, err := job(l.wire.cfg)
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

// Run implements [operator]: it works on the run in a child of this process.
func (l *local) Run(ctx context.Context, name string, o runOptions, p *progress) (int, error) {
	parent, err := l.wire.parent(l.journal, l.control, p.record)
	if err != nil {
		return exitFailed, err
	}
	clock := l.wire.clock
	out, id, err := l.takeUp(ctx, parent, name, o, p)
	for err == nil && o.wait && out.Status == journal.Waiting && !out.Until.IsZero() {
		p.waiting(out)
		select {
		case <-clock.After(out.Until.Sub(clock.Now())):
		case <-ctx.Done():
			p.outcome(name, id, out)
			return exitWaiting, nil
		}
		out, err = l.resume(ctx, parent, id, o)
	}
	if err != nil {
		if ctx.Err() != nil && id != "" {
			p.interrupted()
			return exitFailed, &problem.Error{
				Kind: problem.Unavailable, Message: "interrupted", Hint: cmp.Or(o.interrupted, "moonseal run "+name+" continues from there"),
			}
		}
		return exitFailed, err
	}
	p.outcome(name, id, out)
	return outcomeCode(out, o.detailed), nil
}

// takeUp continues the playbook's unfinished run, or starts a new one.
func (l *local) takeUp(ctx context.Context, parent *worker.Parent, name string, o runOptions, p *progress) (*run.Outcome, string, error) {
	unfinished, err := l.journal.Unfinished(ctx, name)
	if err != nil {
		return nil, "", err
	}
	if len(unfinished) > 0 {
		r := unfinished[0]
		p.begin(name, r.ID, true)
		if r.Status == journal.Parked && r.CancelAsked.IsZero() {
			return &run.Outcome{Status: journal.Parked, Reason: r.Reason, Error: r.Error}, r.ID, nil
		}
		if _, _, err := l.control.Retry(ctx, r.ID, control.Decision{By: l.who}); err != nil {
			return nil, r.ID, err
		}
		out, err := l.resume(ctx, parent, r.ID, o)
		return out, r.ID, err
	}
	work, err := job(l.wire.cfg)
	if err != nil {
		return nil, "", err
	}
	playbook, err := l.wire.findPlaybook(ctx, name)
	if err != nil {
		return nil, "", err
	}
	work.Files = playbook.Files()
	work.Playbook, work.Now = name, o.now
	o.in(&work)
	var id string
	out, err := parent.Begin(ctx, work, worker.Ask{Force: o.force, By: l.who, Shared: l.wire.cfg.SharedLocks}, func(run string) {
		id = run
		p.begin(name, id, false)
	})
	return out, id, err
}

func (l *local) resume(ctx context.Context, parent *worker.Parent, id string, o runOptions) (*run.Outcome, error) {
	work, err := job(l.wire.cfg)
	if err != nil {
		return nil, err
	}
	work.Now = o.now
	o.in(&work)
	// An old child, whose parent was killed a moment ago, may still be ending.
	return parent.Resume(ctx, work, id)
}

// ownState refuses a state directory of another user: what root writes there, the
// daemon could not read.
func ownState(cfg *config.Config) error {
	info, err := os.Stat(cfg.State)
	if err != nil {
		return nil //nolint:nilerr // it is made, or whatever opens it returns what is wrong
	}
	owner, mine := uidOf(info), os.Geteuid()
	if owner < 0 || owner == mine {
		return nil
	}
	name := userName(owner)
	e := &problem.Error{
		Kind: problem.Usage, Target: cfg.State, Message: "the state directory is " + name + "'s: what another user writes there, " + name + " could not read",
		Hint: "run it as sudo -u " + name + " moonseal …",
	}
	if owner == 0 {
		e.Hint = "use sudo, or name a state directory of your own in the config"
	}
	return e
}

// uidOf returns the owner of a file; -1 if it is not known.
func uidOf(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(uid)
}

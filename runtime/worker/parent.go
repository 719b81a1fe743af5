package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/bundle"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/secret"
)

// MaxDeaths is how often one step may end its process before the run parks.
const MaxDeaths = 3

// Parent runs jobs in children.
type Parent struct {
	Journal  *journal.Journal // nil: loads only
	Control  *control.Control // creates runs; nil: none is started
	Spawner  Spawner
	Secrets  secret.Source
	Redactor *secret.Redactor
	Embedded map[string]string // the scripts that children bring along
	Build    string            // of the program: its children must be of the same
	Clock    clockwork.Clock
	// Observe is called with each record after it is queued or synced; may be nil.
	Observe func(journal.Record)

	of       *Parent // the one that [Parent.With] was called on first; nil: this is it
	starts   startLimiter
	owners   owners
	sessions sessions
	drain    drain
}

// first returns the parent that holds what all those made from it by With share.
func (p *Parent) first() *Parent {
	if p.of != nil {
		return p.of
	}
	return p
}

// With returns a parent for what starts, or continues, after a change of the config.
// What runs keeps the one that it started with; [Parent.Drain] of either is for both.
func (p *Parent) With(spawner Spawner, secrets secret.Source) *Parent {
	return &Parent{
		Journal: p.Journal, Control: p.Control, Spawner: spawner, Secrets: secrets, Redactor: p.Redactor, Embedded: p.Embedded, Build: p.Build, Clock: p.Clock, Observe: p.Observe,
		of: p.first(),
	}
}

// Load loads the scripts of the job, which names no playbook, in a child.
func (p *Parent) Load(ctx context.Context, job Job) (*Loaded, error) {
	s, err := p.start(ctx, nil, &job)
	if err != nil {
		return nil, err
	}
	loaded, err := s.loaded(ctx)
	if err != nil {
		return nil, s.end(err)
	}
	_, err = s.result(ctx)
	return loaded, s.end(err)
}

// Ask holds the options of a new run.
type Ask struct {
	Force  bool
	By     string   // the caller; "" for the schedule
	Shared []string // lock names that all tenants share
}

// Begin creates a run of the job's playbook, from the job's files, and runs it.
// created is called with the run's id; it may be nil.
func (p *Parent) Begin(ctx context.Context, job Job, ask Ask, created func(id string)) (*run.Outcome, error) {
	id := p.Journal.NewRunID()
	lock, err := journal.LockRun(ctx, p.Journal.Dir(), id)
	if err != nil {
		return nil, err
	}
	s, err := p.start(ctx, lock, &job)
	if err != nil {
		return nil, err
	}
	if err := p.accept(ctx, s, id, job, ask); err != nil {
		// There will be no such run: its lock goes too.
		return nil, errors.Join(s.end(err), journal.RemoveRunLock(p.Journal.Dir(), id))
	}
	if created != nil {
		created(id)
	}
	out, err := p.follow(ctx, s, id)
	if out, err, ended := p.ended(ctx, id, out, err); ended {
		return out, err
	}
	ctx, job = afterDeath(ctx, job)
	return p.Resume(ctx, job, id)
}

// afterDeath returns the context and job for the next process of a run whose process
// has died: if the run was being cancelled, the next one only cancels.
func afterDeath(ctx context.Context, job Job) (context.Context, Job) {
	if errors.Is(context.Cause(ctx), run.ErrCancelled) {
		job.Mode = run.Cancel
		ctx = context.WithoutCancel(ctx)
	}
	return ctx, job
}

// accept waits for the child to have loaded the playbook, and journals the run.
func (p *Parent) accept(ctx context.Context, s *session, id string, job Job, ask Ask) error {
	loaded, err := s.loaded(ctx)
	if err != nil {
		return err
	}
	return p.create(ctx, id, loaded.Playbooks[0], job, ask)
}

// ended reports whether the run stops at this end of its child. It does not if the
// child died, unless that has parked the run.
func (p *Parent) ended(ctx context.Context, id string, out *run.Outcome, err error) (*run.Outcome, error, bool) {
	if died, ok := errors.AsType[*deathError](err); ok {
		out, err := p.died(context.WithoutCancel(ctx), id, died)
		return out, err, out != nil || err != nil
	}
	return out, err, err != nil || out.Status != run.Replaying || p.first().drain.started()
}

// Drain makes the runs that are under way stop at the end of their step, or at a wait,
// with an outcome of status [run.Replaying].
func (p *Parent) Drain() { p.first().drain.start() }

// Resume continues an unfinished run, in a new child when one dies, as soon as no other
// caller works on it. If its cancel is journaled it is cancelled, whatever the job's mode.
func (p *Parent) Resume(ctx context.Context, job Job, id string) (*run.Outcome, error) {
	r, err := p.Journal.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	free, err := p.first().owners.own(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	defer free()
	if r, err = p.Journal.Run(ctx, r.ID); err != nil { // as the caller before has left it
		return nil, err
	}
	if !r.CancelAsked.IsZero() && r.Ended.IsZero() {
		job.Mode = run.Cancel
	}
	for attempt := 1; ; attempt++ {
		if p.first().drain.started() && job.Mode != run.Cancel {
			return &run.Outcome{Status: run.Replaying}, nil
		}
		out, err := p.resumeOnce(ctx, job, id)
		if problem.HasCode(err, problem.Unloadable) {
			if attempt < MaxDeaths {
				continue
			}
			return p.parkUnloadable(context.WithoutCancel(ctx), id, problem.From(err))
		}
		if died, ok := errors.AsType[*deathError](err); ok && job.Mode == run.Cancel && !job.Scriptless {
			// The cancel must end the run even if a script ends its process.
			job.Scriptless = true
			if _, err := p.journalDeath(context.WithoutCancel(ctx), id, died); err != nil {
				return nil, err
			}
			continue
		}
		if out, err, ended := p.ended(ctx, id, out, err); ended {
			return out, err
		}
		ctx, job = afterDeath(ctx, job) //nolint:fatcontext // once: after it the context is without cancel
	}
}

func (p *Parent) resumeOnce(ctx context.Context, job Job, id string) (*run.Outcome, error) {
	r, err := p.Journal.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	sources, err := p.Journal.Sources(ctx, r.Bundle)
	if err != nil {
		return nil, err
	}
	job.Playbook, job.Files, job.Problems, job.Sources = r.Playbook, nil, nil, map[string]string{}
	for _, s := range sources {
		job.Sources[s.Path] = string(s.Body)
	}
	// An old child that still lives ends within moments, since its parent is gone, or is
	// killed.
	lock, err := journal.TakeOverRun(ctx, p.Journal.Dir(), r.ID, grace)
	if err != nil {
		return nil, err
	}
	release, err := p.first().starts.acquire(ctx, p.Clock)
	if err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	defer release()
	s, err := p.start(ctx, lock, &job)
	if err != nil {
		return nil, err
	}
	if _, err := s.loaded(ctx); err != nil {
		return nil, s.end(err)
	}
	if _, err := p.Journal.Adopt(ctx, id); err != nil {
		return nil, s.end(err)
	}
	release()
	return p.follow(ctx, s, id)
}

// create journals the new run with its sources.
func (p *Parent) create(ctx context.Context, id string, book *bundle.Playbook, job Job, ask Ask) error {
	b := control.Beginning{Run: id, Playbook: book.Name, Bundle: book.Hash, Locks: book.Locks, Shared: ask.Shared, Force: ask.Force, By: ask.By}
	for _, name := range book.Needs {
		body, ok := job.Files[name]
		if !ok {
			body = p.Embedded[name]
		}
		b.Sources = append(b.Sources, journal.Source{Path: name, Body: []byte(body)})
	}
	created, err := p.Control.Begin(ctx, b)
	if err == nil && created.Unfinished {
		err = &problem.Error{
			Kind: problem.Conflict, Code: problem.RunUnended, Target: "run " + created.Run.ID, Work: problem.NotDone,
			Message: "unfinished, and a playbook has one run at a time",
			Hint:    "moonseal run " + book.Name + " continues it",
		}
	}
	return err
}

// follow starts the loaded child's run and serves it to its end.
func (p *Parent) follow(ctx context.Context, s *session, id string) (*run.Outcome, error) {
	if err := s.sendHistory(ctx, id); err != nil {
		return nil, s.end(err)
	}
	defer p.first().sessions.add(s)()
	out, err := s.result(ctx)
	err = s.end(err)
	if err == nil && out.Status.Outcome() {
		err = journal.RemoveRunLock(p.Journal.Dir(), id)
	}
	return out, err
}

// Hurry makes a run that is being cancelled not wait for the call under way.
func (p *Parent) Hurry(id string) {
	if s := p.first().sessions.of(id); s != nil {
		_ = s.conn.send(&frame{Cancel: &cancelling{Now: true}}) // if the child is gone, the next read fails
	}
}

// deathError is a child that ended without a result.
type deathError struct {
	how  string
	step int // -1: outside any step
	name string
}

func (d *deathError) Error() string {
	if d.name == "" {
		return "the run's process died: " + d.how
	}
	return fmt.Sprintf("the run's process died in step %s: %s", d.name, d.how)
}

// parkUnloadable parks a run whose scripts no longer load.
func (p *Parent) parkUnloadable(ctx context.Context, id string, e *problem.Error) (*run.Outcome, error) {
	epoch, err := p.Journal.Adopt(ctx, id)
	if err != nil {
		return nil, err
	}
	stamp := journal.Stamp{Run: id, Epoch: epoch, At: p.Clock.Now().UTC()}
	out := &run.Outcome{Status: journal.Parked, Reason: "its scripts no longer load: " + p.Redactor.Redact(e.Error()), Error: e}
	return out, p.write(ctx, journal.RunParked{Stamp: stamp, Reason: out.Reason, Error: e})
}

// journalDeath journals a death, and returns a stamp with the run's new epoch.
func (p *Parent) journalDeath(ctx context.Context, id string, d *deathError) (journal.Stamp, error) {
	epoch, err := p.Journal.Adopt(ctx, id)
	if err != nil {
		return journal.Stamp{}, err
	}
	stamp := journal.Stamp{Run: id, Epoch: epoch, At: p.Clock.Now().UTC()}
	line := journal.Logged{Stamp: stamp, Level: "error", Step: d.name, Message: p.Redactor.Redact(d.Error())}
	return stamp, p.write(ctx, journal.RunDied{Stamp: stamp, Step: d.step}, line)
}

// died journals a death, and parks the run when its step has killed too many.
func (p *Parent) died(ctx context.Context, id string, d *deathError) (*run.Outcome, error) {
	stamp, err := p.journalDeath(ctx, id, d)
	if err != nil {
		return nil, err
	}
	deaths, err := p.Journal.Deaths(ctx, id, d.step)
	if err != nil {
		return nil, err
	}
	if deaths < MaxDeaths {
		return nil, nil //nolint:nilnil // nil is the documented "continue"
	}
	reason := fmt.Sprintf("%s, %d times", p.Redactor.Redact(d.Error()), deaths)
	out := &run.Outcome{Status: journal.Parked, Reason: reason, Error: &problem.Error{
		Kind: problem.Internal, Message: d.Error(), Step: d.name,
		Hint: "if the script needs more memory, raise limits.memory in the config; moonseal cancel " + id + " --retry restarts it on today's scripts",
	}}
	return out, p.write(ctx, journal.RunParked{Stamp: stamp, Reason: reason, Error: out.Error})
}

func (p *Parent) write(ctx context.Context, recs ...journal.Record) error {
	if err := p.Journal.Write(ctx, recs...); err != nil {
		return err
	}
	if p.Observe != nil {
		for _, r := range recs {
			p.Observe(r)
		}
	}
	return nil
}

// start starts a child and sends it its job.
func (p *Parent) start(ctx context.Context, lock *journal.RunLock, job *Job) (*session, error) {
	job.Network.Allowed, job.Build = job.Grants.For(job.Playbook), p.Build
	spawner := p.Spawner
	if e, ok := spawner.(Exec); ok {
		spawner = e.of(bundle.Tenant(job.Playbook))
	}
	proc, err := spawner.Start(ctx, lock)
	if err != nil {
		if lock != nil {
			err = errors.Join(err, lock.Release())
		}
		return nil, err
	}
	s := &session{parent: p, proc: proc, conn: newConn(proc.Pair()), playbook: job.Playbook, allowed: job.Network.Allowed, step: -1}
	if err := s.conn.send(&frame{Job: job}); err != nil {
		return nil, s.death()
	}
	return s, nil
}

package worker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"
	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/account"
	"moonseal/runtime/bind"
	"moonseal/runtime/bundle"
	"moonseal/runtime/config"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/sandbox"
	"moonseal/runtime/schedule"
	"moonseal/runtime/secret"
)

// Setup is what a child needs beside its job.
type Setup struct {
	Modules  func() []*bind.Module // fresh ones: their settings and caches are the child's
	Embedded map[string]string     // scripts that can be required beside the folder's
	Build    string                // of the program, as [Parent] has it
	Clock    clockwork.Clock
	Trace    func(run.Point, string) // for tests; may be nil
	// Gone is called when the pair closes before the job is done; a process of
	// its own exits here, whatever it is at. May be nil.
	Gone func()
	// OnHang is called when a function continues for long after it was cancelled;
	// a process of its own exits here. May be nil.
	OnHang      func(call string)
	GracePeriod time.Duration // how long that is; [run.DefaultGracePeriod] unless set
}

// Result is how a child ended its job.
type Result struct {
	Outcome  *run.Outcome   `json:"outcome,omitempty"`
	Error    *problem.Error `json:"error,omitempty"`    // why there is no outcome
	Findings []bind.Finding `json:"findings,omitempty"` // of an examination
}

// Serve is the child: it receives one job from the pair, does it, and returns. It ends
// early if the pair closes.
func Serve(ctx context.Context, pair Pair, setup Setup) error {
	c := newConn(pair)
	first, err := c.receive()
	switch {
	case errors.Is(err, errMalformed) || err == nil && first.Job == nil: // a parent of another build
		return otherBuild("", setup.Build)
	case err != nil:
		return errors.Join(errParentGone, err)
	case first.Job.Build != setup.Build:
		return errors.Join(c.send(&frame{Result: &Result{Error: otherBuild(first.Job.Build, setup.Build)}}), pair.Close())
	}
	keepBelowLimit()
	l := newLink(c)
	ctx, cancel := context.WithCancelCause(ctx)
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		l.listen()
	}()
	watching := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-l.gone:
			cancel(errParentGone)
			if setup.Gone != nil {
				setup.Gone()
			}
		case c := <-l.cancel:
			cancel(&run.CancelledError{Decisions: c.Decisions})
		case <-done:
		}
	}()
	w := &work{setup: setup, job: first.Job, link: l, secrets: map[string]bool{}}
	result := w.do(ctx)
	err = l.send(&frame{Result: result})
	close(done)
	<-watching
	cancel(nil)
	_ = pair.Close()
	<-listening
	return err
}

// work is one job in a child.
type work struct {
	setup    Setup
	job      *Job
	link     *link
	registry *bind.Registry
	network  *grant.Network
	bundle   *bundle.Bundle
	secrets  map[string]bool // that scripts named while they were loaded
	made     made            // by scripts while they were loaded
	broken   error           // why the scripts of a run that only cleans up do not load
	loading  string          // the script whose state is being opened
	opening  *run.Run        // the run whose state is being opened, nil while scripts are only loaded
}

func (w *work) do(ctx context.Context) *Result {
	r, err := w.result(ctx)
	if err != nil {
		return &Result{Error: problem.From(err)}
	}
	return r
}

func (w *work) result(ctx context.Context) (*Result, error) {
	if err := w.prepare(); err != nil {
		return nil, err
	}
	if w.job.Examine != nil {
		return w.examine(ctx)
	}
	out, err := w.outcome(ctx)
	return &Result{Outcome: out}, err
}

func (w *work) outcome(ctx context.Context) (*run.Outcome, error) {
	if err := w.ready(ctx); err != nil {
		return nil, err
	}
	if w.job.Playbook == "" {
		return nil, w.link.send(&frame{Loaded: w.loaded()})
	}
	if err := w.link.send(&frame{Loaded: w.loaded()}); err != nil {
		return nil, err
	}
	select {
	case history := <-w.link.start:
		return w.run(ctx, history)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// ready loads the scripts. A run that only cleans up can do without: the undos of modules
// need no script.
func (w *work) ready(ctx context.Context) error {
	if w.job.Scriptless {
		return nil
	}
	err := w.load(ctx)
	if err == nil && w.job.Playbook != "" && w.bundle.Find(w.job.Playbook) == nil {
		err = w.noPlaybook()
	}
	switch {
	case err == nil || w.job.Sources == nil || ctx.Err() != nil:
		return err
	case w.cleansUp():
		w.bundle, w.broken = nil, err
		return nil
	}
	e := *problem.From(err)
	e.Code = problem.Unloadable
	return &e
}

func (w *work) cleansUp() bool { return w.job.Mode == run.Cancel || w.job.Mode == run.Cleanup }

func (w *work) prepare() (err error) {
	modules := w.setup.Modules()
	for _, m := range modules {
		text, ok := w.job.Settings[m.Name]
		if !ok || m.Settings == nil {
			continue
		}
		if err := config.Decode([]byte(text), m.Settings, "modules."+m.Name); err != nil {
			return err
		}
	}
	if w.registry, err = bind.NewRegistry(modules...); err != nil {
		return err
	}
	w.made.registry = w.registry
	w.network, err = grant.New(w.job.Network)
	return err
}

func (w *work) load(ctx context.Context) (err error) {
	env := bundle.Env{Embedded: w.setup.Embedded, Open: w.open, Loading: func(file string) { w.loading = file }, Allow: w.allow}
	if w.job.Sources != nil { // of a run that has started: its mistakes show as it runs
		w.bundle, err = bundle.FromSources(ctx, w.job.Sources, env)
		return err
	}
	env.Check = func(file, source string) error { return sandbox.CheckVisible(file, source, w.registry) }
	w.bundle, err = bundle.Load(ctx, &bundle.Tree{Files: w.job.Files, Problems: w.job.Problems}, env)
	return err
}

// allow implements [bundle.Env]'s Allow.
func (w *work) allow(playbook, module string) error { return w.job.Grants.For(playbook).Module(module) }

// open returns the modules of a state. In a load they refuse all but pure functions.
func (w *work) open(s *sandbox.State) bundle.World {
	var b *bind.Binding
	if w.opening != nil {
		b = w.opening.Binding()
	} else {
		b = w.registry.Bind(s.L, loadOnly{w, w.loading}, sandbox.Raise)
	}
	world := bundle.World{Modules: map[string]lua.LValue{}, Globals: b.Globals()}
	for _, m := range w.registry.Modules {
		world.Modules[m.Name] = b.Module(m.Name)
	}
	return world
}

// loadOnly is the host of a state that only loads a script.
type loadOnly struct {
	*work

	file string
}

// SecretNamed records the name of a secret, for the list of those that scripts need.
func (l loadOnly) SecretNamed(name string) { l.secrets[name] = true }

func (l loadOnly) Invoke(inv *bind.Invocation) (any, error) {
	if inv.Func.Impl.Phase != bind.Anywhere {
		return nil, run.ErrLoading(inv.Func)
	}
	v, err := inv.Func.Impl.Run(nil, inv.Recv, inv.Args)
	if err == nil && l.job.Handles {
		l.made.add(l.file, v)
	}
	return v, err
}

func (w *work) loaded() *Loaded {
	if w.job.Playbook == "" {
		w.made.addJournaled(w.job.Journaled)
		return &Loaded{Playbooks: w.bundle.Playbooks, Problems: w.bundle.Problems, Secrets: slices.Sorted(maps.Keys(w.secrets)), Made: w.made.list}
	}
	return &Loaded{Playbooks: []*bundle.Playbook{w.book()}}
}

// book returns the job's playbook; with only its name if a run cleans up without its
// scripts.
func (w *work) book() *bundle.Playbook {
	if w.bundle == nil {
		return &bundle.Playbook{Name: w.job.Playbook}
	}
	return w.bundle.Find(w.job.Playbook)
}

func (w *work) run(ctx context.Context, h *journal.History) (*run.Outcome, error) {
	options := sandbox.Options{}
	if w.bundle != nil {
		options.Source = w.bundle.Source
	}
	state := sandbox.New(ctx, options)
	defer state.Close()
	playbook := w.book()
	window, err := w.window(playbook)
	if err != nil {
		return nil, err
	}
	r := run.New(state, run.Options{
		Registry: w.registry, History: h, Journal: w.link, Clock: w.setup.Clock, Network: w.network,
		Account: account.Open(w.job.State, playbook.Tenant()), Secrets: w.link, Redactor: w.redactor(),
		Logger: slog.New(slog.DiscardHandler), // the journal's lines reach the parent's log
		Jitter: rand.Float64, Trace: w.setup.Trace, Mode: w.job.Mode, Drain: w.link.drained, Grace: w.job.Grace, Hurry: w.link.hurried, Window: window, Reach: w.link.flush,
		OnHang: w.setup.OnHang, GracePeriod: cmp.Or(w.setup.GracePeriod, run.DefaultGracePeriod),
	})
	w.opening = r
	defer func() { w.opening = nil }()
	p, err := w.playbook(ctx, state, playbook.Name)
	if err != nil && w.cleansUp() && ctx.Err() == nil {
		w.broken, p, err = err, run.Playbook{Name: playbook.Name}, nil
	}
	if err != nil {
		return nil, err
	}
	if w.broken != nil {
		r.Warn("the scripts no longer load: cleaning up without them", w.broken)
	}
	return r.Execute(ctx, p)
}

// playbook loads the job's playbook into the state of its run.
func (w *work) playbook(ctx context.Context, state *sandbox.State, name string) (run.Playbook, error) {
	if w.bundle == nil {
		return run.Playbook{Name: name}, nil
	}
	table, err := w.bundle.Playbook(ctx, state, name)
	if err != nil {
		return run.Playbook{}, err
	}
	p, err := run.ReadPlaybook(state.L, name, table)
	if err != nil {
		return p, err
	}
	for _, h := range w.bundle.Hooks(ctx, state) {
		p.ForAll = append(p.ForAll, run.Hooks{File: h.File, On: h.On})
	}
	return p, nil
}

// redactor returns a redactor that knows the proxy's password.
func (w *work) redactor() *secret.Redactor {
	r := &secret.Redactor{}
	r.LearnPair(w.job.Network.ProxyUser())
	return r
}

// window returns when the appliance may be changed; nil is always.
func (w *work) window(p *bundle.Playbook) (run.Window, error) {
	if w.job.Now || (p.Window == nil && len(w.job.Blackouts) == 0) {
		return nil, nil
	}
	var window *schedule.Window
	if p.Window != nil {
		var err error
		if window, err = schedule.ParseWindow(p.Window); err != nil {
			return nil, err
		}
	}
	if len(w.job.Blackouts) == 0 {
		return window, nil
	}
	blackouts, err := schedule.ParseBlackouts(w.job.Blackouts)
	if err != nil {
		return nil, err
	}
	return window.Without(blackouts), nil
}

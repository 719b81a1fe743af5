package run_test

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/account"
	"moonseal/runtime/bind"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/sandbox"
	"moonseal/runtime/secret"
)

// world is the outside that the test's module changes.
type world struct {
	mu    sync.Mutex
	made  []string         // what thing.make made, in order
	there map[string]bool  // what is there now
	fail  map[string]error // what the next call for a name answers
	lost  map[string]bool  // the next answer for a name is lost, after the work
	blind map[string]bool  // the probe cannot tell
	out   bool             // the probe may not look
	asks  int
	// What there says, one after the other, and true in the end; nil: what is so.
	reasons []string

	meeting int // calls of meet that have yet to come
	met     chan struct{}

	undone func(name string) error // answers undos in the world's place; may be nil
	asked  func()                  // sees each question; may be nil
}

type thing struct {
	Name string `lua:"name" doc:"its name"`
}

type none struct{}

func (w *world) take(name string) (error, bool) {
	err := w.fail[name]
	delete(w.fail, name)
	lost := w.lost[name]
	delete(w.lost, name)
	return err, lost
}

func (w *world) make(_ *bind.Call, t *thing, _ *none, _ string) (map[string]any, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err, lost := w.take(t.Name)
	if err != nil {
		return nil, err
	}
	w.made = append(w.made, t.Name)
	w.there[t.Name] = true
	if lost {
		return nil, &problem.Error{Kind: problem.Timeout, Message: "answer lost"}
	}
	return map[string]any{"id": len(w.made)}, nil
}

func (w *world) probe(_ *bind.Call, t *thing, _ *none, _ string) (map[string]any, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out {
		return nil, false, &problem.Error{Kind: problem.Auth, Message: "not let in"}
	}
	if w.blind[t.Name] {
		return nil, false, &problem.Error{Kind: problem.Unavailable, Message: "cannot see"}
	}
	return map[string]any{"id": "probed"}, w.there[t.Name], nil
}

func (w *world) undo(_ *bind.Call, t *thing, _ *none, _ *map[string]any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fail["undo "+t.Name]; err != nil {
		return err
	}
	if w.undone != nil {
		return w.undone(t.Name)
	}
	delete(w.there, t.Name)
	return nil
}

// meet logs, in an order that the names turn round, once as many calls are under way as
// meeting says.
func (w *world) meet(c *bind.Call, t *thing, _ *none) (string, error) {
	w.mu.Lock()
	if w.meeting--; w.meeting == 0 {
		close(w.met)
	}
	w.mu.Unlock()
	select {
	case <-w.met:
	case <-c.Context.Done():
		return "", c.Context.Err()
	}
	c.LogHost(t.Name + ".example.com")
	c.Log.With("who", t.Name).Info("met " + t.Name)
	if t.Name == "panic" {
		panic("a meeting")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	err, _ := w.take("meet " + t.Name)
	return t.Name, err
}

func (w *world) module() *bind.Module {
	look := func(*bind.Call, *thing, *none) (string, *map[string]any, error) { return "seen", nil, nil }
	method := func(name string, e bind.Effect[thing, none, string, map[string]any]) *bind.Func {
		return &bind.Func{Name: name, Doc: name, Returns: "what was made", Example: "t:" + name + "()", Impl: bind.Effectful(e)}
	}
	return &bind.Module{
		Name: "world", Doc: "A test's outside.",
		Functions: []*bind.Func{
			{Name: "thing", Doc: "names a thing", Returns: "it", Example: "x", Table: true, Impl: bind.Pure(func(t *thing) (*thing, error) { return t, nil })},
			{Name: "say", Doc: "logs", Example: "x", Table: true, Impl: bind.Free(func(c *bind.Call, t *thing) error { c.Log.Info(t.Name); return nil })},
			{Name: "field", Doc: "logs a field", Example: "x", Table: true, Impl: bind.Free(func(c *bind.Call, t *thing) error {
				c.Log.Info("x", slog.String(t.Name, "step"), slog.Group("deep", t.Name, 1))
				return nil
			})},
		},
		Types: []*bind.Type{bind.Handle[thing](
			"world.Thing", 1, "A thing.",
			method("make", bind.Effect[thing, none, string, map[string]any]{Look: look, Do: w.make, Probe: w.probe, Undo: w.undo}),
			method("blindly", bind.Effect[thing, none, string, map[string]any]{Look: look, Do: w.make}),
			method("guarded", bind.Effect[thing, none, string, map[string]any]{Look: look, Do: w.make, Probe: w.probe, WindowBound: true}),
			method("renew", bind.Effect[thing, none, string, map[string]any]{Look: look, Do: w.make, Undo: w.undo, Repeatable: true}),
			method("again", bind.Effect[thing, none, string, map[string]any]{Look: look, Do: w.make, Repeatable: true}),
			&bind.Func{Name: "host", Doc: "concerns", Returns: "it", Example: "x", Impl: bind.Read(func(c *bind.Call, t *thing, _ *none) (string, error) {
				c.LogHost(t.Name + ".example.com")
				return t.Name, nil
			})},
			&bind.Func{Name: "meet", Doc: "waits for the others", Returns: "its name", Example: "x", Impl: bind.Read(w.meet)},
			&bind.Func{Name: "there", Doc: "asks", Returns: "whether it is there", Example: "x", Impl: bind.Read(func(_ *bind.Call, t *thing, _ *none) (bind.Verdict, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.asks++
				if w.asked != nil {
					w.asked()
				}
				if err, _ := w.take("there " + t.Name); err != nil {
					return bind.Verdict{}, err
				}
				reason := t.Name + " is not there"
				if len(w.reasons) > 0 {
					reason, w.reasons = w.reasons[0], w.reasons[1:]
					return bind.Verdict{OK: len(w.reasons) == 0, Reason: reason}, nil
				}
				return bind.Verdict{OK: w.there[t.Name], Reason: reason}, nil
			})},
		)},
	}
}

// lab is one journal and one world, in which a script is run by process after process.
type lab struct {
	t           *testing.T
	world       *world
	journal     *journal.Journal
	dir         string
	clock       *jumping
	id          string
	source      string
	log         strings.Builder
	trace       func(run.Point, string)
	mode        run.Mode
	gracePeriod time.Duration
	window      run.Window
	grace       time.Duration
	hurry       context.Context
	modules     []*bind.Module // beside the world's
}

// jumping is a clock that is always where its timers want it.
type jumping struct {
	clockwork.Clock
	mu     sync.Mutex
	offset time.Duration
	wrong  time.Duration // by how much it was set; Since knows nothing of that
	waits  []time.Duration
	manual bool
	due    func() // what was left to the test last
}

func (j *jumping) Now() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.Clock.Now().Add(j.offset + j.wrong).In(time.FixedZone(j.wrong.String(), 0))
}

// set sets the clock, as a person or a hypervisor does.
func (j *jumping) set(d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wrong += d
}

func (j *jumping) advance(d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.offset += d
}

// Since goes by how wrong the clock was when Now returned t, which the location tells
// until it is lost, as a monotonic reading would be.
func (j *jumping) Since(t time.Time) time.Duration {
	if wrong, err := time.ParseDuration(t.Location().String()); err == nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.Clock.Now().Add(j.offset).Sub(t.Add(-wrong))
	}
	return j.Now().Sub(t)
}

// AfterFunc leaves a manual clock's function to the test.
func (j *jumping) AfterFunc(d time.Duration, f func()) clockwork.Timer {
	if j.manual {
		j.due = f
		d = 24 * time.Hour
	}
	return j.Clock.AfterFunc(d, f)
}

func (j *jumping) NewTimer(d time.Duration) clockwork.Timer {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.offset += d
	j.waits = append(j.waits, d)
	return j.Clock.NewTimer(0)
}

// showing is a clock that shows what another does, with timers of its own.
type showing struct {
	clockwork.Clock
	shows *jumping
}

func (s showing) Now() time.Time { return s.shows.Now() }

func (s showing) Since(t time.Time) time.Duration { return s.shows.Since(t) }

func newLab(t *testing.T, source string) *lab {
	t.Helper()
	l := &lab{
		t: t, dir: t.TempDir(), source: source,
		world: &world{there: map[string]bool{}, fail: map[string]error{}, lost: map[string]bool{}, blind: map[string]bool{}},
		clock: &jumping{Clock: clockwork.NewRealClock()},
	}
	var err error
	if l.journal, err = journal.Open(t.Context(), l.dir, journal.Options{Clock: showing{clockwork.NewRealClock(), l.clock}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.journal.Close() })
	if err := l.journal.SaveBundle(t.Context(), "hash", []journal.Source{{Path: "p.lua", Body: []byte(source)}}); err != nil {
		t.Fatal(err)
	}
	l.id = l.journal.NewRunID()
	rec := journal.RunCreated{Stamp: journal.Stamp{Run: l.id, Epoch: 1, At: time.Now()}, Playbook: "p", Bundle: "hash"}
	if err := l.journal.Write(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	return l
}

// ended adds an earlier run of the playbook, cancelled, which left something.
func (l *lab) ended(left ...string) {
	l.t.Helper()
	s := journal.Stamp{Run: "0000000001", Epoch: 1, At: time.Now()}
	err := l.journal.Write(l.t.Context(), journal.RunCreated{Stamp: s, Playbook: "p", Bundle: "hash"}, journal.RunResumed{Stamp: s},
		journal.RunEnding{Stamp: s, Outcome: journal.Cancelled, Left: left}, journal.RunEnded{Stamp: s})
	if err != nil {
		l.t.Fatal(err)
	}
}

// process runs the script in a new "process" over the same journal. One that is
// killed by the trace returns nil.
func (l *lab) process(ctx context.Context) (out *run.Outcome, err error) {
	l.t.Helper()
	if _, err := l.journal.Adopt(ctx, l.id); err != nil {
		l.t.Fatal(err)
	}
	h, err := l.journal.History(ctx, l.id)
	if err != nil {
		l.t.Fatal(err)
	}
	reg := l.registry()
	network, err := grant.New(grant.Options{})
	if err != nil {
		l.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		state := sandbox.New(ctx, sandbox.Options{Source: func(string) (string, bool) { return l.source, true }})
		defer state.Close()
		r := run.New(state, run.Options{
			Registry: reg, History: h, Journal: l.journal, Clock: l.clock, Network: network, Account: account.Open(l.dir, ""),
			Logger: slog.New(slog.NewTextHandler(io.MultiWriter(&l.log), nil)), Secrets: secret.Map{}, Redactor: &secret.Redactor{},
			Jitter: func() float64 { return 0.5 }, Trace: l.trace, Mode: l.mode, Window: l.window, GracePeriod: l.gracePeriod,
			Grace: l.grace, Hurry: l.hurry,
		})
		for _, m := range reg.Modules {
			state.SetGlobal(m.Name, r.Binding().Module(m.Name))
		}
		for k, v := range r.Binding().Globals() {
			state.SetGlobal(k, v)
		}
		proto, compileErr := sandbox.Compile("p.lua", l.source)
		if compileErr != nil {
			err = compileErr
			return
		}
		values, loadErr := state.Call(ctx, state.L, state.L.NewFunctionFromProto(proto))
		if loadErr != nil {
			err = loadErr
			return
		}
		p, readErr := run.ReadPlaybook(state.L, "p", values[0].(*lua.LTable))
		if readErr != nil {
			err = readErr
			return
		}
		out, err = r.Execute(ctx, p)
	}()
	<-done
	return out, err
}

func (l *lab) registry() *bind.Registry {
	l.t.Helper()
	reg, err := bind.NewRegistry(append([]*bind.Module{l.world.module()}, l.modules...)...)
	if err != nil {
		l.t.Fatal(err)
	}
	return reg
}

func (l *lab) history() *journal.History {
	l.t.Helper()
	h, err := l.journal.History(l.t.Context(), l.id)
	if err != nil {
		l.t.Fatal(err)
	}
	return h
}

// killAt kills the process when it comes to a point for the nth time.
func (l *lab) killAt(p run.Point, what string, nth int) {
	seen := 0
	l.trace = func(at run.Point, name string) {
		if at == p && name == what {
			if seen++; seen == nth {
				runtime.Goexit()
			}
		}
	}
}

func (l *lab) must(out *run.Outcome, err error) *run.Outcome {
	l.t.Helper()
	if err != nil || out == nil {
		l.t.Fatalf("got %+v, %v", out, err)
	}
	return out
}

func script(body string) string {
	return "return { run = function(ctx)\n" + body + "\nend }"
}

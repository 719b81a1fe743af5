package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/bind"
	"moonseal/runtime/control"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/secret"
	"moonseal/runtime/worker"
)

// patience bounds what a test waits for.
const patience = 2 * time.Minute

const childVariable = "MOONSEAL_TEST_CHILD"

// TestMain makes the test binary its own child.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	pair, err := worker.Inherited(false)
	if err == nil {
		err = worker.Serve(context.Background(), pair, worker.Setup{
			Modules: modules, Clock: clockwork.NewRealClock(), Gone: func() { os.Exit(3) },
			OnHang: func(call string) { log.Fatalf("%s did not return", call) }, GracePeriod: 200 * time.Millisecond,
		})
	}
	if err != nil {
		log.Fatal(err)
	}
}

type target struct {
	File string `lua:"file" doc:"a file"`
}

type none struct{}

type said struct {
	Text string `lua:"text" doc:"what"`
}

// modules are what the test's scripts do outside: write to a file, and die.
func modules() []*bind.Module {
	method := func(name string, do func(*bind.Call, *target) error) *bind.Func {
		return &bind.Func{Name: name, Doc: name, Returns: "true", Example: "x", Impl: bind.Effectful(bind.Effect[target, none, bool, bool]{
			Do:    func(c *bind.Call, t *target, _ *none, _ bool) (bool, error) { return true, do(c, t) },
			Probe: func(*bind.Call, *target, *none, bool) (bool, bool, error) { return false, false, nil },
		})}
	}
	return []*bind.Module{{
		Name: "outside", Doc: "x",
		Functions: []*bind.Func{{Name: "target", Doc: "x", Returns: "x", Example: "x", Table: true, Impl: bind.Pure(func(t *target) (*target, error) { return t, nil })}, {
			Name: "say", Doc: "x", Example: "x", Impl: bind.Free(func(c *bind.Call, a *said) error { c.Log.Info(a.Text); return nil }),
		}},
		Types: []*bind.Type{bind.Handle[target](
			"outside.Target", 1, "x",
			attempt(), pause(), connect(), echo(),
			method("append", func(_ *bind.Call, t *target) error { return appendLine(t.File) }),
			&bind.Func{Name: "guarded", Doc: "x", Returns: "true", Example: "x", Impl: bind.Effectful(bind.Effect[target, none, bool, bool]{
				Do:          func(_ *bind.Call, t *target, _ *none, _ bool) (bool, error) { return true, appendLine(t.File) },
				WindowBound: true,
			})},
			&bind.Func{Name: "keep", Doc: "x", Returns: "true", Example: "x", Impl: bind.Effectful(bind.Effect[target, none, bool, bool]{
				Do:   func(_ *bind.Call, t *target, _ *none, _ bool) (bool, error) { return true, appendLine(t.File) },
				Undo: func(_ *bind.Call, t *target, _ *none, _ *bool) error { return os.Remove(t.File) },
			})},
			method("die_once", func(_ *bind.Call, t *target) error {
				if lines(t.File) == 0 {
					_ = appendLine(t.File)
					_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				}
				return nil
			}),
			method("fatal", func(_ *bind.Call, t *target) error {
				_ = appendLine(t.File)
				log.Fatalf("a library that takes the process with it")
				return nil
			}),
			method("hang", func(_ *bind.Call, t *target) error {
				_ = appendLine(t.File)
				for i := 0; ; i++ {
					if i < 0 {
						return nil
					}
				}
			}),
			&bind.Func{Name: "secret", Doc: "x", Returns: "its length", Example: "x", Impl: bind.Read(func(c *bind.Call, _ *target, _ *none) (int, error) {
				h, _ := secret.Named("TOKEN")
				v, err := c.Secret(h)(c.Context)
				c.Log.Info("the token is " + v)
				return len(v), err
			})},
			&bind.Func{Name: "user", Doc: "x", Returns: "nothing", Example: "x", Impl: bind.Read(func(c *bind.Call, _ *target, _ *none) (int, error) {
				h, _ := secret.Named("USER")
				v, err := c.UserName(h)(c.Context)
				c.Log.Info(v + " is an " + v + "istrator")
				return len(v), err
			})},
		)},
	}}
}

func appendLine(file string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString("x\n")
	return errors.Join(err, f.Close())
}

func lines(file string) int {
	data, _ := os.ReadFile(file)
	return strings.Count(string(data), "\n")
}

type world struct {
	t       *testing.T
	journal *journal.Journal
	parent  *worker.Parent
	file    string
	dir     string // what scripts may write

	mu    sync.Mutex
	steps map[string]chan struct{} // closed when a step of the name has started
}

// started returns what is closed when a step of the name has started.
func (w *world) started(step string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.steps[step] == nil {
		w.steps[step] = make(chan struct{})
	}
	return w.steps[step]
}

func newWorld(t *testing.T) *world {
	t.Helper()
	state := t.TempDir()
	w := &world{t: t, dir: filepath.Join(state, "accounts"), steps: map[string]chan struct{}{}}
	w.file = filepath.Join(w.dir, "outside")
	var err error
	if w.journal, err = journal.Open(t.Context(), state, journal.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.journal.Close() })
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.parent = &worker.Parent{
		Journal: w.journal, Control: control.New(w.journal, clockwork.NewRealClock()), Clock: clockwork.NewRealClock(), Redactor: &secret.Redactor{}, Secrets: secret.Map{"TOKEN": "hunter2-hunter2", "USER": "admin"},
		Spawner: worker.Exec{
			Path: exe, Env: []string{childVariable + "=1"}, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
			Limits: worker.Limits{Files: 200}, Jail: &worker.Jail{Write: []string{w.dir}},
		},
		Observe: func(r journal.Record) {
			step, ok := r.(journal.StepStarted)
			if !ok {
				return
			}
			started := w.started(step.Name)
			select {
			case <-started:
			default:
				close(started)
			}
		},
	}
	return w
}

func (w *world) job(body string) worker.Job {
	src := fmt.Sprintf("local o = require(\"outside\").target { file = %q }\nreturn playbook { run = function(ctx)\n%s\nend }", w.file, body)
	return worker.Job{Playbook: "p", Files: map[string]string{"p.lua": src}, State: w.journal.Dir(), Network: grant.Options{}}
}

func (w *world) run(body string) (*run.Outcome, string) {
	w.t.Helper()
	var id string
	out, err := w.parent.Begin(w.t.Context(), w.job(body), worker.Ask{}, func(run string) { id = run })
	if err != nil {
		w.t.Fatal(err)
	}
	return out, id
}

func (w *world) logText(id string) string {
	w.t.Helper()
	list, err := w.journal.Logs(w.t.Context(), id, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range list {
		fmt.Fprintln(&b, l.Message, string(l.Fields))
	}
	return b.String()
}

func TestRunsInAProcessOfItsOwn(t *testing.T) {
	w := newWorld(t)
	out, id := w.run(`ctx:step("one", function() return o:append() end) ctx:step("two", function() return o:append() end)`)
	if out.Status != journal.Done || lines(w.file) != 2 {
		t.Fatalf("%+v, %d lines", out, lines(w.file))
	}
	if left, _ := os.ReadDir(filepath.Join(w.journal.Dir(), "runs")); len(left) != 0 {
		t.Errorf("locks are left: %v", left)
	}
	r, err := w.journal.Run(t.Context(), id)
	if err != nil || r.Status != journal.Done {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestBlackoutKeepsChangesBack(t *testing.T) {
	w := newWorld(t)
	job := w.job(`ctx:step("one", function() return o:append() end) ctx:step("two", function() return o:guarded() end)`)
	job.Blackouts = []string{time.Now().Add(-24*time.Hour).Format(time.DateOnly) + ".." + time.Now().Add(48*time.Hour).Format(time.DateOnly)}
	var id string
	out, err := w.parent.Begin(t.Context(), job, worker.Ask{}, func(run string) { id = run })
	if err != nil || out.Status != journal.Waiting || out.Reason != "window" || lines(w.file) != 1 || time.Until(out.Until) < 24*time.Hour {
		t.Fatalf("%+v, %v, %d lines", out, err, lines(w.file))
	}
	job.Now = true
	if out, err := w.parent.Resume(t.Context(), job, id); err != nil || out.Status != journal.Done || lines(w.file) != 2 {
		t.Errorf("now: %+v, %v, %d lines", out, err, lines(w.file))
	}
}

func TestHooksForAllSeeTheRun(t *testing.T) {
	w := newWorld(t)
	job := w.job(`ctx:step("one", function() return o:append() end)`)
	job.Files["hooks/all.lua"] = `local log = require "outside"
		return { start = function(ctx) log.say("start " .. ctx.playbook) end, success = function(ctx, e) log.say("success " .. e.status) end, finish = function() error "broken hook" end }`
	var id string
	out, err := w.parent.Begin(t.Context(), job, worker.Ask{}, func(run string) { id = run })
	if err != nil || out.Status != journal.Done {
		t.Fatalf("%+v, %v", out, err)
	}
	text := w.logText(id)
	for _, want := range []string{"start p", "success done", "hook failed"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%q is not there once:\n%s", want, text)
		}
	}
}

func TestDrainStopsWhereAStepEnds(t *testing.T) {
	w := newWorld(t)
	w.parent.Observe = func(r journal.Record) {
		if _, ok := r.(journal.EffectMarked); ok {
			w.parent.Drain()
		}
	}
	out, id := w.run(`ctx:step("one", function() return o:append() end) ctx:step("two", function() return o:append() end)`)
	if out.Status != run.Replaying || lines(w.file) != 1 {
		t.Fatalf("%+v, %d lines", out, lines(w.file))
	}
	if out, err := w.parent.Resume(t.Context(), w.job(""), id); err != nil || out.Status != run.Replaying || lines(w.file) != 1 {
		t.Fatalf("resumed while draining: %+v, %v, %d lines", out, err, lines(w.file))
	}
	next := &worker.Parent{Journal: w.journal, Spawner: w.parent.Spawner, Secrets: w.parent.Secrets, Redactor: w.parent.Redactor, Clock: w.parent.Clock}
	if out, err := next.Resume(t.Context(), w.job(""), id); err != nil || out.Status != journal.Done || lines(w.file) != 2 {
		t.Errorf("%+v, %v, %d lines", out, err, lines(w.file))
	}
}

// A run that waits has no step that ends soon: it stops where it waits, and the
// next process continues there.
func TestDrainStopsWhereARunWaits(t *testing.T) {
	w := newWorld(t)
	ready := filepath.Join(w.dir, "ready")
	job := w.job(fmt.Sprintf(`ctx:poll("asking", { within = "1m", every = "29s" }, function() return o:try("read", %q) == "<nil>" end)`, ready))
	waits := make(chan struct{})
	w.parent.Observe = func(r journal.Record) {
		if line, ok := r.(journal.Logged); ok && line.Message == "not yet" {
			close(waits)
		}
	}
	ended := make(chan *run.Outcome, 1)
	started := make(chan string, 1)
	go func() {
		out, err := w.parent.Begin(t.Context(), job, worker.Ask{}, func(id string) { started <- id })
		if err != nil {
			t.Error(err)
		}
		ended <- out
	}()
	id := <-started
	<-waits
	w.parent.Drain()
	select {
	case out := <-ended:
		if out == nil || out.Status != run.Replaying {
			t.Fatalf("%+v", out)
		}
	case <-time.After(patience):
		t.Fatal("it waits to the end")
	}
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	next := &worker.Parent{Journal: w.journal, Spawner: w.parent.Spawner, Secrets: w.parent.Secrets, Redactor: w.parent.Redactor, Clock: w.parent.Clock}
	if out, err := next.Resume(t.Context(), job, id); err != nil || out.Status != journal.Done {
		t.Errorf("%+v, %v", out, err)
	}
}

// A person answers while the run's process is still at its last hook: what that
// writes is too late, and harms nothing.
func TestAnAnswerBeforeTheProcessHasEnded(t *testing.T) {
	w := newWorld(t)
	pid := w.file + ".pid"
	job := w.job(`ctx:approve("go?") ctx:step("one", function() return o:append() end)`)
	job.Files["p.lua"] = strings.Replace(job.Files["p.lua"], "playbook {", `playbook { on = { wait = function() o:pause() require("outside").say { text = "too late" } end },`, 1)
	started := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		out, err := w.parent.Begin(t.Context(), job, worker.Ask{}, func(run string) { started <- run })
		if err == nil && out.Status != journal.Waiting {
			err = fmt.Errorf("%+v", out)
		}
		ended <- err
	}()
	for look := time.NewTicker(5 * time.Millisecond); ; <-look.C {
		if _, err := os.Stat(pid); err == nil {
			break
		}
		if len(ended) > 0 {
			t.Fatal(<-ended)
		}
	}
	id := <-started
	epoch, err := w.journal.Adopt(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	h, err := w.journal.History(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	stamp := journal.Stamp{Run: id, Epoch: epoch, At: time.Now()}
	rec, asked, err := run.DecideApproval(h, stamp, true, run.Approval{By: "alice", At: stamp.At})
	if err != nil || !asked {
		t.Fatal(asked, err)
	}
	if err := w.journal.Write(t.Context(), rec, journal.RunWaiting{Stamp: stamp, For: "a free worker", Until: stamp.At}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.file+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the first process: %v", err)
	}
	out, err := w.parent.Resume(t.Context(), job, id)
	if err != nil || out.Status != journal.Done || lines(w.file) != 1 {
		t.Errorf("%+v, %v, %d lines", out, err, lines(w.file))
	}
	if h, err = w.journal.History(t.Context(), id); err != nil || h.Run.Deaths != 0 || h.Run.Failures != 0 {
		t.Errorf("%+v, %v", h.Run, err)
	}
}

func TestDeathIsTakenUpAgain(t *testing.T) {
	w := newWorld(t)
	out, id := w.run(`ctx:step("one", function() return o:die_once() end)`)
	if out.Status != journal.Done {
		t.Fatalf("%+v", out)
	}
	if text := w.logText(id); !strings.Contains(text, "died in step one: signal: killed") {
		t.Errorf("log:\n%s", text)
	}
}

func TestSecretsComeOverThePairAndAreMasked(t *testing.T) {
	w := newWorld(t)
	out, id := w.run(`ctx:record { subject = "x", data = ctx:step("one", function() return o:secret() end) }`)
	if out.Status != journal.Done {
		t.Fatalf("%+v", out)
	}
	if text := w.logText(id); strings.Contains(text, "hunter2") || !strings.Contains(text, "the token is [secret]") {
		t.Errorf("log:\n%s", text)
	}
	// The name of a user is not a secret, and often a part of a common word.
	if out, id = w.run(`ctx:step("one", function() return o:user() end)`); out.Status != journal.Done || !strings.Contains(w.logText(id), "admin is an administrator") {
		t.Errorf("%+v, log:\n%s", out, w.logText(id))
	}
	if got := w.parent.Redactor.Redact("OS administrator"); got != "OS administrator" {
		t.Errorf("the parent's log says %q", got)
	}
	delete(w.parent.Secrets.(secret.Map), "TOKEN")
	if out, _ := w.run(`ctx:step("one", function() return o:secret() end)`); out.Status != journal.Failed || out.Error.Kind != problem.NotFound || !strings.Contains(out.Error.Hint, "TOKEN") {
		t.Errorf("an unknown secret: %+v", out.Error)
	}
}

// A child in an endless loop of Go code ends when its parent lets go of it, and
// the run continues in the next process.
func TestHangingChildEndsWithThePair(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-w.started("one")
		cancel()
	}()
	var id string
	_, err := w.parent.Begin(ctx, w.job(`ctx:step("one", function() return o:hang() end)`), worker.Ask{}, func(run string) { id = run })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	once, done := context.WithCancel(t.Context())
	done()
	lock, err := journal.LockRun(once, w.journal.Dir(), id)
	if err != nil {
		t.Fatalf("the child still lives: %v", err)
	}
	_ = lock.Release()
	job := w.job("")
	job.Mode = run.Cancel
	if out, err := w.parent.Resume(t.Context(), job, id); err != nil || out.Status != journal.Cancelled {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestCancelReachesTheScript(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-w.started("one")
		cancel(run.ErrCancelled)
	}()
	out, err := w.parent.Begin(ctx, w.job(`pcall(function() ctx:step("one", function() while true do end end) end)`), worker.Ask{}, nil)
	if err != nil || out.Status != journal.Cancelled {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestLoadTellsTheGoodFromTheBroken(t *testing.T) {
	w := newWorld(t)
	job := worker.Job{Files: map[string]string{
		"good.lua": "return playbook { run = function(ctx) end }", "bad.lua": "return playbook {",
		"impure.lua": `require("outside").target { file = "x" }:append()`,
	}}
	loaded, err := w.parent.Load(t.Context(), job)
	if err != nil || len(loaded.Playbooks) != 1 || len(loaded.Problems) != 2 {
		t.Fatalf("%+v, %v", loaded, err)
	}
	if p := loaded.Problems[1]; p.Place.File != "impure.lua" || !strings.Contains(p.Message, "while the script is loaded") {
		t.Errorf("%+v", p)
	}
	job.Playbook = "godo"
	var missing *problem.Error
	if _, err := w.parent.Begin(t.Context(), job, worker.Ask{}, nil); !errors.As(err, &missing) || !strings.Contains(missing.Hint, "did you mean good?") {
		t.Errorf("%v", err)
	}
	job.Playbook = "bad"
	if _, err := w.parent.Begin(t.Context(), job, worker.Ask{}, nil); !errors.As(err, &missing) || missing.Place == nil || missing.Place.File != "bad.lua" {
		t.Errorf("%v", err)
	}
}

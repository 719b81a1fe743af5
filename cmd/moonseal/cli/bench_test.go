package cli

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/bundle"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/journal/journaltest"
	"moonseal/runtime/secret"
	"moonseal/runtime/worker"
	"moonseal/scripts"
)

// startScript does next to nothing: what is measured is the way to its step.
const startScript = `local acme, cucm, dns, log = require "acme", require "cucm", require "dns", require "log"
return playbook { run = function(ctx) ctx:step("first", function() return true end) end }`

// built is the program itself, built for the benchmark, in a folder with a config
// and scripts: the one that is measured, and those that ship.
type built struct{ exe, dir string }

func build(b *testing.B) *built {
	b.Helper()
	w := &built{dir: b.TempDir()}
	w.exe = filepath.Join(w.dir, "moonseal")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-buildvcs=false", "-o", w.exe, "..").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	files := map[string]string{"moonseal.yaml": "scripts: scripts\nstate: state\n", "scripts/start.lua": startScript}
	shipped := scripts.Playbooks()
	names, err := fs.Glob(shipped, "*.lua")
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(shipped, name)
		if err != nil {
			b.Fatal(err)
		}
		files["scripts/"+name] = string(text)
	}
	for name, text := range files {
		if err := atomicfile.WriteFile(filepath.Join(w.dir, name), []byte(text)); err != nil {
			b.Fatal(err)
		}
	}
	return w
}

// BenchmarkRunToFirstStep: from the execution of `moonseal run` to the instant at
// which its first step starts, as its journal has it. The floor, `moonseal version`, is
// the program that starts and ends; a run needs two of those.
func BenchmarkRunToFirstStep(b *testing.B) {
	w := build(b)
	var took, floor []time.Duration
	for b.Loop() {
		floor = append(floor, journaltest.Time(b, exec.CommandContext(b.Context(), w.exe, "version").Run))
		begin := time.Now()
		out, err := exec.CommandContext(b.Context(), w.exe, "run", "start", "--config", filepath.Join(w.dir, "moonseal.yaml")).CombinedOutput()
		if err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		took = append(took, w.firstStep(b).Sub(begin))
	}
	report(b, "first-step", took, floor)
}

// report reports what took how long in the median, what its floor did, and their ratio.
func report(b *testing.B, what string, took, floor []time.Duration) {
	b.Helper()
	b.ReportMetric(milliseconds(took), "ms/"+what)
	b.ReportMetric(milliseconds(floor), "ms/floor")
	b.ReportMetric(milliseconds(took)/milliseconds(floor), "ratio")
}

func milliseconds(list []time.Duration) float64 {
	return float64(journaltest.Median(list).Microseconds()) / 1000
}

// firstStep returns when the newest run's first step started.
func (w *built) firstStep(b *testing.B) time.Time {
	b.Helper()
	j, err := journal.OpenReadOnly(b.Context(), filepath.Join(w.dir, "state"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	runs, err := j.Runs(b.Context(), journal.Filter{Limit: 1})
	if err != nil {
		b.Fatal(err)
	}
	h, err := j.History(b.Context(), runs[0].ID)
	if err != nil || len(h.Steps) != 1 {
		b.Fatal(h, err)
	}
	return h.Steps[0].Started
}

// timedSpawner notes when it starts a child.
type timedSpawner struct {
	worker.Spawner
	at time.Time
}

func (s *timedSpawner) Start(ctx context.Context, lock *journal.RunLock) (worker.Process, error) {
	s.at = time.Now()
	return s.Spawner.Start(ctx, lock)
}

// BenchmarkSpawnToFirstStep: from the spawning of a run's process to its first
// step. The floor, `moonseal version`, is a process of the
// same program.
func BenchmarkSpawnToFirstStep(b *testing.B) {
	w := build(b)
	j, err := journal.Open(b.Context(), filepath.Join(w.dir, "state"), journal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	a := &app{getenv: os.Getenv, stderr: os.Stderr, clock: clockwork.NewRealClock(), config: filepath.Join(w.dir, "moonseal.yaml")}
	cfg, err := a.loadConfig()
	if err != nil {
		b.Fatal(err)
	}
	work, err := job(cfg)
	if err != nil {
		b.Fatal(err)
	}
	tree, err := bundle.Read(cfg.Scripts)
	if err != nil {
		b.Fatal(err)
	}
	work.Files = tree.Files
	work.Playbook = "start"
	spawner := &timedSpawner{Spawner: worker.Exec{Path: w.exe, Args: []string{workerCommand}, Env: a.wire(cfg).environment(), Limits: worker.Limits{Memory: int64(cfg.Limits.Memory)}, Jail: &worker.Jail{Write: []string{cfg.State}}}}
	var took, floor []time.Duration
	p := &worker.Parent{
		Journal: j, Build: unreleased + " " + buildID(w.exe), Control: control.New(j, a.clock), Spawner: spawner, Secrets: secret.Map{}, Redactor: &secret.Redactor{}, Embedded: scripts.Embedded(), Clock: a.clock,
		Observe: func(rec journal.Record) {
			if step, ok := rec.(journal.StepStarted); ok {
				took = append(took, step.At.Sub(spawner.at))
			}
		},
	}
	for b.Loop() {
		floor = append(floor, journaltest.Time(b, exec.CommandContext(b.Context(), w.exe, "version").Run))
		if out, err := p.Begin(b.Context(), work, worker.Ask{}, nil); err != nil || out.Status != journal.Done {
			b.Fatal(out, err)
		}
	}
	report(b, "first-step", took, floor)
}

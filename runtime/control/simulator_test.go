// The simulator lets a machine of runs, processes and people do at random what they
// can do, on the real engine, journal and control, and compares what becomes of the
// world with what becomes of it when nothing goes wrong.
//
//	go test -run '^TestSimulator$' ./runtime/control
//	go test -run '^TestSimulator$' ./runtime/control -rapid.checks 200000
//
// A case that fails is made small, printed as a playbook and a trail of what was done,
// and kept in testdata/rapid. To see it again:
//
//	go test -run '^TestSimulator$' ./runtime/control -rapid.failfile runtime/control/testdata/rapid/…
//
// The fail file of a bug that was fixed is committed: each run of the test begins with
// those. A seed, as in -rapid.seed 17, begins the same sequence of cases.
package control_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"moonseal/runtime/control"
	"moonseal/runtime/journal"
)

func setDefault(name string, value int) {
	set := os.Getenv("RAPID_"+map[string]string{"rapid.checks": "CHECKS", "rapid.steps": "STEPS"}[name]) != ""
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	if !set {
		_ = flag.Set(name, strconv.Itoa(value))
	}
}

func TestSimulator(t *testing.T) {
	// make test has a few cases for the race detector, with which each takes ten times as
	// long, and most without.
	cases := 1000
	switch {
	case os.Getenv("MOONSEAL_TEST") == "raced":
		cases = 100
	case os.Getenv("MOONSEAL_TEST") == "full" && !raceEnabled:
		cases = 3000
	}
	setDefault("rapid.checks", cases)
	setDefault("rapid.steps", 6)
	template := emptyJournal(t)
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // the states of Lua are large, and short-lived
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) { simulate(t, template) })
	})
}

func simulate(t *rapid.T, template string) {
	m := newMachine(t, template)
	m.add(drawBook(t), m.drawLocks(t))
	t.Repeat(m.actions())
	m.end(t)
}

// emptyJournal returns a journal's file: to copy it is faster than to make one.
func emptyJournal(t *testing.T) string {
	dir := t.TempDir()
	j, err := journal.Open(context.Background(), dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "moonseal.db")
}

func newMachine(t *rapid.T, template string) *machine {
	m := &machine{t: t, clock: newWallClock(), holder: map[string]string{}}
	dir, err := os.MkdirTemp(shared(), "moonseal-simulator-")
	m.must(err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m.dir = dir
	empty, err := os.ReadFile(template)
	m.must(err)
	m.must(os.WriteFile(filepath.Join(dir, "moonseal.db"), empty, 0o600))
	m.journal, err = journal.Open(t.Context(), dir, journal.Options{Clock: m.clock, Rand: rand.NewChaCha8([32]byte{})})
	m.must(err)
	t.Cleanup(func() { _ = m.journal.Close() })
	known, err := newSimWorld(m.clock, nil).registry(false)
	m.must(err)
	m.control = control.New(m.journal, m.clock).Knowing(known)
	return m
}

// shared is a folder in memory, if there is one: a sync costs nothing there.
func shared() string {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		return "/dev/shm"
	}
	return ""
}

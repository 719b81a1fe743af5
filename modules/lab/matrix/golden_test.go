package matrix

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/control"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/run"
	"moonseal/runtime/secret"
	"moonseal/runtime/worker"
	"moonseal/scripts"
)

// goldens are the states that older versions have written, by version; see
// runtime/journal/testdata/golden/generate_test.go.
var goldens = filepath.Join("..", "..", "..", "runtime", "journal", "testdata", "golden")

// golden is a state directory of an older version, opened by this one.
type golden struct {
	t       *testing.T
	state   string
	journal *journal.Journal
	control *control.Control
	clock   *clock
	world   *played
	history *journal.History // as it was found
}

// unpack writes a packed state directory into a new one.
func unpack(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t)
	for in := tar.NewReader(zip); ; {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(io.LimitReader(in, 64<<20))
		to := filepath.Join(dir, filepath.FromSlash(head.Name))
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, body, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// openGolden opens a state as a daemon does. Its clock is a minute after the last record.
func openGolden(t *testing.T, path string) *golden {
	t.Helper()
	g := &golden{t: t, state: unpack(t, path), clock: newClock()}
	var err error
	if g.journal, err = journal.Open(t.Context(), g.state, journal.Options{Clock: g.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.journal.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := control.TakeOver(t.Context(), g.journal); err != nil {
		t.Fatal(err)
	}
	g.control = control.New(g.journal, g.clock)
	runs, err := g.journal.Runs(t.Context(), journal.Filter{})
	if err != nil || len(runs) != 1 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	g.history = g.read()
	g.clock.jump(time.Until(g.history.Run.Updated.Add(time.Minute)))
	return g
}

func (g *golden) read() *journal.History {
	g.t.Helper()
	runs, err := g.journal.Runs(g.t.Context(), journal.Filter{})
	if err != nil {
		g.t.Fatal(err)
	}
	h, err := g.journal.History(g.t.Context(), runs[0].ID)
	if err != nil {
		g.t.Fatal(err)
	}
	return h
}

// resume takes the run up until it ends, or only a decision could let it continue.
func (g *golden) resume(mode run.Mode) *run.Outcome {
	g.t.Helper()
	parent := &worker.Parent{
		Journal: g.journal, Control: g.control, Spawner: children{g.clock, g.world.modules}, Redactor: &secret.Redactor{},
		Secrets: secret.Map{}, Embedded: scripts.Embedded(), Clock: g.clock,
	}
	job := worker.Job{State: g.state, Network: grant.Options{}, Mode: mode}
	for range 8 {
		out, err := parent.Resume(g.t.Context(), job, g.history.Run.ID)
		if err != nil {
			g.t.Fatal(err)
		}
		if out.Status != journal.Waiting {
			return out
		}
		if out.Until.IsZero() {
			if _, err := g.control.Approve(g.t.Context(), g.history.Run.ID, control.Decision{By: "alice"}); err != nil {
				g.t.Fatal(err)
			}
		}
		g.clock.jump(max(0, out.Until.Sub(g.clock.Now())))
	}
	g.t.Fatal("it still waits")
	return nil
}

// eachGolden calls test for each state of each older version, with a world as it was
// then.
func eachGolden(t *testing.T, test func(t *testing.T, name string, g *golden)) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(goldens, "*", "*.tar.gz"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no states: %v", err)
	}
	worlds := map[string]*played{}
	for _, path := range all {
		version, name := filepath.Base(filepath.Dir(path)), strings.TrimSuffix(filepath.Base(path), ".tar.gz")
		if worlds[version] == nil {
			worlds[version] = replay(t, openGolden(t, filepath.Join(filepath.Dir(path), "done.tar.gz")).history)
		}
		t.Run(version+"/"+name, func(t *testing.T) {
			g := openGolden(t, path)
			g.world = worlds[version].in(t, g.history, happened(name))
			test(t, name, g)
		})
	}
}

// happened reports whether the call that was open when the old version was killed had
// happened: its answer was read, or the whole of it was done and the answer held back.
func happened(name string) bool {
	if strings.HasPrefix(name, "after-answer") || name == "daemon" {
		return true
	}
	whole := []string{"cucm.csr", "acme.new-account", "acme.new-order", "dns.cloudflare.create", "acme.challenge", "acme.finalize", "acme.certificate", "cucm.upload-identity"}
	for _, call := range whole {
		if strings.HasPrefix(name, "hold-after-"+call) {
			return true
		}
	}
	return false
}

// Every run that an older version left unfinished ends as if nothing had interrupted
// it, and what an ended one left is cleaned up.
func TestGoldenRunsResume(t *testing.T) {
	eachGolden(t, func(t *testing.T, name string, g *golden) {
		want := journal.Done
		switch {
		case !g.history.Run.Ended.IsZero():
			if name == "kept-undo" {
				g.resume(run.Cleanup)
			}
		case name == "daemon": // it was being cancelled
			want = journal.Cancelled
			if out := g.resume(run.Continue); out.Status != want {
				t.Fatalf("%+v", out)
			}
		default:
			if g.history.Run.Status == journal.Parked {
				if _, err := g.control.Resume(t.Context(), g.history.Run.ID, control.Decision{By: "alice", Verdicts: run.Verdicts{"": {As: run.AsLook}}}); err != nil {
					t.Fatal(err)
				}
			}
			if out := g.resume(run.Continue); out.Status != want {
				t.Fatalf("%+v: %v", out, out.Error)
			}
		}
		g.ended(want)
		ledger, _ := g.world.counts()
		for _, e := range g.read().Effects {
			most := 1
			if happened(name) && open(g.history, e.Fn) && !g.world.probed[e.Fn] {
				most = 2 // its answer was lost, and once more does no harm
			}
			if want == journal.Done && e.State == journal.EffectOpen {
				t.Errorf("whether %s has happened is not known at the end", e.Fn)
			}
			if ledger[e.Fn] < 1 && want == journal.Done || ledger[e.Fn] > most {
				t.Errorf("%s was called %d times", e.Fn, ledger[e.Fn])
			}
		}
		if want == journal.Done && len(ledger) != len(g.world.probed) {
			t.Errorf("the calls: %v", ledger)
		}
	})
}

// Every unfinished run can be cancelled too, and leaves nothing.
func TestGoldenRunsCancel(t *testing.T) {
	eachGolden(t, func(t *testing.T, _ string, g *golden) {
		if !g.history.Run.Ended.IsZero() {
			t.Skip("it has ended")
		}
		ending := g.history.Run.Status == journal.Ending
		if _, err := g.control.Cancel(t.Context(), g.history.Run.ID, control.Decision{By: "alice"}); err != nil {
			t.Fatal(err)
		}
		out := g.resume(run.Continue)
		if out.Status != journal.Cancelled && !ending {
			t.Fatalf("%+v: %v", out, out.Error)
		}
		g.ended(out.Status)
	})
}

// ended checks that the run has ended and left nothing, and that the state directory
// holds nothing of the older version but the copy of its journal.
func (g *golden) ended(want journal.Status) {
	g.t.Helper()
	h := g.read()
	if h.Run.Ended.IsZero() || h.Run.Status != want {
		g.t.Errorf("the run is %s: %v", h.Run.Status, h.Run.Error)
	}
	ledger, undone := g.world.counts()
	const present = "dns.Zone:present"
	before := false // it was undone
	for _, u := range g.history.Undos {
		before = before || u.Fn == present && u.State == journal.UndoIsDone
	}
	if ledger[present] > 0 && undone[present] == 0 && !before {
		g.t.Errorf("%s was not undone", present)
	}
	undos, err := g.journal.Undos(g.t.Context(), journal.UndoPending)
	if err != nil || len(undos) > 0 {
		g.t.Errorf("left to undo: %v, %v", undos, err)
	}
	for _, file := range []string{"queue.db", "paused.json", "cancelled.json", "schedules.json"} {
		if _, err := os.Stat(filepath.Join(g.state, file)); err == nil {
			g.t.Errorf("%s is left", file)
		}
	}
	if copies, err := filepath.Glob(filepath.Join(g.state, "moonseal.db.v*-backup")); len(copies) != 1 {
		g.t.Errorf("copies of the old journal: %v, %v", copies, err)
	}
}

func open(h *journal.History, fn string) bool {
	for _, e := range h.Effects {
		if e.Fn == fn && e.State == journal.EffectOpen {
			return true
		}
	}
	return false
}

// What the daemon of an older version kept beside the journal is in it now.
func TestGoldenDaemonsFiles(t *testing.T) {
	all, err := filepath.Glob(filepath.Join(goldens, "*", "daemon.tar.gz"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no states: %v", err)
	}
	for _, path := range all {
		g := openGolden(t, path)
		paused, err := g.journal.Paused(t.Context())
		if err != nil || len(paused) != 2 || !paused.Has("cucm-tomcat") || !paused.Has("any") {
			t.Errorf("paused: %v, %v", paused, err)
		}
		schedules, err := g.journal.Schedules(t.Context())
		if err != nil || schedules["cucm-tomcat"].Schedule == "" {
			t.Errorf("schedules: %v, %v", schedules, err)
		}
		if g.history.Run.CancelAsked.IsZero() {
			t.Error("the run is not cancelled any more")
		}
	}
}

// The copy that an upgrade makes is taken by restore, which brings it up to date again
// and parks what was unfinished.
func TestGoldenCopiesAreRestored(t *testing.T) {
	all, err := filepath.Glob(filepath.Join(goldens, "*", "after-mark-cucm.Node.upload.tar.gz"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no states: %v", err)
	}
	for _, path := range all {
		g := openGolden(t, path)
		copies, err := filepath.Glob(filepath.Join(g.state, "moonseal.db.v*-backup"))
		if err != nil || len(copies) != 1 {
			t.Fatalf("%v, %v", copies, err)
		}
		dir := folder(t)
		parked, err := control.Restore(t.Context(), dir, copies[0], journal.Options{Clock: g.clock}, control.Decision{By: "alice"})
		if err != nil || parked != 1 {
			t.Fatalf("%d parked, %v", parked, err)
		}
		j, err := journal.Open(t.Context(), dir, journal.Options{Clock: g.clock})
		if err != nil {
			t.Fatal(err)
		}
		r, err := j.Run(t.Context(), g.history.Run.ID)
		if err := errors.Join(err, j.Close()); err != nil || r.Status != journal.Parked {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

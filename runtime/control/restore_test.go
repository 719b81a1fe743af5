package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// lay puts files into the state directory, as older versions left them.
func lay(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func there(dir string, files map[string]string) []string {
	var out []string
	for name := range files {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (d *desk) oldFiles(cancelled string) map[string]string {
	return map[string]string{
		"paused.json": `{"":true,"dfw":true}`, "cancelled.json": `{"` + cancelled + `":true,"0123456789":true}`,
		"schedules.json": `{"dfw":{"schedule":"daily","since":"2026-10-01T00:00:00Z"}}`,
		"queue.db":       "x", "queue.db-wal": "x", "queue.db-shm": "x", "queue.db.damaged": "x",
	}
}

func TestTakeOver(t *testing.T) {
	d := newDesk(t)
	ctx, dir := t.Context(), d.journal.Dir()
	s := d.in("running")
	d.must(TakeOver(ctx, d.journal)) // there is nothing
	files := d.oldFiles(s.Run)
	lay(t, dir, files)
	d.must(TakeOver(ctx, d.journal))
	if left := there(dir, files); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	schedules, err := d.journal.Schedules(ctx)
	d.must(err)
	paused, err := d.journal.Paused(ctx)
	if err != nil || len(paused) != 2 || !paused.Has("ams") || !paused["dfw"].Equal(t0) || schedules["dfw"].Schedule != "daily" || !schedules["dfw"].Since.Equal(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)) ||
		!d.history(s.Run).Run.CancelAsked.Equal(t0) {
		t.Errorf("%v, %v, %v", paused, schedules, err)
	}
	// Killed before all files were gone: the same again, and nothing of it is a decision.
	before := d.all(s.Run)
	d.clock.Advance(time.Hour)
	for _, left := range []map[string]string{files, {"cancelled.json": files["cancelled.json"]}, {"queue.db-shm": "x"}} {
		lay(t, dir, left)
		d.must(TakeOver(ctx, d.journal))
		if now := d.all(s.Run); now != before || len(there(dir, files)) > 0 {
			t.Errorf("it was\n%s\nand is\n%s\nleft: %v", before, now, there(dir, files))
		}
	}
	if all := d.decisions(""); len(all) > 0 {
		t.Errorf("%+v", all)
	}
	// What is decided since stays so.
	d.must(d.Unpause(ctx, "", Decision{By: "alice"}))
	d.must(TakeOver(ctx, d.journal))
	if paused, err := d.journal.Paused(ctx); err != nil || paused.Has("ams") {
		t.Errorf("%v, %v", paused, err)
	}
}

func TestTakeOverOfADamagedFile(t *testing.T) {
	for name, body := range map[string]string{"paused.json": `{"dfw":tr`, "cancelled.json": "", "schedules.json": `["dfw"]`} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			s := d.in("running")
			files := d.oldFiles(s.Run)
			files[name] = body
			lay(t, d.journal.Dir(), files)
			before := d.all(s.Run)
			err := TakeOver(t.Context(), d.journal)
			path := filepath.Join(d.journal.Dir(), name)
			if e := problem.From(err); err == nil || e.Kind != problem.Usage || e.Target != path || !strings.Contains(e.Hint, "remove it") {
				t.Errorf("%+v", err)
			}
			if now := d.all(s.Run); now != before || len(there(d.journal.Dir(), files)) != len(files) {
				t.Errorf("something was taken over; left: %v", there(d.journal.Dir(), files))
			}
			d.must(os.Remove(path))
			d.must(TakeOver(t.Context(), d.journal))
			if left := there(d.journal.Dir(), files); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// copied is a backup of the journal.
func (d *desk) copied() string {
	d.t.Helper()
	f, err := os.Create(filepath.Join(d.t.TempDir(), "copy"))
	d.must(err)
	d.must(d.journal.Backup(d.t.Context(), f))
	d.must(f.Close())
	return f.Name()
}

func TestRestore(t *testing.T) {
	old := newDesk(t)
	ids := map[string]string{}
	for state := range states() {
		ids[state] = old.in(state).Run
	}
	dir := t.TempDir()
	lay(t, dir, old.oldFiles(ids["running"]))
	clock := clockwork.NewFakeClockAt(t0.Add(time.Hour))
	parked, err := Restore(t.Context(), dir, old.copied(), journal.Options{Clock: clock}, Decision{By: "alice", Ticket: "CHG1"})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != "moonseal.db" && e.Name() != "moonseal.lock" {
			t.Errorf("left: %s, %v", e.Name(), err)
		}
	}
	j, err := journal.Open(t.Context(), dir, journal.Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	d := &desk{New(j, clock), t, clock}
	want := 0
	for state, id := range ids {
		before, now := old.history(id), d.history(id)
		if slices.Contains([]string{"parked", "unclear", "ending", "ended", "ended, dirty"}, state) {
			if now.Run.Status != before.Run.Status || now.Run.Epoch != before.Run.Epoch || len(d.decisions(id)) > 0 {
				t.Errorf("%s: it was %+v and is %+v", state, before.Run, now.Run)
			}
			continue
		}
		want++
		all := d.decisions(id)
		if now.Run.Status != journal.Parked || now.Run.Reason == "" || now.Run.Epoch != before.Run.Epoch+1 || len(all) != 1 {
			t.Errorf("%s is %+v, %+v", state, now.Run, all)
			continue
		}
		if all[0].What != journal.DecidedRestore || all[0].By != "alice" || all[0].Ticket != "CHG1" || !all[0].At.Equal(t0.Add(time.Hour)) {
			t.Errorf("%s: %+v", state, all)
		}
	}
	if parked != want {
		t.Errorf("%d are parked, want %d", parked, want)
	}
	all, err := j.Decisions(t.Context(), "")
	if last := len(all) - 1; err != nil || all[last].What != journal.DecidedRestore || all[last].Run != "" || all[last].By != "alice" {
		t.Errorf("who restored is not on record: %+v, %v", all, err)
	}
	was, err := old.journal.Holders(t.Context())
	d.must(err)
	is, err := j.Holders(t.Context())
	if err != nil || len(was) == 0 || fmt.Sprint(was) != fmt.Sprint(is) {
		t.Errorf("locks were %v and are %v, %v", was, is, err)
	}
}

// spy is a clock that tells when it is looked at.
type spy struct {
	clockwork.Clock

	look func()
}

func (s spy) Now() time.Time { s.look(); return s.Clock.Now() }

// A restore that is killed leaves no journal with runs that are not parked.
func TestRestoreParksBeforeTheJournalIsThere(t *testing.T) {
	old := newDesk(t)
	old.in("running")
	dir := filepath.Join(t.TempDir(), "new", "state")
	looks := 0
	clock := spy{clockwork.NewFakeClockAt(t0), func() {
		looks++
		if _, err := os.Stat(filepath.Join(dir, "moonseal.db")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the journal is there: %v", err)
		}
	}}
	if n, err := Restore(t.Context(), dir, old.copied(), journal.Options{Clock: clock}, Decision{By: "alice"}); n != 1 || err != nil || looks == 0 {
		t.Errorf("%d, %v, %d looks", n, err, looks)
	}
}

func TestRefusedRestoreChangesNothing(t *testing.T) {
	old := newDesk(t)
	old.in("running")
	from := old.copied()
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("no journal"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDesk(t)
	s := d.in("running")
	files := d.oldFiles(s.Run)
	lay(t, d.journal.Dir(), files)
	empty := t.TempDir()
	lay(t, empty, files)
	for name, tt := range map[string]struct{ dir, from string }{
		"there is a journal": {d.journal.Dir(), from}, "no copy": {empty, bad}, "nothing": {empty, filepath.Join(empty, "nothing")},
	} {
		if n, err := Restore(t.Context(), tt.dir, tt.from, journal.Options{}, Decision{By: "alice"}); n != 0 || err == nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		if left := there(tt.dir, files); len(left) != len(files) {
			t.Errorf("%s: %v are left", name, left)
		}
		if entries, err := os.ReadDir(tt.dir); err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.IsDir() }) {
			t.Errorf("%s: %v, %v", name, entries, err)
		}
	}
	// A daemon that serves, though its damaged journal was moved away.
	path := filepath.Join(d.journal.Dir(), "moonseal.db")
	d.must(os.Rename(path, path+".damaged"))
	if n, err := Restore(t.Context(), d.journal.Dir(), from, journal.Options{}, Decision{By: "alice"}); n != 0 || !errors.Is(err, journal.ErrLocked) {
		t.Errorf("in use: %d, %v", n, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in use: a journal was put there: %v", err)
	}
	d.must(os.Rename(path+".damaged", path))
	if _, err := os.Stat(filepath.Join(empty, "moonseal.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a journal was made: %v", err)
	}
	if r := d.history(s.Run).Run; r.Status != journal.Running {
		t.Errorf("%+v", r)
	}
}

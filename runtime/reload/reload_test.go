package reload_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/bundle"
	"moonseal/runtime/reload"
)

// world is a folder of scripts under a Reloader.
type world struct {
	t       *testing.T
	dir     string
	r       *reload.Reloader
	applied chan [2]*reload.Snapshot
	log     *lines

	mu    sync.Mutex
	load  func(ctx context.Context, files map[string]string) (*reload.Loaded, error)
	loads [][]string // files that were loaded, by call
}

// lines is a log that several goroutines write and read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), part)
}

func inProcess(ctx context.Context, files map[string]string) (*reload.Loaded, error) {
	b, err := bundle.Load(ctx, &bundle.Tree{Files: files}, bundle.Env{})
	if err != nil {
		return nil, err
	}
	return &reload.Loaded{Playbooks: b.Playbooks, Problems: b.Problems}, nil
}

func newWorld(t *testing.T, files map[string]string) *world {
	t.Helper()
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "scripts"), applied: make(chan [2]*reload.Snapshot, 1000), log: &lines{}, load: inProcess}
	w.mkdir(w.dir)
	for name, text := range files {
		w.put(name, text)
	}
	return w
}

// start starts the Reloader; options may be changed before.
func (w *world) start(change ...func(*reload.Options)) *world {
	w.t.Helper()
	o := reload.Options{
		Dir: w.dir, Log: slog.New(slog.NewTextHandler(w.log, nil)), Debounce: 40 * time.Millisecond, MaxDelay: 400 * time.Millisecond, Rescan: time.Hour,
		Load: func(ctx context.Context, files map[string]string) (*reload.Loaded, error) {
			w.mu.Lock()
			w.loads = append(w.loads, slices.Sorted(maps.Keys(files)))
			load := w.load
			w.mu.Unlock()
			return load(ctx, files)
		},
		Apply: func(old, next *reload.Snapshot) { w.applied <- [2]*reload.Snapshot{old, next} },
	}
	for _, c := range change {
		c(&o)
	}
	w.r = reload.New(o)
	if err := w.r.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.r.Close)
	w.forget()
	return w
}

// by sets what loads from now on.
func (w *world) by(load func(ctx context.Context, files map[string]string) (*reload.Loaded, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.load = load
}

// forget drops what was applied and loaded so far.
func (w *world) forget() {
	for len(w.applied) > 0 {
		<-w.applied
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loads = nil
}

func (w *world) loaded() [][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.loads)
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mkdir(dir string) {
	w.t.Helper()
	w.check(os.MkdirAll(dir, 0o755))
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// put writes a file as a person's editor would who knows no better.
func (w *world) put(name, text string) {
	w.t.Helper()
	w.mkdir(filepath.Dir(w.path(name)))
	w.check(os.WriteFile(w.path(name), []byte(text), 0o600))
}

// until waits for a snapshot that is as is says, and returns what led to it.
func (w *world) until(what string, is func(*reload.Snapshot) bool) [][2]*reload.Snapshot {
	w.t.Helper()
	var all [][2]*reload.Snapshot
	limit := time.After(time.Minute)
	for {
		select {
		case a := <-w.applied:
			all = append(all, a)
			if is(a[1]) {
				return all
			}
		case <-limit:
			w.t.Fatalf("%s: not so after 10 s: %s\n%s", what, show(w.r.Current()), w.log.buf.String())
		}
	}
}

// next waits for the next snapshot and returns what has changed in it.
func (w *world) next() (*reload.Snapshot, reload.Changes) {
	w.t.Helper()
	a := w.until("a reload", func(*reload.Snapshot) bool { return true })
	return a[0][1], a[0][1].Since(a[0][0])
}

// now reloads and returns the snapshot.
func (w *world) now() *reload.Snapshot {
	w.t.Helper()
	s, err := w.r.Reload(w.t.Context())
	w.check(err)
	return s
}

func show(s *reload.Snapshot) string {
	var b strings.Builder
	for _, p := range s.Playbooks {
		fmt.Fprintf(&b, "%s (%s: %v) ", p.Name, p.File, p.Schedule)
	}
	for _, e := range s.Problems {
		fmt.Fprintf(&b, "[%v %v] ", e.Place, e)
	}
	return b.String()
}

// script returns a playbook with schedule, so that versions can be told apart.
func script(schedule string) string {
	return fmt.Sprintf("return playbook { schedule = %q, run = function(ctx) end }\n", schedule)
}

// needy is a script that requires libraries.
func needy(schedule string, libs ...string) string {
	var b strings.Builder
	for _, lib := range libs {
		fmt.Fprintf(&b, "require %q\n", lib)
	}
	return b.String() + script(schedule)
}

func (w *world) wantSchedule(s *reload.Snapshot, name, want string) {
	w.t.Helper()
	p := s.Find(name)
	if p == nil || p.Schedule != want {
		w.t.Errorf("%s is not at %q: %s", name, want, show(s))
	}
}

func (w *world) wantChanges(got reload.Changes, added, changed, removed string) {
	w.t.Helper()
	if a, c, r := strings.Join(got.Added, " "), strings.Join(got.Changed, " "), strings.Join(got.Removed, " "); a != added || c != changed || r != removed {
		w.t.Errorf("added %q, changed %q, removed %q; want %q, %q, %q", a, c, r, added, changed, removed)
	}
}

func TestStart(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": script("1"), "foo/b.lua": needy("2", "lib.util"), "lib/util.lua": "return {}", "bad.lua": "retrun 1"}).start()
	s := w.r.Current()
	w.wantSchedule(s, "a", "1")
	w.wantSchedule(s, "foo/b", "2")
	if e := s.Problem("bad.lua"); len(s.Playbooks) != 2 || e == nil || e.Place.Line != 1 {
		t.Errorf("%s", show(s))
	}
	if files := s.Find("foo/b").Files(); len(files) != 2 || files["lib/util.lua"] != "return {}" {
		t.Errorf("sources: %v", files)
	}
	if w.log.count("a script is broken") != 1 || w.r.Stats().Broken != 1 {
		t.Error("it was not said once that a script is broken")
	}
}

func TestSave(t *testing.T) {
	for name, save := range map[string]func(w *world, text string){
		"in place": func(w *world, text string) { w.put("a.lua", text) },
		"rename": func(w *world, text string) {
			w.put("a.lua.tmp", text)
			w.check(os.Rename(w.path("a.lua.tmp"), w.path("a.lua")))
		},
		"vim": func(w *world, text string) {
			w.put("4913", "")
			w.check(os.Remove(w.path("4913")))
			w.check(os.Rename(w.path("a.lua"), w.path("a.lua~")))
			w.put("a.lua", text)
			w.check(os.Remove(w.path("a.lua~")))
		},
		"removed and put back": func(w *world, text string) {
			w.check(os.Remove(w.path("a.lua")))
			w.put("a.lua", text)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, map[string]string{"a.lua": script("1"), "b.lua": script("1")})
			// The gap in which there is no file is short, but this machine may be busy.
			w.start(func(o *reload.Options) { o.Debounce = 100 * time.Millisecond })
			b := w.r.Current().Find("b")
			save(w, script("2"))
			s, c := w.next()
			w.wantChanges(c, "", "a", "")
			w.wantSchedule(s, "a", "2")
			if s.Find("b") != b {
				t.Error("a playbook that did not change is another")
			}
			if got := w.loaded(); len(got) != 1 || !slices.Equal(got[0], []string{"a.lua"}) {
				t.Errorf("loaded %v", got)
			}
		})
	}
}

// A file that is away when the folder is looked at may be about to come back.
func TestFileThatIsAwayForAMoment(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": script("1")}).start(func(o *reload.Options) { o.Debounce = 300 * time.Millisecond })
	looks := w.r.Stats().Looks
	w.check(os.Remove(w.path("a.lua")))
	for w.r.Stats().Looks == looks {
		runtime.Gosched()
	}
	w.put("a.lua", script("2"))
	_, c := w.next()
	w.wantChanges(c, "", "a", "")
}

func TestAddRenameDelete(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": script("1")}).start()
	w.put("foo/b.lua", script("1"))
	_, c := w.next()
	w.wantChanges(c, "foo/b", "", "")

	w.put("named.lua", `return playbook { name = "dfw", run = function() end }`)
	_, c = w.next()
	w.wantChanges(c, "dfw", "", "")
	w.check(os.Rename(w.path("named.lua"), w.path("renamed.lua")))
	s := w.until("the new file", func(s *reload.Snapshot) bool { return s.Find("dfw") != nil && s.Find("dfw").File == "renamed.lua" })
	if len(s) != 1 {
		t.Errorf("%d snapshots", len(s))
	}
	w.wantChanges(s[0][1].Since(s[0][0]), "", "dfw", "")
	if len(s[0][1].Problems) > 0 {
		t.Errorf("%s", show(s[0][1]))
	}

	w.check(os.Remove(w.path("a.lua")))
	_, c = w.next()
	w.wantChanges(c, "", "", "a")
	w.check(os.RemoveAll(w.path("foo")))
	_, c = w.next()
	w.wantChanges(c, "", "", "foo/b")
}

func TestBrokenScriptKeepsItsLastGoodVersion(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": needy("1", "lib.x"), "lib/x.lua": "return 1", "b.lua": script("1")}).start()
	a := w.r.Current().Find("a")
	w.put("a.lua", "-- a line\nnonsense(")
	s, c := w.next()
	w.wantChanges(c, "", "", "")
	if e := s.Problem("a.lua"); e == nil || e.Place.Line != 2 || s.Find("a") != a || a.Files()["a.lua"] != needy("1", "lib.x") {
		t.Fatalf("%s", show(s))
	}
	w.put("b.lua", script("2")) // another reload says nothing new of a.lua
	w.next()
	w.now() // nor does one that tries it again
	if n := w.log.count("its last good version runs"); n != 1 || w.r.Stats().Broken != 1 {
		t.Errorf("said %d times, counted %d", n, w.r.Stats().Broken)
	}
	w.put("a.lua", "-- another text\nnonsense(")
	w.now()
	if n := w.log.count("its last good version runs"); n != 2 {
		t.Errorf("said %d times for two texts", n)
	}
	w.put("a.lua", needy("3", "lib.x"))
	s = w.until("fixed", func(s *reload.Snapshot) bool { return len(s.Problems) == 0 })[0][1]
	w.wantSchedule(s, "a", "3")
}

func TestLibraryReloadsThoseWhoNeedItAndNobodyElse(t *testing.T) {
	w := newWorld(t, map[string]string{
		"lib/x.lua": "return 1", "lib/y.lua": `return require "lib.x"`, "lib/z.lua": "return 1", "foo/lib/z.lua": "return 1",
		"x.lua": needy("1", "lib.x"), "y.lua": needy("1", "lib.y"), "z.lua": needy("1", "lib.z"), "foo/z.lua": needy("1", "lib.z"), "none.lua": script("1"),
	}).start()
	w.put("lib/x.lua", "return 2")
	s, c := w.next()
	w.wantChanges(c, "", "x y", "")
	if got := w.loaded(); len(got) != 1 || !slices.Equal(got[0], []string{"lib/x.lua", "lib/y.lua", "lib/z.lua", "x.lua", "y.lua"}) {
		t.Errorf("loaded %v", got)
	}
	if s.Find("y").Files()["lib/x.lua"] != "return 2" {
		t.Error("y has its old source")
	}

	// A broken library leaves all who need it as they were, and both say so.
	w.put("lib/z.lua", "return +")
	s, c = w.next()
	w.wantChanges(c, "", "", "")
	if s.Problem("lib/z.lua") == nil || s.Problem("z.lua") == nil || s.Problem("foo/z.lua") != nil || s.Find("z").Files()["lib/z.lua"] != "return 1" {
		t.Errorf("%s", show(s))
	}
	// One that raises is told at its line, and by those who need it.
	w.put("lib/z.lua", "\nerror 'no'")
	s, _ = w.next()
	if e := s.Problem("lib/z.lua"); e == nil || e.Place.Line != 2 || s.Problem("z.lua") == nil || s.Find("z") == nil {
		t.Errorf("%s", show(s))
	}
	w.put("lib/z.lua", "return 3")
	s, c = w.next()
	w.wantChanges(c, "", "z", "")
	if len(s.Problems) > 0 {
		t.Errorf("%s", show(s))
	}

	// A tenant's library takes the place of the common one, until it goes.
	w.put("foo/lib/x.lua", "return 1")
	w.put("foo/x.lua", needy("1", "lib.x"))
	w.next()
	w.check(os.Remove(w.path("foo/lib/x.lua")))
	_, c = w.next()
	w.wantChanges(c, "", "foo/x", "")
	w.put("foo/lib/x.lua", "return 1")
	s, c = w.next()
	w.wantChanges(c, "", "foo/x", "")
	if s.Find("foo/x").Files()["foo/lib/x.lua"] == "" {
		t.Errorf("sources %v", s.Find("foo/x").Files())
	}
}

func TestMissingLibraryThatComes(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": needy("1", "lib.x")}).start()
	if s := w.r.Current(); s.Find("a") != nil || s.Problem("a.lua") == nil {
		t.Fatalf("%s", show(s))
	}
	w.put("lib/x.lua", "return 1")
	s, c := w.next()
	w.wantChanges(c, "a", "", "")
	if len(s.Problems) > 0 {
		t.Errorf("%s", show(s))
	}
}

func TestTwoScriptsWithOneName(t *testing.T) {
	named := func(schedule string) string {
		return fmt.Sprintf(`return playbook { name = "dfw", schedule = %q, run = function() end }`, schedule)
	}
	w := newWorld(t, map[string]string{"m.lua": named("m"), "n.lua": named("n")}).start() // loaded together
	s := w.r.Current()
	w.wantSchedule(s, "dfw", "m")
	if len(s.Problems) != 1 || s.Problem("n.lua") == nil {
		t.Errorf("%s", show(s))
	}
	w.put("z.lua", named("z")) // loaded alone
	s, c := w.next()
	w.wantChanges(c, "", "", "")
	if s.Problem("z.lua") == nil {
		t.Errorf("%s", show(s))
	}
	w.put("dfw.lua", named("dfw")) // the one called like it goes first
	s, _ = w.next()
	w.wantSchedule(s, "dfw", "dfw")
	if s.Problem("dfw.lua") != nil || s.Problem("m.lua") == nil {
		t.Errorf("%s", show(s))
	}
	w.check(os.Remove(w.path("dfw.lua")))
	s, _ = w.next()
	w.wantSchedule(s, "dfw", "m")
	w.check(os.Remove(w.path("m.lua")))
	s, _ = w.next()
	w.wantSchedule(s, "dfw", "n") // it had been refused when it was loaded
	if s.Problem("n.lua") != nil || s.Problem("z.lua") == nil {
		t.Errorf("%s", show(s))
	}
}

func TestCheckoutOf500FilesIsOneReload(t *testing.T) {
	w := newWorld(t, nil).start(func(o *reload.Options) { o.Debounce, o.MaxDelay = 300*time.Millisecond, 30*time.Second })
	for i := range 500 {
		w.put(fmt.Sprintf("t%d/s%d.lua", i%5, i), script("1"))
	}
	_, c := w.next()
	if len(c.Added) != 500 {
		t.Errorf("%d of 500 at once", len(c.Added))
	}
	for i := range 500 {
		w.put(fmt.Sprintf("t%d/s%d.lua", i%5, i), script("2"))
	}
	_, c = w.next()
	if len(c.Changed) != 500 || w.r.Stats().Reloads != 2 {
		t.Errorf("%d of 500 at once, %d reloads", len(c.Changed), w.r.Stats().Reloads)
	}
}

func TestHalfWrittenFile(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": needy("1", "lib.x"), "lib/x.lua": "return 1", "b.lua": script("1")})
	w.start(func(o *reload.Options) { o.Debounce, o.MaxDelay = 300*time.Millisecond, 600*time.Millisecond })
	// Someone copies a library slowly, longer than others are held up for it.
	f, err := os.Create(w.path("lib/x.lua"))
	w.check(err)
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	w.put("foo/c.lua", script("1"))
	for i := range 120 {
		_, err := f.WriteString("-- some text\n")
		w.check(err)
		<-ticks.C
		if i == 60 {
			w.put("foo/lib/own.lua", "return 1")
		}
	}
	_, err = f.WriteString("return 2\n")
	w.check(err)
	w.check(f.Close())
	all := w.until("the library", func(s *reload.Snapshot) bool {
		return strings.HasSuffix(s.Find("a").Files()["lib/x.lua"], "return 2\n")
	})
	for _, a := range all {
		if text := a[1].Find("a").Files()["lib/x.lua"]; len(a[1].Problems) > 0 || text != "return 1" && !strings.HasSuffix(text, "return 2\n") {
			t.Errorf("half a library: %q, %s", text, show(a[1]))
		}
	}
}

func TestFileThatBecomesUnreadable(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": script("1"), "foo/b.lua": script("1")}).start()
	w.check(os.Chmod(w.path("a.lua"), 0o666))
	s, c := w.next()
	w.wantChanges(c, "", "", "")
	if s.Problem("a.lua") == nil {
		t.Errorf("%s", show(s))
	}
	w.check(os.Chmod(w.path("foo"), 0o777))
	s, c = w.next()
	w.wantChanges(c, "", "", "")
	if s.Problem("foo") == nil {
		t.Errorf("%s", show(s))
	}
	w.check(os.Chmod(w.path("a.lua"), 0o644))
	w.check(os.Chmod(w.path("foo"), 0o755))
	s = w.until("in order", func(s *reload.Snapshot) bool { return len(s.Problems) == 0 })[0][1]
	if len(s.Playbooks) != 2 {
		t.Errorf("%s", show(s))
	}
}

func TestReload(t *testing.T) {
	w := newWorld(t, map[string]string{"a.lua": script("1")}).start()
	w.put("a.lua", script("2"))
	w.wantSchedule(w.now(), "a", "2") // without a wait
	w.check(os.Remove(w.path("a.lua")))
	if s := w.now(); len(s.Playbooks) != 0 {
		t.Errorf("%s", show(s))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.r.Reload(ctx); err == nil {
		t.Error("a Reload whose context has ended")
	}
	w.r.Close()
	if _, err := w.r.Reload(t.Context()); err == nil {
		t.Error("a Reload after Close")
	}
}

func TestRescanFindsWhatNoEventToldOf(t *testing.T) {
	clock := clockwork.NewFakeClock()
	w := newWorld(t, map[string]string{"a.lua": script("1")})
	// The link's target is in a folder that nobody watches.
	w.put(".hidden/b.lua", script("1"))
	w.check(os.Symlink(".hidden/b.lua", w.path("b.lua")))
	w.start(func(o *reload.Options) { o.Clock, o.Rescan = clock, time.Minute })
	w.put(".hidden/b.lua", script("22"))
	w.check(clock.BlockUntilContext(t.Context(), 1)) // the rescan's
	clock.Advance(time.Minute)
	w.check(clock.BlockUntilContext(t.Context(), 2)) // and that of the debounce
	clock.Advance(time.Second)
	s, _ := w.next()
	w.wantSchedule(s, "b", "22")
}

func TestGoroutinesEnd(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWorld(t, map[string]string{"a.lua": script("1")})
	for range 5 {
		w.start()
		w.put("a.lua", script("2"))
		w.r.Close()
	}
	wantGoroutines(t, before)
}

// wantGoroutines waits for the last moments of those that have ended.
func wantGoroutines(t *testing.T, most int) {
	t.Helper()
	limit := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > most {
		if time.Now().After(limit) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), most, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}

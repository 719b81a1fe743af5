package reload

import (
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/jonboulle/clockwork"
)

func TestOverflowIsAHint(t *testing.T) {
	w := newWatch(slog.New(slog.DiscardHandler))
	defer w.close()
	w.notify.Errors <- fsnotify.ErrEventOverflow
	<-w.hints
	if w.overflows.Load() != 1 {
		t.Error("it was not counted")
	}
}

// Where the system has no watches left, rescans find what has changed.
func TestWithoutWatches(t *testing.T) {
	w := newWatch(slog.New(slog.DiscardHandler))
	w.close()
	w.notify = nil
	dir := t.TempDir()
	w.begin(dir)
	w.folder(dir)
	w.end()
	w.close()
}

func TestLookouts(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"data/1/scripts", "etc"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"data/current": "1", "etc/scripts": "../data/current/scripts", "etc/absolute": filepath.Join(top, "etc/scripts"), "etc/loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]map[string][]string{
		"data/1/scripts": {"data/1": {"scripts"}},
		"data/2/scripts": {"data": {"2"}},
		"etc/scripts":    {"etc": {"scripts"}, "data": {"current"}, "data/1": {"scripts"}},
		"etc/absolute":   {"etc": {"absolute", "scripts"}, "data": {"current"}, "data/1": {"scripts"}},
	} {
		got := map[string][]string{}
		for folder, names := range lookouts(filepath.Join(top, dir)) {
			inside, err := filepath.Rel(top, folder)
			if err != nil {
				t.Fatal(err)
			}
			got[inside] = names
		}
		if !maps.EqualFunc(got, want, slices.Equal[[]string]) {
			t.Errorf("%s: %v, want %v", dir, got, want)
		}
	}
	lookouts(filepath.Join(top, "etc/loop")) // ends
}

type info struct {
	fs.FileInfo

	size int64
	at   time.Time
}

func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return 0o600 }
func (i info) ModTime() time.Time { return i.at }
func (i info) Sys() any           { return nil }

func TestCache(t *testing.T) {
	clock := clockwork.NewFakeClock()
	c := newCache(clock, time.Second)
	old := info{size: 1, at: clock.Now().Add(-time.Minute)}
	known := func(i info) bool {
		text, ok := c.known("a", i)
		if ok && text != "x" {
			t.Errorf("text %q", text)
		}
		return ok
	}
	c.begin()
	c.read("a", old, "x")
	c.read("b", old, "y")
	c.end()
	c.begin()
	if !known(old) || known(info{size: 2, at: old.at}) || known(info{size: 1, at: clock.Now()}) {
		t.Error("a file is known by its size and times")
	}
	c.end()
	if _, ok := c.known("b", old); ok {
		t.Error("a file that was not seen is known")
	}
	c.distrust()
	if known(old) {
		t.Error("a file is known that was to be read")
	}
	// One that was written just before it was read may have been written since, in
	// the same moment.
	fresh := info{size: 1, at: clock.Now()}
	c.read("a", fresh, "x")
	if known(fresh) || !c.moving("a") {
		t.Error("a file that moves is known")
	}
	clock.Advance(2 * time.Second)
	c.read("a", fresh, "x")
	if !known(fresh) || c.moving("a") {
		t.Error("a file at rest is not known")
	}
}

func TestDebounce(t *testing.T) {
	clock := clockwork.NewFakeClock()
	d := &debounce{clock: clock, delay: 100 * time.Millisecond, maxDelay: time.Second}
	fires := func(after time.Duration) bool {
		clock.Advance(after)
		select {
		case <-d.elapsed():
			return true
		default:
			return false
		}
	}
	if d.elapsed() != nil {
		t.Error("it waits though nothing was triggered")
	}
	d.trigger()
	if fires(90*time.Millisecond) || !fires(10*time.Millisecond) || d.overdue() {
		t.Error("one hint: 100 ms")
	}
	d.stop()
	d.trigger()
	for range 19 {
		if fires(50 * time.Millisecond) {
			t.Fatal("a hint extends the wait")
		}
		d.trigger()
	}
	if !fires(50*time.Millisecond) || !d.overdue() {
		t.Error("the wait is 1 s at most")
	}
	d.restart()
	if fires(90*time.Millisecond) || !fires(10*time.Millisecond) || d.overdue() {
		t.Error("after a restart: 100 ms")
	}
}

package reload_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/bind"
	"moonseal/runtime/bundle"
	"moonseal/runtime/journal/journaltest"
	"moonseal/runtime/reload"
	"moonseal/runtime/worker"
)

const childVariable = "MOONSEAL_TEST_CHILD"

// TestMain makes the test binary its own child, which loads scripts.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	pair, err := worker.Inherited(false)
	if err == nil {
		none := func() []*bind.Module { return nil }
		err = worker.Serve(context.Background(), pair, worker.Setup{Modules: none, Clock: clockwork.NewRealClock(), Gone: func() { os.Exit(3) }})
	}
	if err != nil {
		log.Fatal(err)
	}
}

// child loads as the daemon does, in a process.
func child(tb testing.TB) func(ctx context.Context, files map[string]string) (*reload.Loaded, error) {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	parent := &worker.Parent{Spawner: worker.Exec{Path: exe, Env: []string{childVariable + "=1"}}, Clock: clockwork.NewRealClock()}
	state := tb.TempDir()
	return func(ctx context.Context, files map[string]string) (*reload.Loaded, error) {
		found, err := parent.Load(ctx, worker.Job{Files: files, State: state})
		if err != nil {
			return nil, err
		}
		loaded := &reload.Loaded{Problems: found.Problems}
		for _, p := range found.Playbooks {
			loaded.Playbooks = append(loaded.Playbooks, &bundle.Playbook{Name: p.Name, File: p.File, Hash: p.Hash, Needs: p.Needs, Schedule: p.Schedule, Window: p.Window, Mode: p.Mode})
		}
		return loaded, nil
	}
}

// folder is n scripts of about a kilobyte, in ten tenants, and twenty libraries.
func folder(b *testing.B, n int) string {
	b.Helper()
	dir := b.TempDir()
	put := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 20 {
		put(fmt.Sprintf("lib/l%d.lua", i), kilobyte("return {}"))
	}
	for i := range n {
		put(fmt.Sprintf("t%d/s%d.lua", i%10, i), kilobyte(needy("0 3 * * *", fmt.Sprintf("lib.l%d", i%20))))
	}
	return dir
}

func kilobyte(text string) string {
	for len(text) < 1024 {
		text = "-- a comment, as people write them above their scripts\n" + text
	}
	return text
}

// BenchmarkSaveToLive: from the end of a save to the new snapshot, with the
// scripts loaded in a child, a hundred times. Goals at p99: 250 ms with 1,000 scripts,
// 500 ms with 10,000. The floor is the time that a file must rest, 100 ms; the median
// beyond it is "ms-own".
func BenchmarkSaveToLive(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			dir := folder(b, n)
			live := make(chan *reload.Snapshot, 1)
			r := reload.New(reload.Options{
				Dir: dir, Log: slog.New(slog.DiscardHandler), Load: child(b),
				Apply: func(_, next *reload.Snapshot) { live <- next },
			})
			begun := time.Now()
			if err := r.Start(b.Context()); err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			started := time.Since(begun)
			if s := <-live; len(s.Playbooks) != n || len(s.Problems) > 0 {
				b.Fatal(len(s.Playbooks), s.Problems)
			}
			var took []time.Duration
			save := func(i int) {
				name := fmt.Sprintf("s%d", i*7%n)
				tenant := fmt.Sprintf("t%d", i*7%n%10)
				text := []byte(kilobyte(needy(strconv.Itoa(i), "lib.l1")))
				begun := time.Now()
				if err := os.WriteFile(filepath.Join(dir, tenant, name+".lua"), text, 0o600); err != nil {
					b.Fatal(err)
				}
				if s := <-live; s.Find(tenant+"/"+name).Schedule != strconv.Itoa(i) {
					b.Fatal("another reload came between")
				}
				took = append(took, time.Since(begun))
			}
			for b.Loop() {
				for range 100 {
					save(len(took))
				}
			}
			ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
			b.ReportMetric(ms(journaltest.Median(took)-100*time.Millisecond), "ms-own")
			b.ReportMetric(ms(started), "ms-start")
			journaltest.Spread(b, "ms-", took)
		})
	}
}

// BenchmarkIdle: what 10,000 playbooks cost that nobody touches. A rescan comes
// every 30 s; goal for the whole daemon: 0.5 % of one core, which is 150 ms of
// each rescan, and 100 MB. The heap is what is live; the sources themselves are
// the floor.
func BenchmarkIdle(b *testing.B) {
	const n = 10000
	dir := folder(b, n)
	before := heap()
	clock := clockwork.NewFakeClockAt(time.Now())
	r := reload.New(reload.Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Load: child(b), Clock: clock})
	if err := r.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	used := heap() - before
	if err := clock.BlockUntilContext(b.Context(), 1); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		looks := r.Stats().Looks
		clock.Advance(30 * time.Second)
		for r.Stats().Looks == looks {
			runtime.Gosched()
		}
	}
	b.ReportMetric(float64(used)/1e6, "MB-heap")
	b.ReportMetric(float64((n+20)*1060)/1e6, "MB-sources")
}

package journal

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/problem"
)

// hold keeps the writer busy until release is called, so that what is queued
// meanwhile shares the next commit.
func hold(t *testing.T, j *Journal) (release func()) {
	t.Helper()
	started, end := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- j.w.do(context.Background(), &request{fn: func(*conn) error { close(started); <-end; return nil }})
	}()
	<-started
	return func() {
		close(end)
		must(t, <-done)
	}
}

// queued waits until n requests that a caller waits for are in the queue.
func queued(j *Journal, n int) {
	for {
		j.w.mu.Lock()
		have := j.w.wait
		j.w.mu.Unlock()
		if have == n {
			return
		}
		runtime.Gosched()
	}
}

func TestWritersShareACommit(t *testing.T) {
	j := openTest(t, t.TempDir())
	const writers = 50
	var runs []Stamp
	for range writers {
		runs = append(runs, newRun(t, j, "p"))
	}
	before := j.Stats()
	release := hold(t, j)
	var wg sync.WaitGroup
	for _, s := range runs {
		wg.Go(func() {
			if err := j.Write(t.Context(), Logged{Stamp: s, Message: "x"}); err != nil {
				t.Error(err)
			}
		})
	}
	queued(j, writers)
	release()
	wg.Wait()
	after := j.Stats()
	if n := after.Commits - before.Commits; n != 2 { // the holder's and theirs
		t.Errorf("%d commits", n)
	}
	if n := after.Records - before.Records; n != writers {
		t.Errorf("%d records", n)
	}
}

func TestManyAtOnce(t *testing.T) {
	j := openTest(t, t.TempDir())
	const writers, each = 50, 20
	before := j.Stats().Commits
	var wg sync.WaitGroup
	for range writers {
		s := newRun(t, j, "p")
		before = j.Stats().Commits
		wg.Go(func() {
			for n := range each {
				if err := j.WriteLazy(t.Context(), Logged{Stamp: s, Message: strconv.Itoa(2 * n)}); err != nil {
					t.Error(err)
				}
				if err := j.Write(t.Context(), Logged{Stamp: s, Message: strconv.Itoa(2*n + 1)}); err != nil {
					t.Error(err)
				}
				if h, err := j.Logs(t.Context(), s.Run, 0, 0); err != nil || len(h) != 2*n+2 {
					t.Errorf("%d lines, %v", len(h), err)
				}
			}
		})
	}
	wg.Wait()
	if n := j.Stats().Commits - before; n > writers*each/2 {
		t.Errorf("%d commits for %d writes", n, writers*each)
	}
	runs, err := j.Runs(t.Context(), Filter{})
	must(t, err)
	for _, r := range runs {
		logs, err := j.Logs(t.Context(), r.ID, 0, 0)
		must(t, err)
		for n, l := range logs {
			if l.Message != strconv.Itoa(n) {
				t.Fatalf("run %s: line %d is %s", r.ID, n, l.Message)
			}
		}
	}
}

func TestOneRefusedDoesNotHarmTheOthers(t *testing.T) {
	j := openTest(t, t.TempDir())
	a, b, stale, c := newRun(t, j, "p"), newRun(t, j, "p"), newRun(t, j, "p"), newRun(t, j, "p")
	_, err := j.Adopt(t.Context(), stale.Run)
	must(t, err)
	release := hold(t, j)
	before := j.Stats().Commits
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i, recs := range [][]Record{
		{Logged{Stamp: a, Message: "a"}},
		{Logged{Stamp: b, Message: "b"}, StepDone{Stamp: b, Step: 3}},
		{Logged{Stamp: stale, Message: "stale"}},
		{Logged{Stamp: c, Message: "c"}},
	} {
		wg.Go(func() { errs[i] = j.Write(t.Context(), recs...) })
		queued(j, i+1)
	}
	release()
	wg.Wait()
	if errs[0] != nil || !errors.Is(errs[1], ErrMisuse) || !errors.Is(errs[2], ErrStaleEpoch) || errs[3] != nil {
		t.Errorf("%v", errs)
	}
	if n := j.Stats().Commits - before; n != 2 {
		t.Errorf("%d commits", n)
	}
	for s, want := range map[Stamp]int{a: 1, b: 0, stale: 0, c: 1} {
		if l, err := j.Logs(t.Context(), s.Run, 0, 0); err != nil || len(l) != want {
			t.Errorf("%s: %v, %v", s.Run, l, err)
		}
	}
}

func TestLazyRecords(t *testing.T) {
	clock := clockwork.NewFakeClockAt(t0)
	dir := t.TempDir()
	j, err := Open(t.Context(), dir, Options{Clock: clock})
	must(t, err)
	ctx := t.Context()
	a, b := newRun(t, j, "p"), newRun(t, j, "p")
	messages := func(s Stamp) string {
		logs, err := j.Logs(context.Background(), s.Run, 0, 0)
		must(t, err)
		var out []string
		for _, l := range logs {
			out = append(out, l.Message)
		}
		return strings.Join(out, ",")
	}
	before := j.Stats().Commits
	must(t, j.WriteLazy(ctx, Logged{Stamp: a, Message: "1"}))
	must(t, j.WriteLazy(ctx, Logged{Stamp: b, Message: "x"}))
	must(t, j.WriteLazy(ctx, Logged{Stamp: a, Message: "2"}))
	must(t, clock.BlockUntilContext(ctx, 1))
	if got := messages(a) + messages(b); got != "" || j.Stats().Commits != before {
		t.Errorf("written at once: %s", got)
	}
	must(t, j.Write(ctx, Logged{Stamp: a, Message: "3"})) // takes all of them along
	if got := messages(a) + " " + messages(b); got != "1,2,3 x" || j.Stats().Commits != before+1 {
		t.Errorf("with the next commit: %s, %d commits", got, j.Stats().Commits-before)
	}
	must(t, j.WriteLazy(ctx, Logged{Stamp: a, Message: "4"}))
	must(t, clock.BlockUntilContext(ctx, 1))
	clock.Advance(LazyDelay)
	for j.Stats().Unsynced == 0 {
		runtime.Gosched()
		if ctx.Err() != nil {
			t.Fatal("the timer wrote nothing")
		}
	}
	if got := messages(a); got != "1,2,3,4" {
		t.Errorf("by the timer: %s", got)
	}
	if n := j.Stats().Commits - before; n != 1 {
		t.Errorf("the timer waited for a sync: %d commits", n)
	}
	must(t, j.w.do(ctx, &request{fn: func(w *conn) error {
		var mode string
		err := w.row("PRAGMA synchronous").Scan(&mode)
		if mode != "2" {
			t.Errorf("what is waited for is written with synchronous = %s", mode)
		}
		return err
	}}))
	must(t, j.WriteLazy(ctx, Logged{Stamp: a, Message: "5"}))
	must(t, j.Close())
	j = openTest(t, dir)
	if got := messages(a); got != "1,2,3,4,5" {
		t.Errorf("by Close: %s", got)
	}
}

// A lazy record that cannot be is dropped; the write that took it along is not.
func TestRefusedLazyRecord(t *testing.T) {
	j := openTest(t, t.TempDir())
	s := newRun(t, j, "p")
	must(t, j.WriteLazy(t.Context(), StepDone{Stamp: s, Step: 9}, Logged{Stamp: s, Message: "lazy"}))
	must(t, j.Write(t.Context(), Logged{Stamp: s, Message: "synced"}))
	must(t, j.WriteLazy(t.Context(), Logged{Stamp: s, Message: "kept"}))
	if err := j.Write(t.Context(), StepDone{Stamp: s, Step: 9}); !errors.Is(err, ErrMisuse) {
		t.Errorf("%v", err)
	}
	must(t, j.Write(t.Context(), Logged{Stamp: s, Message: "last"}))
	if logs, err := j.Logs(t.Context(), s.Run, 0, 0); err != nil || len(logs) != 4 || logs[1].Message != "synced" || logs[2].Message != "kept" {
		t.Errorf("%v, %v", logs, err)
	}
	if n := j.Stats().Refused; n != 2 {
		t.Errorf("%d refused", n)
	}
}

func TestLazyQueueIsBounded(t *testing.T) {
	j := openTest(t, t.TempDir())
	s := newRun(t, j, "p")
	release := hold(t, j)
	for range mostLazy {
		must(t, j.WriteLazy(t.Context(), Logged{Stamp: s, Message: "x"}))
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- j.WriteLazy(ctx, Logged{Stamp: s}) }()
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("a full queue took more: %v", err)
	}
	release()
	must(t, j.WriteLazy(t.Context(), Logged{Stamp: s, Message: "x"}))
	must(t, j.Write(t.Context(), Logged{Stamp: s, Message: "x"}))
	if logs, err := j.Logs(t.Context(), s.Run, 0, 0); err != nil || len(logs) != mostLazy+2 {
		t.Errorf("%d lines, %v", len(logs), err)
	}
}

func TestCancelledWrite(t *testing.T) {
	j := openTest(t, t.TempDir())
	s := newRun(t, j, "p")
	release := hold(t, j)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Write(ctx, Logged{Stamp: s, Message: "taken back"}) }()
	queued(j, 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	release()
	must(t, j.Write(t.Context(), Logged{Stamp: s, Message: "x"}))
	if logs, err := j.Logs(t.Context(), s.Run, 0, 0); err != nil || len(logs) != 1 {
		t.Errorf("%v, %v", logs, err)
	}
}

func TestClosed(t *testing.T) {
	j := openTest(t, t.TempDir())
	s := newRun(t, j, "p")
	must(t, j.Close())
	if err := j.Write(t.Context(), Logged{Stamp: s}); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := j.WriteLazy(t.Context(), Logged{Stamp: s}); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	j := openTest(t, dir)
	small, large := newRun(t, j, "p"), newRun(t, j, "p")
	limit := func(pages string) {
		t.Helper()
		must(t, j.w.do(t.Context(), &request{fn: func(w *conn) error {
			var most int
			if pages == "now" {
				var n int
				must(t, w.row("PRAGMA page_count").Scan(&n))
				pages = strconv.Itoa(n + 4)
			}
			return w.c.QueryRowContext(w.ctx, "PRAGMA max_page_count = "+pages).Scan(&most)
		}}))
	}
	limit("now")
	much := json.RawMessage(`"` + strings.Repeat("x", 100_000) + `"`)
	release := hold(t, j)
	must(t, j.WriteLazy(t.Context(), Logged{Stamp: large, Message: "1"}))
	errs := make([]error, 3)
	var wg sync.WaitGroup
	for i, recs := range [][]Record{
		{Logged{Stamp: small, Message: "first"}},
		{Recorded{Stamp: large, Data: much}},
		{Logged{Stamp: small, Message: "last"}},
	} {
		wg.Go(func() { errs[i] = j.Write(t.Context(), recs...) })
		queued(j, i+1)
	}
	must(t, j.WriteLazy(t.Context(), Logged{Stamp: large, Message: strings.Repeat("2", 100_000)}))
	release()
	wg.Wait()
	full := problem.From(errs[1])
	if errs[0] != nil || errs[2] != nil || errs[1] == nil || full.Kind != problem.Unavailable || !strings.Contains(full.Error(), "full") {
		t.Errorf("%v", errs)
	}
	if err := j.Write(t.Context(), Recorded{Stamp: large, Data: much}); problem.From(err) == nil || problem.From(err).Kind != problem.Unavailable {
		t.Errorf("still full: %v", err)
	}
	limit("1000000")
	must(t, j.Write(t.Context(), Recorded{Stamp: large, Data: much}))
	h := history(t, j, large.Run)
	logs, err := j.Logs(t.Context(), large.Run, 0, 0)
	if err != nil || len(h.Records) != 1 || len(logs) != 2 || logs[0].Message != "1" { // the lazy lines were kept, in their order
		t.Errorf("%d records, %v, %v", len(h.Records), logs, err)
	}
	if logs, err := j.Logs(t.Context(), small.Run, 0, 0); err != nil || len(logs) != 2 {
		t.Errorf("%v, %v", logs, err)
	}
}

// A connection that broke is opened again.
func TestBrokenConnection(t *testing.T) {
	j := openTest(t, t.TempDir())
	s := newRun(t, j, "p")
	err := j.w.do(t.Context(), &request{fn: func(w *conn) error {
		_ = w.c.Close()
		return errors.New("the disk is gone")
	}})
	if err == nil {
		t.Error("no error")
	}
	must(t, j.Write(t.Context(), Logged{Stamp: s, Message: "x"}))
	if logs, err := j.Logs(t.Context(), s.Run, 0, 0); err != nil || len(logs) != 1 {
		t.Errorf("%v, %v", logs, err)
	}
}

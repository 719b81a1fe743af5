package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/problem"
)

func TestOneJobPerPlaybookUntilItIsDone(t *testing.T) {
	h := newHands()
	q := started(t, Options{Work: h.work})
	if !enqueue(t, q, Job{Run: "1", Playbook: "dfw"}, time.Time{}) {
		t.Fatal("the first was not added")
	}
	next(t, h.began)
	if enqueue(t, q, Job{Run: "2", Playbook: "dfw"}, time.Time{}) {
		t.Error("a second was added while the first runs")
	}
	h.of("1") <- Wait(time.Now().Add(time.Hour))
	idle(t, q)
	if enqueue(t, q, Job{Run: "2", Playbook: "dfw"}, time.Time{}) || len(q.Waiting()) != 1 {
		t.Error("a second was added while the first waits")
	}
	if w := q.Waiting()[0]; w.Job.Run != "1" || time.Until(w.At) < 59*time.Minute {
		t.Errorf("the second changed the first: %+v", w)
	}
	_, err := q.Wake(t.Context(), "1")
	must(t, err)
	next(t, h.began)
	h.of("1") <- Done()
	idle(t, q)
	if !enqueue(t, q, Job{Run: "2", Playbook: "dfw"}, time.Time{}) {
		t.Error("no second was added after the first was done")
	}
	if j := next(t, h.began); j.Run != "2" {
		t.Errorf("%s began", j.Run)
	}
}

func TestEnqueueOfTheSameRunAtOnce(t *testing.T) {
	q := started(t, Options{Work: newHands().work})
	var added atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if ok, err := q.Enqueue(t.Context(), Job{Run: strconv.Itoa(i), Playbook: "dfw"}, time.Time{}); err != nil {
				t.Error(err)
			} else if ok {
				added.Add(1)
			}
		})
	}
	wg.Wait()
	if added.Load() != 1 {
		t.Errorf("%d were added", added.Load())
	}
}

func TestNoMoreAtOnceThanConcurrency(t *testing.T) {
	h := newHands()
	q := started(t, Options{Work: h.work, Concurrency: 3})
	for i := range 12 {
		enqueue(t, q, Job{Run: strconv.Itoa(i)}, time.Time{})
	}
	running := []Job{next(t, h.began), next(t, h.began), next(t, h.began)}
	h.none(t)
	for i := range 12 {
		h.of(running[i].Run) <- Done()
		if i < 9 {
			running = append(running, next(t, h.began))
		}
	}
	idle(t, q)
	if h.most.Load() != 3 {
		t.Errorf("%d ran at once", h.most.Load())
	}
}

func TestJobsThatShareALockRunOneByOne(t *testing.T) {
	h := newHands()
	q := started(t, Options{Work: h.work, Concurrency: 2})
	enqueue(t, q, Job{Run: "a1", Locks: []string{"a"}}, time.Time{})
	next(t, h.began)
	soon := time.Now().Add(time.Hour)
	enqueue(t, q, Job{Run: "ab", Locks: []string{"a", "b", "b"}, Expires: soon}, time.Time{})
	enqueue(t, q, Job{Run: "b1", Locks: []string{"b"}, Expires: soon.Add(time.Hour)}, time.Time{})
	h.none(t) // b is free, but what expires first wants it
	enqueue(t, q, Job{Run: "c"}, time.Time{})
	if j := next(t, h.began); j.Run != "c" {
		t.Fatalf("%s began: a job that waits for a lock takes a slot", j.Run)
	}
	w := q.Waiting()
	if len(w) != 2 || w[0].Job.Run != "ab" || w[0].Lock != "a" || w[1].Lock != "b" {
		t.Errorf("waiting: %+v", w)
	}
	h.of("c") <- Done()
	h.none(t)
	h.of("a1") <- Done()
	if j := next(t, h.began); j.Run != "ab" {
		t.Fatalf("%s began", j.Run)
	}
	h.none(t)
	h.of("ab") <- Wait(time.Now().Add(time.Hour)) // a job that waits holds no lock
	if j := next(t, h.began); j.Run != "b1" {
		t.Fatalf("%s began", j.Run)
	}
}

func TestWhatExpiresFirstGoesFirst(t *testing.T) {
	h := newHands()
	q := started(t, Options{Work: h.work, Concurrency: 1})
	enqueue(t, q, Job{Run: "first"}, time.Time{})
	next(t, h.began)
	now := time.Now()
	for _, j := range []Job{
		{Run: "never"},
		{Run: "later", Expires: now.AddDate(0, 0, 30)},
		{Run: "expired", Expires: now.AddDate(0, 0, -1)},
		{Run: "soon", Expires: now.AddDate(0, 0, 3)},
		{Run: "never either"},
	} {
		enqueue(t, q, j, time.Time{})
	}
	var order []string
	for _, w := range q.Waiting() {
		order = append(order, w.Job.Run)
	}
	want := []string{"expired", "soon", "later", "never", "never either"}
	if !slices.Equal(order, want) {
		t.Errorf("waiting: %v", order)
	}
	last := "first"
	for _, run := range want {
		h.of(last) <- Done()
		if j := next(t, h.began); j.Run != run {
			t.Fatalf("%s began, not %s", j.Run, run)
		}
		last = run
	}
}

func TestAWaitingRunStartsAtItsTime(t *testing.T) {
	h := newHands()
	q := started(t, Options{Work: h.work})
	enqueue(t, q, Job{Run: "1"}, time.Time{})
	next(t, h.began)
	at := time.Now().Add(300 * time.Millisecond)
	h.of("1") <- Wait(at)
	next(t, h.began)
	if late := time.Since(at); late < 0 || late > time.Second {
		t.Errorf("it began %v after its time", late)
	}
	at = time.Now().Add(200 * time.Millisecond)
	enqueue(t, q, Job{Run: "2"}, at)
	next(t, h.began)
	if late := time.Since(at); late < 0 || late > time.Second {
		t.Errorf("it began %v after its time", late)
	}
}

func TestTheClockDecidesWhatIsDue(t *testing.T) {
	clock := clockwork.NewFakeClockAt(time.Date(2031, 3, 4, 5, 6, 7, 0, time.UTC))
	h := newHands()
	q := started(t, Options{Work: h.work, Clock: clock})
	enqueue(t, q, Job{Run: "1"}, clock.Now().AddDate(1, 0, 0))
	enqueue(t, q, Job{Run: "2"}, clock.Now().Add(24*time.Hour))
	h.none(t)
	must(t, clock.BlockUntilContext(t.Context(), 1))
	clock.Advance(24 * time.Hour)
	if j := next(t, h.began); j.Run != "2" {
		t.Fatalf("%s began", j.Run)
	}
	h.of("2") <- Done()
	idle(t, q)
	h.none(t)
	must(t, clock.BlockUntilContext(t.Context(), 1))
	clock.Advance(366 * 24 * time.Hour)
	next(t, h.began)
}

func TestWakeBringsForward(t *testing.T) {
	h := newHands()
	q := started(t, Options{Work: h.work})
	later := time.Now().Add(time.Hour)
	enqueue(t, q, Job{Run: "1", Playbook: "p"}, later)
	if enqueue(t, q, Job{Run: "1", Playbook: "p"}, later.Add(time.Hour)) || !q.Waiting()[0].At.Equal(later) {
		t.Error("a later time was taken")
	}
	earlier := later.Add(-time.Minute)
	if enqueue(t, q, Job{Run: "1", Playbook: "p"}, earlier) || !q.Waiting()[0].At.Equal(earlier) {
		t.Error("an earlier time was not taken")
	}
	if ok, err := q.Wake(t.Context(), "1"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	next(t, h.began)
	// What it is about to wait for comes before it waits.
	if ok, err := q.Wake(t.Context(), "1"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	h.of("1") <- Wait(later)
	next(t, h.began)
	h.of("1") <- Wait(later)
	idle(t, q)
	h.none(t)
	if ok, err := q.Wake(t.Context(), "nobody"); err != nil || ok {
		t.Error(ok, err)
	}
}

func TestCancel(t *testing.T) {
	cause := make(chan error, 1)
	began := make(chan struct{}, 1)
	q := started(t, Options{Work: func(ctx context.Context, _ Job) Result {
		began <- struct{}{}
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return Done()
	}})
	enqueue(t, q, Job{Run: "waits", Playbook: "p"}, time.Now().Add(time.Hour))
	if was, err := q.Cancel(t.Context(), "waits"); err != nil || was != WasWaiting || len(q.Waiting()) != 0 {
		t.Errorf("%q, %v, waiting %v", was, err, q.Waiting())
	}
	if !enqueue(t, q, Job{Run: "runs", Playbook: "p"}, time.Time{}) {
		t.Error("the cancelled run keeps its playbook")
	}
	next(t, began)
	if was, err := q.Cancel(t.Context(), "runs"); err != nil || was != WasRunning {
		t.Errorf("%q, %v", was, err)
	}
	if err := next(t, cause); !errors.Is(err, ErrCancelled) {
		t.Errorf("cause %v", err)
	}
	idle(t, q)
	if was, err := q.Cancel(t.Context(), "runs"); err != nil || was != NotFound {
		t.Errorf("%q, %v", was, err)
	}
}

func TestCancelBetweenWorkAndItsResult(t *testing.T) {
	h := newHands()
	q := started(t, Options{Work: h.work})
	enqueue(t, q, Job{Run: "1"}, time.Time{})
	next(t, h.began)
	must(t, q.begin(t.Context())) // so that the result cannot be written
	h.of("1") <- Wait(time.Now().Add(time.Hour))
	for settled := false; !settled; {
		h.none(t)
		q.mu.Lock()
		settled = q.index.byRun["1"].state == settling
		q.mu.Unlock()
	}
	was := make(chan Cancelled, 1)
	go func() {
		w, err := q.Cancel(context.Background(), "1")
		if err != nil {
			t.Error(err)
		}
		was <- w
	}()
	h.none(t)
	q.end()
	if w := next(t, was); w != WasWaiting {
		t.Errorf("%q", w)
	}
	idle(t, q)
	if len(q.Waiting()) != 0 {
		t.Errorf("waiting: %v", q.Waiting())
	}
}

func TestRetryBacksOffAndAPanicIsARetry(t *testing.T) {
	clock := clockwork.NewFakeClock()
	var calls atomic.Int32
	q := started(t, Options{Clock: clock, Work: func(context.Context, Job) Result {
		switch calls.Add(1) {
		case 1:
			return Retry(errors.New("no process"))
		case 2:
			panic("oh")
		case 3:
			return Result{}
		default:
			return Done()
		}
	}})
	enqueue(t, q, Job{Run: "1"}, time.Time{})
	for i, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		idle(t, q)
		w := q.Waiting()
		if len(w) != 1 || w[0].At.Sub(clock.Now()) != wait || w[0].Tries != i+1 {
			t.Fatalf("waiting %+v at %v", w, clock.Now())
		}
		must(t, clock.BlockUntilContext(t.Context(), 1))
		clock.Advance(wait)
	}
	idle(t, q)
	if calls.Load() != 4 || len(q.Waiting()) != 0 {
		t.Errorf("%d calls, waiting %v", calls.Load(), q.Waiting())
	}
}

func TestBackoff(t *testing.T) {
	for tries, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 9: 256 * time.Second, 10: longestBackoff, 1000: longestBackoff} {
		if got := backoff(tries); got != want {
			t.Errorf("%d: %v, want %v", tries, got, want)
		}
	}
}

func TestStopWaitsForWhatRuns(t *testing.T) {
	h := newHands()
	dir := t.TempDir()
	q := started(t, Options{Dir: dir, Work: h.work, Concurrency: 1})
	enqueue(t, q, Job{Run: "1"}, time.Time{})
	enqueue(t, q, Job{Run: "2"}, time.Time{})
	next(t, h.began)
	stopped := make(chan error, 1)
	go func() { stopped <- q.Stop(context.Background()) }()
	h.none(t)
	h.of("1") <- Done()
	must(t, next(t, stopped))
	h.none(t)
	if _, err := q.Enqueue(t.Context(), Job{Run: "3", Playbook: "3"}, time.Time{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Stop: %v", err)
	}
	h = newHands()
	started(t, Options{Dir: dir, Work: h.work})
	if j := next(t, h.began); j.Run != "2" {
		t.Errorf("%s began", j.Run)
	}
}

func TestHaltBeginsNothingMore(t *testing.T) {
	h := newHands()
	q := started(t, Options{Work: h.work, Concurrency: 2})
	enqueue(t, q, Job{Run: "1"}, time.Time{})
	next(t, h.began)
	q.Halt()
	enqueue(t, q, Job{Run: "2"}, time.Time{})
	h.of("1") <- Wait(time.Time{}) // it is due again at once
	h.none(t)
	must(t, q.Stop(t.Context()))
	h.none(t)
}

func TestStopEndsWorkWhenItsTimeIsOver(t *testing.T) {
	cause := make(chan error, 1)
	began := make(chan struct{}, 1)
	dir := t.TempDir()
	q := started(t, Options{Dir: dir, Work: func(ctx context.Context, _ Job) Result {
		began <- struct{}{}
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return Wait(time.Now())
	}})
	enqueue(t, q, Job{Run: "1"}, time.Time{})
	next(t, began)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	must(t, q.Stop(ctx))
	if err := next(t, cause); !errors.Is(err, ErrStopped) {
		t.Errorf("cause %v", err)
	}
	h := newHands()
	started(t, Options{Dir: dir, Work: h.work})
	next(t, h.began)
}

func TestMisuse(t *testing.T) {
	for _, o := range []Options{{}, {Concurrency: 1}, {Work: newHands().work}, {Work: newHands().work, Concurrency: 10_001}} {
		o.Dir = t.TempDir()
		if _, err := Open(t.Context(), o); err == nil {
			t.Errorf("%+v opened", o)
		}
	}
	q := opened(t, Options{})
	for _, j := range []Job{{}, {Run: "1"}, {Playbook: "p"}} {
		if _, err := q.Enqueue(t.Context(), j, time.Time{}); err == nil {
			t.Errorf("%+v was taken", j)
		}
	}
	must(t, q.Start(t.Context()))
	if q.Start(t.Context()) == nil {
		t.Error("started twice")
	}
}

func TestTheFileIsTheUsersOwn(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, Options{Dir: dir})
	enqueue(t, q, Job{Run: "1"}, time.Now().Add(time.Hour))
	files, err := filepath.Glob(filepath.Join(dir, "queue.db*"))
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no file")
	}
	for _, f := range files {
		st, err := os.Stat(f)
		must(t, err)
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", f, st.Mode())
		}
	}
}

func TestADiskThatTakesNothingForAWhile(t *testing.T) {
	h := newHands()
	q := started(t, Options{Work: h.work, Log: slog.New(slog.DiscardHandler)})
	full := func(on int) {
		t.Helper()
		_, err := q.store.db.ExecContext(t.Context(), fmt.Sprint("PRAGMA query_only = ", on))
		must(t, err)
	}
	enqueue(t, q, Job{Run: "ends"}, time.Time{})
	next(t, h.began)
	enqueue(t, q, Job{Run: "due"}, time.Now().Add(200*time.Millisecond))
	full(1)
	_, err := q.Enqueue(t.Context(), Job{Run: "late", Playbook: "late"}, time.Time{})
	var e *problem.Error
	if !errors.As(err, &e) || e.Kind != problem.Usage || e.Hint == "" {
		t.Errorf("%v", err)
	}
	h.of("ends") <- Done()
	for len(q.Waiting()) == 1 && q.Waiting()[0].At.After(time.Now()) {
		h.none(t)
	}
	h.none(t)
	if r := q.Running(); len(r) != 1 || r[0].Job.Run != "ends" {
		t.Errorf("a job whose end is not written gave up its slot: %v", r)
	}
	full(0)
	if j := next(t, h.began); j.Run != "due" {
		t.Errorf("%s began", j.Run)
	}
	h.of("due") <- Done()
	idle(t, q)
	if !enqueue(t, q, Job{Run: "again", Playbook: "playbook of ends"}, time.Time{}) {
		t.Error("the end was not written")
	}
}

// A wait that a wrong clock began ends when the clock is set right.
func TestClockSetBack(t *testing.T) {
	clock := clockwork.NewFakeClock()
	var worked atomic.Int32
	q := started(t, Options{Clock: clock, Work: func(context.Context, Job) Result {
		worked.Add(1)
		return Wait(clock.Now().Add(365 * 24 * time.Hour))
	}})
	enqueue(t, q, Job{Run: "a"}, time.Time{})
	idle(t, q)
	for i, back := range []time.Duration{30 * time.Second, time.Hour} {
		q.mu.Lock()
		q.seen = clock.Now().Add(back)
		q.mu.Unlock()
		must(t, clock.BlockUntilContext(t.Context(), 1))
		enqueue(t, q, Job{Run: fmt.Sprint("other", i)}, time.Time{}) // the gate looks
		idle(t, q)
	}
	if n := worked.Load(); n != 5 { // a and other0, then both again, and other1
		t.Errorf("worked %d times, want 5", n)
	}
}

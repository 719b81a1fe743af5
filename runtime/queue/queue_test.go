package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("MOONSEAL_TEST_QUEUE"); dir != "" {
		workUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// started opens and starts a queue, and stops it at the test's end.
func started(t testing.TB, o Options) *Queue {
	t.Helper()
	q := opened(t, o)
	must(t, q.Start(t.Context()))
	return q
}

func opened(t testing.TB, o Options) *Queue {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Concurrency == 0 {
		o.Concurrency = 4
	}
	if o.Work == nil {
		o.Work = func(context.Context, Job) Result { return Done() }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	q, err := Open(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { stop(t, q) })
	return q
}

func stop(t testing.TB, q *Queue) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // what runs is told to end
	if err := q.Stop(ctx); err != nil && !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func enqueue(t testing.TB, q *Queue, j Job, at time.Time) bool {
	t.Helper()
	if j.Playbook == "" {
		j.Playbook = "playbook of " + j.Run
	}
	added, err := q.Enqueue(t.Context(), j, at)
	must(t, err)
	return added
}

func idle(t testing.TB, q *Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := q.Idle(ctx); err != nil {
		t.Fatalf("not idle: %v; running %v, waiting %v", err, q.Running(), q.Waiting())
	}
}

// next gives what comes from ch within five seconds.
func next[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(5 * time.Second):
		t.Fatal("nothing came in 5 s")
		panic("unreachable")
	}
}

// hands is a Work that tells of each job and waits to be told its result.
type hands struct {
	began chan Job
	mu    sync.Mutex
	give  map[string]chan Result
	now   atomic.Int32
	most  atomic.Int32
}

func newHands() *hands { return &hands{began: make(chan Job, 100), give: map[string]chan Result{}} }

func (h *hands) of(run string) chan Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.give[run] == nil {
		h.give[run] = make(chan Result, 1)
	}
	return h.give[run]
}

func (h *hands) work(ctx context.Context, j Job) Result {
	n := h.now.Add(1)
	defer h.now.Add(-1)
	for m := h.most.Load(); n > m && !h.most.CompareAndSwap(m, n); m = h.most.Load() {
	}
	h.began <- j
	select {
	case r := <-h.of(j.Run):
		return r
	case <-ctx.Done():
		return Wait(time.Time{})
	}
}

func (h *hands) none(t *testing.T) {
	t.Helper()
	select {
	case j := <-h.began:
		t.Fatalf("%s began", j.Run)
	case <-time.After(50 * time.Millisecond):
	}
}

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
			if ok, err := q.Enqueue(t.Context(), Job{Run: fmt.Sprint(i), Playbook: "dfw"}, time.Time{}); err != nil {
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
		enqueue(t, q, Job{Run: fmt.Sprint(i)}, time.Time{})
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
		{Run: "never"}, {Run: "later", Expires: now.AddDate(0, 0, 30)}, {Run: "expired", Expires: now.AddDate(0, 0, -1)},
		{Run: "soon", Expires: now.AddDate(0, 0, 3)}, {Run: "never either"},
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

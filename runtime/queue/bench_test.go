package queue

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
)

// BenchmarkEnqueueToWork is from Enqueue to Work with a free slot.
func BenchmarkEnqueueToWork(b *testing.B) {
	began := make(chan struct{})
	q := started(b, Options{Log: slog.New(slog.DiscardHandler), Work: func(context.Context, Job) Result {
		began <- struct{}{}
		return Done()
	}})
	i := 0
	for b.Loop() {
		i++
		enqueue(b, q, Job{Run: strconv.Itoa(i)}, time.Time{})
		<-began
	}
}

// BenchmarkRiverAlone is the floor of BenchmarkEnqueueToWork: River as it is set
// up here, told at once, with a row that is inserted as available.
func BenchmarkRiverAlone(b *testing.B) {
	began := make(chan struct{})
	o := Options{Dir: b.TempDir(), Concurrency: 4, Log: slog.New(slog.DiscardHandler)}
	s, _, _, err := openStore(b.Context(), &o, newListener(), &worker{})
	must(b, err)
	defer s.db.Close()
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[args]) error {
		began <- struct{}{}
		return nil
	}))
	l := newListener()
	c, err := river.NewClient(&driver{Driver: riversqlite.New(s.db), listener: l}, &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}},
		Workers: workers, JobTimeout: -1, FetchCooldown: river.FetchCooldownMin, LeaderElectionDisabled: true, Logger: o.Log,
	})
	must(b, err)
	must(b, c.Start(b.Context()))
	i := 0
	for b.Loop() {
		i++
		_, err := c.Insert(b.Context(), args{Run: strconv.Itoa(i), Playbook: strconv.Itoa(i)}, nil)
		must(b, err)
		l.kick()
		<-began
	}
	must(b, c.Stop(b.Context()))
}

// BenchmarkThroughput is a job from Enqueue to its end, many at once.
func BenchmarkThroughput(b *testing.B) {
	ended := make(chan struct{}, 1000)
	q := started(b, Options{Concurrency: 64, Log: slog.New(slog.DiscardHandler), Work: func(context.Context, Job) Result {
		ended <- struct{}{}
		return Done()
	}})
	i, under := 0, 0
	for b.Loop() {
		i++
		enqueue(b, q, Job{Run: strconv.Itoa(i)}, time.Time{})
		for under++; under > 64; under-- {
			<-ended
		}
	}
}

// BenchmarkOpen is what 1,000 waiting jobs cost at a start.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	q := opened(b, Options{Dir: dir})
	for i := range 1000 {
		enqueue(b, q, Job{Run: strconv.Itoa(i)}, time.Now().Add(time.Hour))
	}
	must(b, q.Stop(b.Context()))
	for b.Loop() {
		q, err := Open(b.Context(), Options{Dir: dir, Concurrency: 1, Work: func(context.Context, Job) Result { return Done() }})
		must(b, err)
		must(b, q.Stop(b.Context()))
	}
}

func TestAThousandThatWaitCostLittle(t *testing.T) {
	q := started(t, Options{})
	enqueue(t, q, Job{Run: "warm"}, time.Time{})
	idle(t, q)
	goroutines, before := runtime.NumGoroutine(), heapBytes()
	for i := range 1000 {
		enqueue(t, q, Job{Run: fmt.Sprintf("20260102-%05d", i), Locks: []string{fmt.Sprint("cluster:", i)}, Expires: time.Now()}, time.Now().Add(time.Hour))
	}
	if added := int(heapBytes()) - int(before); added > 5<<20 {
		t.Errorf("1,000 waiting jobs: %d bytes", added)
	} else {
		t.Logf("1,000 waiting jobs: %d bytes of heap", added)
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines more", n-goroutines)
	}
	if len(q.Waiting()) != 1000 {
		t.Errorf("%d wait", len(q.Waiting()))
	}
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

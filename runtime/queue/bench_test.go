package queue_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	"moonseal/runtime/queue"
)

func started(b testing.TB, o queue.Options) queue.Queue {
	b.Helper()
	q, err := queue.New(b.Context(), o)
	if err == nil {
		err = q.Start(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := q.Stop(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	})
	return q
}

func enqueue(b testing.TB, q queue.Queue, j queue.Job, at time.Time) {
	b.Helper()
	j.Playbook = j.Run
	if _, err := q.Enqueue(j, at); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkEnqueueToWork is from Enqueue to Work with a free slot.
func BenchmarkEnqueueToWork(b *testing.B) {
	began := make(chan struct{})
	q := started(b, queue.Options{Concurrency: 4, Work: func(context.Context, queue.Job) queue.Result {
		began <- struct{}{}
		return queue.Done()
	}})
	i := 0
	for b.Loop() {
		i++
		enqueue(b, q, queue.Job{Run: strconv.Itoa(i)}, time.Time{})
		<-began
	}
}

// BenchmarkThroughput is a job from Enqueue to its end, many at once.
func BenchmarkThroughput(b *testing.B) {
	ended := make(chan struct{}, 1000)
	q := started(b, queue.Options{Concurrency: 64, Work: func(context.Context, queue.Job) queue.Result {
		ended <- struct{}{}
		return queue.Done()
	}})
	i, under := 0, 0
	for b.Loop() {
		i++
		enqueue(b, q, queue.Job{Run: strconv.Itoa(i)}, time.Time{})
		for under++; under > 64; under-- {
			<-ended
		}
	}
	for ; under > 0; under-- {
		<-ended
	}
}

// BenchmarkBacklog is a slot's change from one job to the next in the worst case
// of fair shares: one tenant has all slots and 10,000 jobs more, and the only job
// of another waits for a lock.
func BenchmarkBacklog(b *testing.B) {
	began, stopping := make(chan struct{}), make(chan struct{})
	q := started(b, queue.Options{
		Concurrency: 4,
		Work: func(context.Context, queue.Job) queue.Result {
			select {
			case began <- struct{}{}:
			case <-stopping:
			}
			return queue.Wait(time.Time{})
		},
		Held: func(context.Context) (map[string]string, error) { return map[string]string{"l": "other"}, nil },
	})
	defer close(stopping)
	enqueue(b, q, queue.Job{Run: "waits", Tenant: "b", Locks: []string{"l"}}, time.Time{})
	for i := range 10_000 {
		enqueue(b, q, queue.Job{Run: strconv.Itoa(i), Tenant: "a"}, time.Time{})
	}
	for b.Loop() {
		<-began
	}
}

// BenchmarkOpen is what 10,000 waiting jobs cost at a start.
func BenchmarkOpen(b *testing.B) {
	all := manyWaiting(10_000)
	for b.Loop() {
		q, err := queue.New(b.Context(), queue.Options{
			Concurrency: 1, Work: func(context.Context, queue.Job) queue.Result { return queue.Done() },
			Unfinished: func(context.Context) ([]queue.Waiting, error) { return all, nil },
		})
		if err != nil || len(q.Running()) > 0 {
			b.Fatal(err)
		}
	}
}

func manyWaiting(n int) (all []queue.Waiting) {
	later := time.Now().Add(time.Hour)
	for i := range n {
		all = append(all, queue.Waiting{
			Job: queue.Job{Run: fmt.Sprintf("20260102-%05d", i), Playbook: fmt.Sprint("site", i), Locks: []string{fmt.Sprint("cluster:", i)}, Expires: later},
			At:  later.Add(time.Duration(i) * time.Second),
		})
	}
	return all
}

func TestManyThatWaitCostLittle(t *testing.T) {
	const many = 10_000
	all := manyWaiting(many)
	q := started(t, queue.Options{Concurrency: 4, Work: func(context.Context, queue.Job) queue.Result { return queue.Done() }})
	goroutines, before := runtime.NumGoroutine(), heapBytes()
	for _, w := range all {
		if _, err := q.Enqueue(w.Job, w.At); err != nil {
			t.Fatal(err)
		}
	}
	each := (int(heapBytes()) - int(before)) / many
	t.Logf("a waiting job costs %d bytes of heap", each)
	if each > 700 {
		t.Errorf("a waiting job costs %d bytes", each)
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines more", n-goroutines)
	}
	if len(q.Waiting()) != many {
		t.Errorf("%d wait", len(q.Waiting()))
	}
	runtime.KeepAlive(all)
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

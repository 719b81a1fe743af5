package queuetest

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moonseal/runtime/queue"
)

func orderTests() []test {
	return []test{
		{"OneJobPerPlaybookUntilItIsDone", testOnePerPlaybook},
		{"ConcurrentEnqueuesAddOne", testConcurrentEnqueues},
		{"EnqueueOfTheSameRunReplaces", testEnqueueReplaces},
		{"Free", testFree},
		{"NoMoreAtOnceThanConcurrency", testConcurrency},
		{"ConcurrencyChanges", testConcurrencyChanges},
		{"WhatExpiresFirstGoesFirst", testOrder},
		{"Running", testRunning},
	}
}

func testOnePerPlaybook(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	first, second := queue.Job{Run: "1", Playbook: "p"}, queue.Job{Run: "2", Playbook: "p"}
	if !r.add(first, time.Time{}) {
		t.Fatal("the first was not added")
	}
	r.wantBegan("1")
	if r.add(second, time.Time{}) {
		t.Error("a second was added while the first runs")
	}
	r.end("1", queue.Wait(r.in(time.Hour)))
	if r.add(second, time.Time{}) {
		t.Error("a second was added while the first waits")
	}
	if w := r.Waiting(); len(w) != 1 || w[0].Job.Run != "1" || !w[0].At.Equal(r.in(time.Hour)) {
		t.Errorf("the second changed the first: %+v", w)
	}
	r.Wake("1")
	r.wantBegan("1")
	r.end("1", queue.Done())
	if r.Has("1") || !r.add(second, time.Time{}) || !r.Has("2") {
		t.Error("no second was added after the first was done")
	}
	r.wantBegan("2")
}

func testConcurrentEnqueues(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	var added atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if ok, err := r.Enqueue(queue.Job{Run: strconv.Itoa(i), Playbook: "p"}, time.Time{}); err != nil {
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

func testEnqueueReplaces(t *testing.T, open Open) {
	r := start(t, open, queue.Options{Concurrency: 1})
	r.add(queue.Job{Run: "busy"}, time.Time{})
	r.wantBegan("busy")
	soon := r.in(time.Minute)
	r.add(queue.Job{Run: "a", Expires: soon}, time.Time{})
	r.add(queue.Job{Run: "b"}, time.Time{})
	r.wantWaiting("a", "b")
	r.add(queue.Job{Run: "b", Tenant: "t", Locks: []string{"l", "k", "l"}, Expires: soon.Add(-time.Second)}, r.in(time.Hour))
	r.wantWaiting("b", "a")
	if w := r.Waiting()[0]; w.Job.Tenant != "t" || len(w.Job.Locks) != 2 || w.At.After(r.clock.Now()) {
		t.Errorf("%+v", w)
	}
	r.add(queue.Job{Run: "busy", Locks: []string{"l"}, Expires: soon}, time.Time{})
	if j := r.Running()[0].Job; len(j.Locks) != 0 || !j.Expires.IsZero() {
		t.Errorf("a job that is being worked on was changed: %+v", j)
	}
}

func testFree(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	job := queue.Job{Run: "1", Playbook: "p"}
	if mine, err := r.Free(t.Context(), job); mine || err != nil {
		t.Error(mine, err)
	}
	r.add(job, time.Time{})
	if mine, err := r.Free(t.Context(), job); !mine || err != nil {
		t.Error(mine, err)
	}
	freed := make(chan bool, 1)
	go func() {
		mine, err := r.Free(t.Context(), queue.Job{Run: "2", Playbook: "p"})
		freed <- !mine && err == nil
	}()
	r.wantBegan("1")
	r.end("1", queue.Wait(r.in(time.Hour)))
	if len(freed) != 0 {
		t.Error("free while the first waits")
	}
	r.Cancel("1")
	if !<-freed {
		t.Error("not free after the first was removed")
	}
}

func testConcurrency(t *testing.T, open Open) {
	r := start(t, open, queue.Options{Concurrency: 3})
	for i := range 12 {
		r.add(queue.Job{Run: strconv.Itoa(i)}, time.Time{})
	}
	r.wantBegan("0", "1", "2")
	for i := range 12 {
		r.end(strconv.Itoa(i), queue.Done())
		if i < 9 {
			r.wantBegan(strconv.Itoa(i + 3))
		}
	}
	r.wantIdle(true)
	if r.most != 3 {
		t.Errorf("%d ran at once", r.most)
	}
}

func testConcurrencyChanges(t *testing.T, open Open) {
	r := start(t, open, queue.Options{Concurrency: 1})
	for i := range 5 {
		r.add(queue.Job{Run: strconv.Itoa(i)}, time.Time{})
	}
	r.wantBegan("0")
	r.check(r.SetConcurrency(3))
	r.wantBegan("1", "2")
	r.check(r.SetConcurrency(1))
	r.end("0", queue.Done())
	r.end("1", queue.Done())
	r.wantBegan()
	r.end("2", queue.Done())
	r.wantBegan("3")
}

func testOrder(t *testing.T, open Open) {
	r := start(t, open, queue.Options{Concurrency: 1})
	r.add(queue.Job{Run: "first"}, time.Time{})
	r.wantBegan("first")
	for _, j := range []queue.Job{
		{Run: "never"},
		{Run: "later", Expires: r.in(30 * 24 * time.Hour)},
		{Run: "expired", Expires: r.in(-24 * time.Hour)},
		{Run: "soon", Expires: r.in(3 * 24 * time.Hour)},
		{Run: "never either"},
	} {
		r.add(j, time.Time{})
	}
	want := []string{"expired", "soon", "later", "never", "never either"}
	r.wantWaiting(want...)
	last := "first"
	for _, run := range want {
		r.end(last, queue.Done())
		r.wantBegan(run)
		last = run
	}
}

func testRunning(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	began := r.clock.Now()
	r.add(queue.Job{Run: "z"}, time.Time{})
	r.sleep(time.Second)
	r.add(queue.Job{Run: "a"}, time.Time{})
	r.wantBegan("a", "z")
	if all := r.Running(); len(all) != 2 || all[0].Job.Run != "z" || !all[0].Since.Equal(began) || all[1].Job.Run != "a" {
		t.Errorf("running: %+v", all)
	}
	r.wantIdle(false)
}

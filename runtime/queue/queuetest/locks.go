package queuetest

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"moonseal/runtime/queue"
)

func lockTests() []test {
	return []test{
		{"LocksAreHeldByOthersOrNot", testHeld},
		{"LocksAreReservedWhileWorkRuns", testReserved},
		{"LocksAreNotOvertaken", testNoOvertaking},
		{"LocksThatOverlapInOppositeOrder", testOverlap},
		{"LocksWakeInOrderOfExpiryOneAtATime", testReleaseOrder},
		{"LocksThatTheRunHoldsDoNotBlockIt", testOwnLock},
		{"LocksAreForgottenByWaitAndKeptByRetry", testLocksOfResults},
		{"LocksTakeNoSlot", testLocksTakeNoSlot},
		{"LocksThatCannotBeRead", testHeldFails},
		{"LocksAreReadOnlyForJobsThatWaitForThem", testHeldIsAskedSparingly},
		{"LocksTakenWhileTheyAreRead", testStaleHeld},
		{"LocksAndIdle", testLocksAndIdle},
	}
}

func testHeld(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.hold("a", "other")
	r.hold("b", "mine")
	r.add(queue.Job{Run: "none"}, time.Time{})
	r.add(queue.Job{Run: "free", Locks: []string{"c"}}, time.Time{})
	r.add(queue.Job{Run: "mine", Locks: []string{"b"}}, time.Time{})
	r.add(queue.Job{Run: "waits", Locks: []string{"a", "d"}, Expires: r.in(time.Hour)}, time.Time{})
	r.wantBegan("none", "free", "mine")
	r.wantWaiting("waits a")
	r.end("free", queue.WaitForLocks([]string{"a"}))
	r.wantWaiting("waits a", "free a")
	r.hold("a", "")
	r.wantBegan()
	r.sleep(time.Second) // the gate looks by itself
	r.wantBegan("waits")
	r.wantWaiting("free a")
}

func testReserved(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.add(queue.Job{Run: "1", Locks: []string{"a"}}, time.Time{})
	r.wantBegan("1")
	r.add(queue.Job{Run: "2", Locks: []string{"a"}}, time.Time{})
	r.Recheck()
	r.sleep(5 * time.Second)
	r.wantBegan()
	r.wantWaiting("2 a")
	r.hold("a", "1") // it takes the lock, waits for something else, and holds on
	r.end("1", queue.Wait(r.in(time.Hour)))
	r.sleep(5 * time.Second)
	r.wantBegan()
	r.hold("a", "")
	r.Recheck()
	r.wantBegan("2")
}

func testNoOvertaking(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.hold("a", "other")
	r.add(queue.Job{Run: "ab", Locks: []string{"a", "b"}, Expires: r.in(time.Hour)}, time.Time{})
	r.add(queue.Job{Run: "b", Locks: []string{"b"}, Expires: r.in(2 * time.Hour)}, time.Time{})
	r.add(queue.Job{Run: "c", Locks: []string{"c"}, Expires: r.in(3 * time.Hour)}, time.Time{})
	r.wantBegan("b", "c") // "ab" cannot say how long it waits for a
	r.wantWaiting("ab a")
	r.hold("a", "")
	r.Recheck()
	r.wantBegan()
	r.add(queue.Job{Run: "later", Locks: []string{"a"}}, time.Time{})
	r.wantWaiting("ab b", "later a") // but now it waits for a run that works
	r.end("b", queue.Done())
	r.wantBegan("ab")
	r.end("ab", queue.Done())
	r.wantBegan("later")
}

func testOverlap(t *testing.T, open Open) {
	r := newRig(t, open, queue.Options{})
	r.add(queue.Job{Run: "1", Locks: []string{"a", "b"}}, time.Time{})
	r.add(queue.Job{Run: "2", Locks: []string{"b", "a"}}, time.Time{})
	r.check(r.Start(startContext(t)))
	r.wantBegan("1")
	r.wantWaiting("2 a")
	r.end("1", queue.Done())
	r.wantBegan("2")
	r.end("2", queue.Done())
	r.wantIdle(true)
}

func testReleaseOrder(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.hold("l", "holder")
	runs := []string{"third", "first", "second"}
	for i, in := range []time.Duration{3 * time.Hour, time.Hour, 2 * time.Hour} {
		r.add(queue.Job{Run: runs[i], Expires: r.in(in)}, time.Time{})
	}
	r.wantBegan(runs...)
	for _, run := range runs {
		r.end(run, queue.WaitForLocks([]string{"l"}))
	}
	r.wantBegan()
	r.wantWaiting("first l", "second l", "third l")
	for _, run := range []string{"first", "second", "third"} {
		r.hold("l", "")
		r.Recheck()
		r.wantBegan(run)
		r.hold("l", run)
		r.end(run, queue.Wait(r.in(time.Hour)))
		r.wantBegan()
	}
}

// What expires first waits for the lock of a run that has to continue for its end.
func testOwnLock(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.hold("l", "holder")
	r.add(queue.Job{Run: "first", Locks: []string{"l"}, Expires: r.in(time.Hour)}, time.Time{})
	r.add(queue.Job{Run: "holder", Locks: []string{"l"}, Expires: r.in(2 * time.Hour)}, time.Time{})
	r.wantBegan("holder")
	r.wantWaiting("first l")
	// Both were granted with it, and both reserve it.
	r.hold("l", "")
	r.end("holder", queue.Done())
	r.wantBegan("first")
	r.hold("l", "thief")
	r.add(queue.Job{Run: "thief", Locks: []string{"l"}}, time.Time{})
	r.add(queue.Job{Run: "last", Locks: []string{"l"}}, time.Time{})
	r.wantBegan("thief")
	r.hold("l", "")
	r.end("thief", queue.Done())
	r.wantBegan()
	r.end("first", queue.Done())
	r.wantBegan("last")
}

func testLocksOfResults(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.add(queue.Job{Run: "1", Locks: []string{"l"}}, time.Time{})
	r.add(queue.Job{Run: "2"}, time.Time{})
	r.wantBegan("1", "2")
	r.hold("l", "other")
	r.end("1", queue.Retry(errors.New("no process")))
	r.end("2", queue.WaitForLocks([]string{"l"}))
	r.sleep(2 * time.Second)
	r.wantBegan()
	r.wantWaiting("2 l", "1 l")
	r.hold("l", "")
	r.Recheck()
	r.wantBegan("2")
	r.hold("l", "other")
	r.end("2", queue.Wait(time.Time{}))
	r.wantBegan("2")
	if w := r.Waiting(); len(w) != 1 || w[0].Job.Run != "1" {
		t.Errorf("waiting: %+v", w)
	}
	// What is woken as it comes to wait for a lock looks again: only Work knows.
	r.Wake("2")
	r.end("2", queue.WaitForLocks([]string{"l"}))
	r.wantBegan("2")
	r.end("2", queue.WaitForLocks([]string{"l"}))
	r.wantBegan()
	r.Wake("2")
	r.wantBegan()
}

func testLocksTakeNoSlot(t *testing.T, open Open) {
	r := start(t, open, queue.Options{Concurrency: 1})
	r.hold("l", "other")
	r.add(queue.Job{Run: "waits", Locks: []string{"l"}, Expires: r.in(time.Hour)}, time.Time{})
	r.add(queue.Job{Run: "1"}, time.Time{})
	r.wantBegan("1")
	r.hold("l", "")
	r.Recheck()
	r.wantBegan()
	r.end("1", queue.Done())
	r.wantBegan("waits")
}

func testHeldFails(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.heldErr = errors.New("no journal")
	r.add(queue.Job{Run: "waits", Locks: []string{"l"}}, time.Time{})
	r.add(queue.Job{Run: "free"}, time.Time{})
	r.wantBegan("free")
	r.wantWaiting("waits l")
	r.end("free", queue.Done())
	r.sleep(10 * time.Second)
	r.wantBegan()
	r.wantIdle(false)
	if n := r.warned("locks"); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
	r.mu.Lock()
	r.heldErr = nil
	r.mu.Unlock()
	r.sleep(time.Second)
	r.wantBegan("waits")
}

func testHeldIsAskedSparingly(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.add(queue.Job{Run: "1"}, time.Time{})
	r.add(queue.Job{Run: "later", Locks: []string{"l"}}, r.in(time.Minute))
	r.sleep(30 * time.Second)
	if r.asked != 0 {
		t.Errorf("asked %d times while no job was due that waits for a lock", r.asked)
	}
	r.hold("l", "other")
	r.sleep(40 * time.Second)
	if r.asked < 10 || r.asked > 12 {
		t.Errorf("asked %d times in 10 s", r.asked)
	}
}

func testLocksAndIdle(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.hold("l", "other")
	r.add(queue.Job{Run: "waits", Locks: []string{"l"}}, time.Time{})
	r.wantIdle(true) // nothing can be worked on before a release
	synctest.Wait()
	r.hold("l", "")
	r.Recheck()
	r.wantIdle(false)
	r.wantBegan("waits")
}

// A run takes the lock that was reserved for it, and lets go of its worker, while
// the queue reads which locks are held: what it reads is out of date.
func testStaleHeld(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.add(queue.Job{Run: "1", Locks: []string{"l"}}, time.Time{})
	r.wantBegan("1")
	reading := make(chan struct{})
	r.onHeld = func() { <-reading }
	r.add(queue.Job{Run: "2", Locks: []string{"l"}}, time.Time{})
	synctest.Wait()
	r.hold("l", "1")
	r.end("1", queue.Wait(r.in(time.Hour)))
	r.wantIdle(false)
	close(reading)
	r.wantBegan()
	r.wantWaiting("2 l", "1")
	r.wantIdle(true)
}

package queuetest

import (
	"testing"
	"time"

	"moonseal/runtime/queue"
)

func timeTests() []test {
	return []test{
		{"TimesAreExact", testExactTimes},
		{"WakeBringsForward", testWake},
		{"EnqueueWhileWorkRuns", testEnqueueWhileRunning},
		{"WaitingIsDueByTheClock", testClockJumpsAhead},
		{"ClockSetBack", testClockSetBack},
	}
}

func testExactTimes(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.add(queue.Job{Run: "1"}, time.Time{})
	r.wantBegan("1")
	r.end("1", queue.Wait(r.in(1300*time.Millisecond)))
	r.add(queue.Job{Run: "2"}, r.in(2*time.Hour+time.Millisecond))
	r.sleep(1300*time.Millisecond - 1)
	r.wantBegan()
	r.sleep(1)
	r.wantBegan("1")
	r.sleep(2*time.Hour - 1299*time.Millisecond - 1)
	r.wantBegan()
	r.sleep(1)
	r.wantBegan("2")
}

func testWake(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	job, later := queue.Job{Run: "1", Playbook: "p"}, r.in(time.Hour)
	r.add(job, later)
	if r.add(job, later.Add(time.Hour)) || !r.Waiting()[0].At.Equal(later) {
		t.Error("a later time was taken")
	}
	earlier := later.Add(-time.Minute)
	if r.add(job, earlier) || !r.Waiting()[0].At.Equal(earlier) {
		t.Error("an earlier time was not taken")
	}
	if !r.Wake("1") {
		t.Error("not found")
	}
	r.wantBegan("1")
	r.Wake("1") // what it is about to wait for comes before it waits
	r.end("1", queue.Wait(later))
	r.wantBegan("1")
	r.Wake("1")
	r.end("1", queue.Done())
	r.wantBegan("1")
	r.end("1", queue.Wait(later))
	r.wantBegan()
	if r.Wake("unknown") {
		t.Error("an unknown run was found")
	}
}

func testEnqueueWhileRunning(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	job := queue.Job{Run: "1"}
	r.add(job, time.Time{})
	r.wantBegan("1")
	if r.add(job, time.Time{}) {
		t.Error("added twice")
	}
	r.end("1", queue.Done())
	r.wantBegan("1")
	r.add(job, r.in(time.Minute))
	r.end("1", queue.Wait(r.in(time.Hour)))
	r.wantBegan()
	r.sleep(time.Minute)
	r.wantBegan("1")
	r.end("1", queue.Done())
	r.wantIdle(true)
	r.wantWaiting()
}

func testClockJumpsAhead(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.add(queue.Job{Run: "1"}, r.in(365*24*time.Hour))
	r.sleep(time.Minute)
	r.wantBegan()
	r.clock.set(366 * 24 * time.Hour)
	r.sleep(time.Second)
	r.wantBegan("1")
}

// A wait that a wrong clock began ends when the clock is set right.
func testClockSetBack(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	r.add(queue.Job{Run: "1"}, r.in(365*24*time.Hour))
	r.add(queue.Job{Run: "2"}, r.in(time.Minute))
	r.sleep(time.Second)
	r.clock.set(-30 * time.Second) // NTP's work
	r.sleep(2 * time.Second)
	r.wantBegan()
	r.clock.set(-2 * time.Minute)
	r.sleep(time.Second)
	r.wantBegan("1", "2")
	r.end("1", queue.Wait(r.in(time.Hour)))
	r.sleep(time.Minute)
	r.wantBegan()
}

package queuetest

import (
	"fmt"
	"testing"
	"time"

	"moonseal/runtime/queue"
)

func shareTests() []test {
	return []test{
		{"SharesAreHalfWhileOthersWait", testHalf},
		{"SharesOfOneTenantAreAllSlots", testAlone},
		{"SharesOfOneSlot", testOneSlot},
		{"SharesCountNoJobThatWaitsForALock", testShareAndLock},
		{"SharesOrderByExpiryWithin", testShareOrder},
	}
}

// addMany enqueues due jobs of a tenant: a0, a1, … for the tenant a.
func (r *rig) addMany(tenant string, n int, expires time.Time) {
	for i := range n {
		r.add(queue.Job{Run: fmt.Sprint(tenant, i), Tenant: tenant, Expires: expires}, time.Time{})
	}
}

func testHalf(t *testing.T, open Open) {
	r := newRig(t, open, queue.Options{Concurrency: 4})
	r.addMany("a", 6, r.in(time.Hour))
	r.addMany("b", 3, r.in(2*time.Hour))
	r.check(r.Start(startContext(t)))
	r.wantBegan("a0", "a1", "b0", "b1")
	r.end("a0", queue.Done())
	r.wantBegan("a2")
	r.end("b0", queue.Done())
	r.wantBegan("b2")
	r.end("b1", queue.Done()) // b has nothing more that waits
	r.wantBegan("a3")
	r.end("b2", queue.Done())
	r.wantBegan("a4")
	r.addMany("c", 2, time.Time{})
	r.wantBegan()
	r.end("a1", queue.Done())
	r.wantBegan("c0")
	r.end("a2", queue.Done())
	r.wantBegan("c1")
	r.end("c0", queue.Done())
	r.wantBegan("a5")
}

func testAlone(t *testing.T, open Open) {
	r := start(t, open, queue.Options{Concurrency: 4})
	r.add(queue.Job{Run: "later", Tenant: "b"}, r.in(time.Hour))
	r.addMany("", 6, time.Time{})
	r.wantBegan("0", "1", "2", "3")
	r.add(queue.Job{Run: "b", Tenant: "b"}, time.Time{})
	r.wantBegan()
	r.end("0", queue.Done())
	r.wantBegan("b")
}

func testOneSlot(t *testing.T, open Open) {
	r := newRig(t, open, queue.Options{Concurrency: 1})
	r.addMany("a", 2, r.in(time.Hour))
	r.addMany("b", 1, r.in(2*time.Hour))
	r.check(r.Start(startContext(t)))
	for _, run := range []string{"a0", "a1", "b0"} {
		r.wantBegan(run)
		r.end(run, queue.Done())
	}
}

func testShareAndLock(t *testing.T, open Open) {
	r := newRig(t, open, queue.Options{Concurrency: 4})
	r.hold("l", "other")
	r.addMany("a", 5, time.Time{})
	r.add(queue.Job{Run: "b", Tenant: "b", Locks: []string{"l"}, Expires: r.in(time.Hour)}, time.Time{})
	r.check(r.Start(startContext(t)))
	r.wantBegan("a0", "a1", "a2", "a3")
	r.hold("l", "")
	r.Recheck()
	r.end("a0", queue.Done())
	r.wantBegan("b")
}

func testShareOrder(t *testing.T, open Open) {
	r := newRig(t, open, queue.Options{Concurrency: 5}) // a share is 2
	r.addMany("a", 3, r.in(3*time.Hour))
	r.addMany("b", 3, r.in(2*time.Hour))
	r.add(queue.Job{Run: "a9", Tenant: "a", Expires: r.in(time.Hour)}, time.Time{})
	r.check(r.Start(startContext(t)))
	r.wantBegan("a9", "a0", "b0", "b1", "b2")
}

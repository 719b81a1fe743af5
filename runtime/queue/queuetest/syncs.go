package queuetest

import (
	"errors"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/queue"
)

func syncTests() []test {
	return []test{
		{"NewHasTheJournalsRuns", testNew},
		{"SyncAddsWhatLacks", testSync},
		{"SyncLeavesRetriesAndRunningJobsAlone", testSyncLeavesAlone},
	}
}

func waitingJob(run, playbook string, at time.Time) queue.Waiting {
	return queue.Waiting{Job: queue.Job{Run: run, Playbook: playbook}, At: at}
}

func testNew(t *testing.T, open Open) {
	later := clockwork.NewRealClock().Now().Add(time.Hour)
	r := newRig(t, open, queue.Options{}, waitingJob("orphan", "a", time.Time{}), waitingJob("waits", "b", later))
	r.wantBegan()
	r.wantWaiting("orphan", "waits")
	r.check(r.Start(startContext(t)))
	r.wantBegan("orphan")
	r.sleep(time.Hour)
	r.wantBegan("waits")
}

func testSync(t *testing.T, open Open) {
	r := start(t, open, queue.Options{})
	at := func(hours int) time.Time { return r.in(time.Duration(hours) * time.Hour) }
	r.add(queue.Job{Run: "woken", Playbook: "a"}, at(1))
	r.add(queue.Job{Run: "stale", Playbook: "b"}, at(3))
	r.add(queue.Job{Run: "first", Playbook: "c"}, at(4))
	r.add(queue.Job{Run: "new here", Playbook: "d"}, at(5))
	r.unfinished = []queue.Waiting{
		waitingJob("woken", "a", at(2)), waitingJob("stale", "b", at(2)), waitingJob("first", "c", at(4)),
		waitingJob("second", "c", at(1)), waitingJob("lost", "e", at(6)),
	}
	for _, want := range []int{1, 0} {
		if added, err := r.Sync(t.Context()); added != want || err != nil {
			t.Errorf("added %d, %v; want %d", added, err, want)
		}
		r.wantWaiting("woken", "stale", "first", "new here", "lost")
	}
	if w := r.Waiting(); !w[0].At.Equal(at(1)) || !w[1].At.Equal(at(3)) {
		t.Errorf("waiting: %+v", w)
	}
	if r.warned("two runs") == 0 {
		t.Error("no word of two unfinished runs of one playbook")
	}
	r.unfinished = []queue.Waiting{{}}
	if _, err := r.Sync(t.Context()); err == nil {
		t.Error("a run without an id was taken")
	}
}

func testSyncLeavesAlone(t *testing.T, open Open) {
	r := start(t, open, queue.Options{}, waitingJob("retried", "a", time.Time{}), waitingJob("runs", "b", time.Time{}))
	r.wantBegan("retried", "runs")
	r.end("retried", queue.Retry(errors.New("no process")))
	if added, err := r.Sync(t.Context()); added != 0 || err != nil {
		t.Error(added, err)
	}
	r.end("runs", queue.Wait(r.in(time.Hour)))
	r.wantBegan()
	r.wantWaiting("retried", "runs")
}

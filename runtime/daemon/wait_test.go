package daemon

import (
	"testing"

	"moonseal/runtime/journal"
	"moonseal/runtime/queue"
)

// The queue may hold a run that has just started to wait as one that is free to continue:
// it is not resumed early.
func TestWaitingRunIsNotResumedEarly(t *testing.T) {
	h := newHouse(t, noon)
	h.script("waits", script{Does: "wait"})
	h.start()
	id := h.startRun("waits")
	h.status(id, journal.Waiting)
	r := h.run(id)
	h.daemon.runs.work(t.Context(), queue.Job{Run: id, Playbook: "waits"})
	if now := h.run(id); now.Status != journal.Waiting || now.Epoch != r.Epoch {
		t.Errorf("it was %+v and is %+v", r, now)
	}
}

package daemon

import (
	"testing"

	"moonseal/runtime/journal"
	"moonseal/runtime/queue"
)

// The queue may take a run that has just come to wait for one that is free to continue:
// it is not taken up before its time.
func TestWaitingRunIsNotTakenUpEarly(t *testing.T) {
	h := newHouse(t, noon)
	h.script("waits", script{Does: "wait"})
	h.start()
	id := h.begun("waits")
	h.status(id, journal.Waiting)
	r := h.run(id)
	h.daemon.work(t.Context(), queue.Job{Run: id, Playbook: "waits"})
	if now := h.run(id); now.Status != journal.Waiting || now.Epoch != r.Epoch {
		t.Errorf("it was %+v and is %+v", r, now)
	}
}

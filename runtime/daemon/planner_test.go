package daemon

import (
	"testing"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/schedule"
)

// A run asks to come again on a Wednesday, and its window is on Sundays: it comes
// on the Sunday before, early, and it is due then all the same.
func TestWindowRulesRenewal(t *testing.T) {
	sunday := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	h := newHouse(t, sunday)
	h.script("a", script{Window: "Sun 01:00-05:00 UTC", Next: "240h"}) // Wednesday, 2 December
	h.script("b", script{Next: "240h"})
	h.start()
	for _, name := range []string{"a", "b"} {
		if _, err := h.daemon.Run(t.Context(), "alice", api.RunRequest{Playbook: name}); err != nil {
			t.Fatal(err)
		}
	}
	h.idle()
	if got, want := h.daemon.schedule.Next("a"), time.Date(2026, 11, 29, 1, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("with a window: %s, want %s", got, want)
	}
	if got, want := h.daemon.schedule.Next("b"), sunday.Add(240*time.Hour); !got.Equal(want) {
		t.Errorf("without: %s, want %s", got, want)
	}
	asked := schedule.Reason{Cause: schedule.Asked}
	if !h.daemon.planner.early("a", asked) || h.daemon.planner.early("b", asked) || h.daemon.planner.early("a", schedule.Reason{Cause: schedule.Due}) {
		t.Error("only a run that its window brings forward is early")
	}
	h.daemon.runs.due(t.Context(), "a", asked)
	h.idle()
	runs := h.runs()
	if last := runs[len(runs)-1]; last.Playbook != "a" || !last.Force {
		t.Errorf("the early run asks whether it is due: %+v", last)
	}
	h.sound()
}

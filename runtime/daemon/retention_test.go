package daemon

import (
	"slices"
	"testing"
	"time"

	"moonseal/runtime/config"
	"moonseal/runtime/journal"
)

// Once a day runs older than the current config says are removed; those that wait, and
// the last run of each playbook, stay.
func TestOldRunsAreRemoved(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	const day = 24 * time.Hour
	h.cfg.Keep = config.Keeping{Runs: config.Age(30 * day), Skipped: config.Age(30 * day), Logs: config.Age(7 * day)}
	h.script("often", script{})
	h.script("once", script{})
	h.script("waits", script{Does: "approve"})
	h.start()
	once, waits := h.startRun("once"), h.startRun("waits")
	h.idle()
	var often []string
	for range 3 {
		often = append(often, h.startRun("often"))
		h.idle()
		h.clock.Advance(time.Second)
	}
	there := func() []string {
		var ids []string
		for _, r := range h.runs() {
			ids = append(ids, r.ID)
		}
		return ids
	}
	all := there()
	h.clock.Advance(29 * day)
	h.drifts(day, func() bool { return len(h.log.of("journal pruned")) == 0 })
	if got := there(); !slices.Equal(got, all) {
		t.Fatalf("there are %v, and were %v", got, all)
	}
	h.drifts(3*day, func() bool { return len(h.log.of("journal pruned")) == 1 })
	if got, want := there(), []string{once, waits, often[2]}; !slices.Equal(got, want) {
		t.Errorf("there are %v, want %v", got, want)
	}
	horizon, err := h.daemon.journal.Horizon(t.Context())
	if err != nil || horizon.Runs.IsZero() {
		t.Errorf("the horizon is %+v, %v", horizon, err)
	}
	if r := h.run(waits); r.Status != journal.Waiting {
		t.Errorf("what waits is %s", r.Status)
	}
	h.sound()
}

package cli

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/journal"
)

// What was removed because it was old is said to have been, without a daemon and with
// one.
func TestWhatWasRemovedIsSaid(t *testing.T) {
	t.Parallel()
	w := newSite(t, "keep: { runs: 40d, logs: 7d }\n")
	const day = 24 * time.Hour
	clock := clockwork.NewFakeClockAt(time.Now().Add(-100 * day))
	j, err := journal.Open(t.Context(), filepath.Join(w.dir, "state"), journal.Options{Clock: clock})
	w.check(err)
	w.check(j.SaveBundle(t.Context(), "b", []journal.Source{{Path: "a.lua", Body: []byte("return 1")}}))
	var ids []string
	for _, ago := range []time.Duration{100, 20, 1} {
		clock.Advance(time.Until(time.Now().Add(-ago*day)) - time.Until(clock.Now()))
		s := journal.Stamp{Run: j.NewRunID(), Epoch: 1, At: clock.Now().UTC()}
		ids = append(ids, s.Run)
		w.check(j.Write(t.Context(), journal.RunCreated{Stamp: s, Playbook: "a", Bundle: "b"},
			journal.Logged{Stamp: s, Level: "info", Message: "it was so"}, journal.RunEnded{Stamp: s, Outcome: journal.Done}))
	}
	removed, err := j.Purge(t.Context(), journal.Keep{Runs: 40 * day, Logs: 7 * day})
	w.check(err)
	if removed.Runs != 1 || removed.Logs != 2 {
		t.Fatalf("removed %+v", removed)
	}
	w.check(j.Close())
	look := func() {
		t.Helper()
		horizon := clock.Now().Add(-40 * day).Local().Format(time.DateOnly)
		if out := w.moonseal(exitDone, "runs"); !strings.Contains(out, ids[1]) || !strings.Contains(out, "runs that ended before "+horizon+" are pruned, except the last of each playbook: keep.runs is 40d\n") {
			t.Errorf("runs: %s", out)
		}
		if out := w.moonseal(exitDone, "runs", "--limit", "1"); strings.Contains(out, "pruned") {
			t.Errorf("runs --limit: %s", out)
		}
		if out := w.moonseal(exitDone, "logs", ids[1]); !strings.Contains(out, "the log of run "+ids[1]+" is pruned: keep.logs is 7d, and the run ended ") {
			t.Errorf("logs: %s", out)
		}
		if out := w.moonseal(exitDone, "logs", ids[2]); !strings.Contains(out, "it was so") || strings.Contains(out, "pruned") {
			t.Errorf("logs of the last run: %s", out)
		}
		want := fmt.Sprintf("run %s: not in the journal: what ended before %s was removed", ids[0], horizon)
		if out := w.moonseal(exitFailed, "logs", ids[0]); !strings.Contains(out, want) || !strings.Contains(out, "keep.runs in the config") {
			t.Errorf("logs of a run that was removed: %s", out)
		}
	}
	look()
	d := w.serve()
	look()
	d.kill()
	d.process.wait()
}

package worker_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/run"
	"moonseal/runtime/worker"
)

// A run that a version without bounds has let grow to 78 MB continues in a process with the
// memory that it has unless more is configured; it is cancelled, and cleaned up.
func TestLongHistoryOfAnOlderVersion(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's own memory is more than any limit, and takes minutes over so many bytes")
	}
	const steps, memory = 20, 256 << 20
	body := fmt.Sprintf(`ctx:step("making", function() return o:keep() end)
	ctx:sleep "1h"
	for i = 1, %d do
		ctx:step("reading", { key = tostring(i) }, function() return 1 end)
	end
	ctx:step("end", function() return 1 end)`, steps)
	for _, mode := range []run.Mode{run.Continue, run.Cancel} {
		t.Run("mode "+string(mode), func(t *testing.T) {
			w := newWorld(t)
			spawner := w.parent.Spawner.(worker.Exec)
			spawner.Limits.Memory = memory
			w.parent.Spawner = spawner
			out, id := w.run(body)
			if out.Status != journal.Waiting || lines(w.file) != 1 {
				t.Fatalf("%+v, %d lines", out, lines(w.file))
			}
			epoch, err := w.journal.Adopt(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			s := journal.Stamp{Run: id, Epoch: epoch, At: time.Now()}
			recs := []journal.Record{journal.StepDone{Stamp: s, Step: 1, Result: json.RawMessage("null")}}
			for i := range steps {
				recs = append(recs, journal.StepStarted{Stamp: s, Step: i + 2, Kind: "step", Name: "reading", Key: fmt.Sprint(i + 1), Attempt: 1},
					journal.StepDone{Stamp: s, Step: i + 2, Result: json.RawMessage(`"` + strings.Repeat("x", 3_900_000) + `"`)})
			}
			if err := w.journal.Write(t.Context(), recs...); err != nil {
				t.Fatal(err)
			}
			job := w.job(body)
			job.Mode = mode
			out, err = w.parent.Resume(t.Context(), job, id)
			switch {
			case err != nil:
				t.Fatal(err)
			case mode == run.Continue && (out.Status != journal.Done || lines(w.file) != 0):
				t.Errorf("%+v, %d lines", out, lines(w.file))
			case mode == run.Cancel && (out.Status != journal.Cancelled || lines(w.file) != 0):
				t.Errorf("%+v, %d lines", out, lines(w.file))
			}
			if r, err := w.journal.Run(t.Context(), id); err != nil || r.Deaths > 0 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

package cli

import (
	"strings"
	"testing"

	"moonseal/runtime/journal"
)

// TestDeathsPark lets one step end its process again and again.
func TestDeathsPark(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	p := w.start("after-mark cucm.Node:csr 1 child", w.runArgs()...)
	// The node has no request pending, so each process marks and starts again.
	if code := p.wait(); code != exitParked {
		t.Fatalf("exit code %d:\n%s", code, p.out.String())
	}
	w.parked(p.out.String(), "generating_csr", "signal: killed")
}

// parked checks that a run's output and its journal say in which step its process
// died, how, and how often.
func (w *world) parked(out, step, how string) {
	w.t.Helper()
	h := w.histories()[0]
	for _, word := range []string{step, how, "3 times"} {
		if !strings.Contains(out, word) || !strings.Contains(h.Run.Reason, word) {
			w.t.Errorf("it does not say %q: %s\n%s", word, h.Run.Reason, out)
		}
	}
	if h.Run.Status != journal.Parked {
		w.t.Errorf("the run is %s", h.Run.Status)
	}
}

package cli

import (
	"strings"
	"testing"

	"moonseal/modules/faults"
	"moonseal/runtime/journal"
)

// A cancel lets the call under way finish first; cancel --now does not wait for it, says
// what may have happened, and so do status and the playbook's next run.
func TestCancelNow(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	w.configure("stop_timeout: 10m\n")
	d := w.serve()
	held := w.fault(faults.Fault{Call: "cucm.restart", Kind: faults.HoldBefore})
	id := d.begin(demoPlaybook)
	w.held(d.process, held)

	patient := w.start("", "cancel", id, "--config", w.config())
	w.until("the cancel is asked", func() bool { return strings.Contains(w.moonseal(exitDone, "logs", id), "cancel requested by") })
	d.is(id, journal.Running)
	out := w.moonseal(exitDone, "cancel", id, "--now")
	const left = "cucm.Node:restart is half done: of cucm01-pub.automate.builders, for tomcat, 0 of 6 services are restarted; not, or not surely: Cisco Tomcat, "
	for _, want := range []string{"is cancelled", "left: " + left} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	patient.wait()
	d.is(id, journal.Cancelled)
	w.clearFaults()
	if out := w.moonseal(exitDone, "status"); !strings.Contains(out, "was cancelled, and left: "+left) {
		t.Errorf("status says nothing:\n%s", out)
	}
	// It restarts nothing a second time, but parks; and says why.
	if out := w.moonseal(exitParked, "run", demoPlaybook); !strings.Contains(out, "the run before was cancelled, and left: "+left) {
		t.Errorf("the next run says nothing:\n%s", out)
	}
}

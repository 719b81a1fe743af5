package systest

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// A cancel lets the call under way finish first; cancel --now does not wait for it, says
// what may have happened, and so do status and the playbook's next run.
func TestCancelNow(t *testing.T) {
	t.Parallel()
	s := newLabSite(t, 50*time.Millisecond)
	s.configure("stop_timeout: 10m\n")
	d := s.serve()
	held := s.lab.add(fault{Call: "cucm.restart", Kind: holdBefore})
	id := d.begin(demoPlaybook)
	s.lab.held(d.process, held)

	patient := s.start("cancel", id)
	s.until("the cancel is requested", func() bool { return strings.Contains(s.moonseal(exitDone, "logs", id), "cancel requested by") })
	d.is(id, "running")
	out := s.moonseal(exitDone, "cancel", id, "--now")
	const left = "cucm.Node:restart is half done: of cucm01-pub.automate.builders, for tomcat, 0 of 6 services are restarted; not, or not surely: Cisco Tomcat, "
	for _, want := range []string{"is cancelled", "left: " + left} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	patient.wait()
	d.is(id, "cancelled")
	s.lab.clear()
	if out := s.moonseal(exitDone, "status"); !strings.Contains(out, "was cancelled, and left: "+left) {
		t.Errorf("status says nothing:\n%s", out)
	}
	// It restarts nothing a second time, but parks; and says why.
	if out := s.moonseal(exitParked, "run", demoPlaybook); !strings.Contains(out, "the run before was cancelled, and left: "+left) {
		t.Errorf("the next run says nothing:\n%s", out)
	}
}

// A run whose process is stopped keeps the only worker; cancelled, it is cancelled,
// and the next one begins.
func TestCancelOfAStoppedRun(t *testing.T) {
	t.Parallel()
	s := newSite(t, "concurrency: 1\n")
	s.script("stopped", `return playbook { run = function(ctx) ctx:step("first", function() return true end) ctx:poll("waiting", { within = "2h", every = "20s" }, function() return false end) end }`)
	s.script("next", `return playbook { run = function(ctx) ctx:step("first", function() return true end) end }`)
	d := s.serve()
	stopped := d.begin("stopped")
	d.is(stopped, "running")
	s.until("it sleeps", func() bool { return len(get[history](d, "/runs/"+stopped+"/history").Steps) == 2 })
	child := d.child()
	s.check(syscall.Kill(child, syscall.SIGSTOP))
	next := d.begin("next")
	if out := s.moonseal(exitDone, "cancel", stopped); !strings.Contains(out, "is cancelled") {
		t.Errorf("cancel: %s", out)
	}
	d.is(stopped, "cancelled")
	d.is(next, "done")
	if out := s.moonseal(exitDone, "logs", stopped); !strings.Contains(out, "it was stopped (SIGSTOP), and therefore killed") {
		t.Errorf("logs: %s", out)
	}
	if alive(child) {
		t.Error("the stopped process lives")
	}
	d.signal(syscall.SIGTERM)
	d.stops(exitDone)
}

package cli

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"moonseal/modules/cucm"
	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/runtime/journal"
)

// TestChildKilled kills only the run's own process, while its request is being
// served: the parent continues by itself.
func TestChildKilled(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	id := w.fault(faults.Fault{Call: "cucm.upload-identity", Kind: faults.HoldAfter})
	p := w.start("", w.runArgs()...)
	w.held(p, id)
	children := p.children()
	if len(children) != 1 {
		t.Fatalf("%d children, want 1", len(children))
	}
	w.check(syscall.Kill(children[0], syscall.SIGKILL))
	if code := p.wait(); code != exitDone {
		t.Fatalf("exit code %d:\n%s", code, p.out.String())
	}
	if out := p.out.String(); !strings.Contains(out, "signal: killed") {
		t.Errorf("it does not say how the process died:\n%s", out)
	}
	w.survived(w.renewed(), []kill{{step: "uploading_certificate"}}, nil)
}

// TestParentKilled kills only the parent, while the child's request is held: the
// child ends with it, and the next parent waits for that.
func TestParentKilled(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	id := w.fault(faults.Fault{Call: "cucm.csr", Kind: faults.HoldAfter})
	p := w.start("", w.runArgs()...)
	w.held(p, id)
	w.check(p.cmd.Process.Kill())
	w.mustRun(exitDone)
	if code := p.wait(); code != -int(syscall.SIGKILL) {
		t.Errorf("exit code %d", code)
	}
	w.survived(w.renewed(), []kill{{step: "generating_csr"}}, nil)
}

// TestChildStopped stops the child, as a debugger does, and interrupts the parent,
// which kills the child after a grace period.
func TestChildStopped(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	id := w.fault(faults.Fault{Call: "cucm.csr", Kind: faults.HoldAfter})
	p := w.start("", w.runArgs()...)
	w.held(p, id)
	for _, pid := range p.children() {
		w.check(syscall.Kill(pid, syscall.SIGSTOP))
	}
	w.check(p.cmd.Process.Signal(syscall.SIGINT))
	if code := p.wait(); code != exitFailed || !strings.Contains(p.out.String(), "interrupted") {
		t.Errorf("exit code %d:\n%s", code, p.out.String())
	}
	w.clearFaults()
	w.mustRun(exitDone)
	w.survived(w.renewed(), []kill{{step: "generating_csr"}}, nil)
}

// TestDeathsPark lets one step end its process again and again.
func TestDeathsPark(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	p := w.start("after-mark cucm.Node:csr 1 child", w.runArgs()...)
	// The node has no request pending, so each process marks and begins anew.
	if code := p.wait(); code != exitParked {
		t.Fatalf("exit code %d:\n%s", code, p.out.String())
	}
	w.parked(p.out.String(), "generating_csr", "signal: killed")
}

// TestMemoryBomb lets a script take more memory than it may have. It must not
// take the machine's.
func TestMemoryBomb(t *testing.T) {
	if raceDetector {
		t.Skip("there is no limit under the race detector")
	}
	t.Parallel()
	w := startWorld(t)
	w.script(demoPlaybook, `
return playbook { name = "cucm-tomcat", run = function(ctx)
  ctx:step("growing", function()
    local all = {}
    for i = 1, 1e9 do all[i] = { i } end
  end)
end }`)
	// The Go runtime says that there is no memory, or is killed by a signal at that.
	w.parked(w.mustRun(exitParked), "growing", "died in step growing")
	// It stays parked, and says so again.
	w.parked(w.mustRun(exitParked), "growing", "died in step growing")
}

// parked checks that a run's output and its journal say in which step its process
// died, how, and how often.
func (w *world) parked(out, step, how string) {
	w.t.Helper()
	h := w.histories()[0]
	for _, word := range []string{step, how, "3 times"} {
		// The Go runtime reports a refused allocation as a fatal error, or as SIGSEGV.
		segfault := word == "memory" && strings.Contains(out, "SIGSEGV") && strings.Contains(h.Run.Reason, "SIGSEGV")
		if !segfault && (!strings.Contains(out, word) || !strings.Contains(h.Run.Reason, word)) {
			w.t.Errorf("it does not say %q: %s\n%s", word, h.Run.Reason, out)
		}
	}
	if h.Run.Status != journal.Parked {
		w.t.Errorf("the run is %s", h.Run.Status)
	}
}

// TestCrashWhileServiceRestarts kills the run while a service restarts. Of Tomcat the
// journal knows that, and its restart is not started again; a service that may be restarted
// twice is, and nothing else.
func TestCrashWhileServiceRestarts(t *testing.T) {
	t.Parallel()
	for service, unsure := range map[string]map[string]int{"Cisco Tomcat": nil, "Cisco UDS Tomcat": {"Cisco UDS Tomcat": 1}} {
		t.Run(strings.ReplaceAll(service, " ", "_"), func(t *testing.T) {
			t.Parallel()
			w := startWorld(t)
			w.check(w.lab.Configure(t.Context(), demoNode, func(b *cucmtest.Behavior) {
				b.RestartOutage, b.ServiceRestart = 2*time.Second, time.Second
			}))
			p := w.start("", w.runArgs()...)
			w.begun(p, service, unsure == nil)
			p.kill()
			p.wait()
			w.mustRun(exitDone)
			w.survived(w.renewed(), []kill{{step: "restarting_services"}}, unsure)
		})
	}
}

// begun waits until a service's restart has started, and if it is journaled the journal
// knows that.
func (w *world) begun(p *process, service string, journaled bool) {
	w.t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-p.done.Done():
			w.t.Fatalf("it came to its end before %s restarted: exit code %d:\n%s", service, p.wait(), p.out.String())
		case <-again.C:
		}
		if restarts(w.ledger())[service] > 0 && (!journaled || slices.ContainsFunc(w.effects("cucm.Node:restart"), func(e journal.Effect) bool {
			var progress cucm.RestartProgress
			_ = json.Unmarshal(e.Progress, &progress) // there may be none yet
			return slices.Contains(progress.Services, cucm.RestartState{Service: service, State: cucm.Started})
		})) {
			return
		}
	}
}

// effects returns the journaled calls of a function.
func (w *world) effects(fn string) (out []journal.Effect) {
	w.t.Helper()
	for _, h := range w.histories() {
		for _, e := range h.Effects {
			if e.Fn == fn {
				out = append(out, e)
			}
		}
	}
	return out
}

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"moonseal/runtime/journal"
)

// A run whose process is stopped keeps the only worker; cancelled, it is cancelled,
// and the next one begins.
func TestServeCancelsAStoppedRun(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir(), env: map[string]string{}}
	w.check(os.MkdirAll(filepath.Join(w.dir, "scripts"), 0o755))
	w.check(os.WriteFile(w.config(), []byte("state: state\nscripts: scripts\nconcurrency: 1\n"), 0o600))
	w.script("stopped", `return playbook { run = function(ctx) ctx:step("first", function() return true end) ctx:poll("waiting", { within = "2h", every = "20s" }, function() return false end) end }`)
	w.script("next", `return playbook { run = function(ctx) ctx:step("first", function() return true end) end }`)
	d := w.serve()
	stopped := d.begin("stopped")
	d.is(stopped, journal.Running)
	w.until("it sleeps", func() bool {
		for _, h := range w.histories() {
			if h.Run.ID == stopped && len(h.Steps) == 2 {
				return true
			}
		}
		return false
	})
	children := d.children()
	if len(children) != 1 {
		t.Fatalf("%d children, want 1", len(children))
	}
	w.check(syscall.Kill(children[0], syscall.SIGSTOP))
	next := d.begin("next")
	if out := w.moonseal(exitDone, "cancel", stopped); !strings.Contains(out, "is cancelled") {
		t.Errorf("cancel: %s", out)
	}
	d.is(stopped, journal.Cancelled)
	d.is(next, journal.Done)
	if out := w.moonseal(exitDone, "logs", stopped); !strings.Contains(out, "it was stopped (SIGSTOP), and therefore killed") {
		t.Errorf("logs: %s", out)
	}
	if alive(children[0]) {
		t.Error("the stopped process lives")
	}
	w.check(d.cmd.Process.Signal(syscall.SIGTERM))
	if code := d.process.wait(); code != exitDone {
		t.Errorf("exit code %d:\n%s", code, d.out.String())
	}
}

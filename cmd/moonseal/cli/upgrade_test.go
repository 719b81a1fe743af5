package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"moonseal/runtime/journal"
)

// newPlainSite returns a site without a lab, with one playbook that needs none.
func newPlainSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t, "")
	s.script("plain", `return playbook { run = function(ctx) ctx:step("first", function() return true end) end }`)
	return s
}

// The program's file is replaced while the daemon runs, with what is no program: it
// loads scripts and runs playbooks as before.
func TestServeOutlivesItsFile(t *testing.T) {
	t.Parallel()
	s := newPlainSite(t)
	installed := filepath.Join(t.TempDir(), "moonseal")
	// Written here, it could be open in a process that another test starts meanwhile.
	if out, err := exec.CommandContext(t.Context(), "cp", program(t), installed).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.program = installed
	d := s.serve()
	replaced := installed + ".new"
	s.check(os.WriteFile(replaced, []byte("no program"), 0o755))
	s.check(os.Rename(replaced, installed))
	s.program = ""
	d.is(d.begin("plain"), journal.Done)
	s.script("next", `return playbook { run = function(ctx) ctx:step("first", function() return true end) end }`)
	s.moonseal(exitDone, "reload")
	d.is(d.begin("next"), journal.Done)
	s.check(d.cmd.Process.Signal(syscall.SIGTERM))
	if code := d.process.wait(); code != exitDone {
		t.Errorf("exit code %d:\n%s", code, d.out.String())
	}
}

// A command of another build than the daemon says so once, and does what it can.
func TestAnotherBuildsDaemon(t *testing.T) {
	t.Parallel()
	const note = "moonseal: the daemon is moonseal test, this command is moonseal next\nhint: restart the daemon: systemctl restart moonseal\n"
	s := newPlainSite(t)
	d := s.serve()
	if out := s.moonseal(exitDone, "status"); strings.Contains(out, "hint") {
		t.Errorf("of the same build: %s", out)
	}
	s.env[buildVariable] = "next"
	for _, args := range [][]string{{"status"}, {"run", "plain", "--force"}, {"doctor"}} {
		p := s.start("", append(args, "--config", s.config())...)
		if code := p.wait(); code != exitDone && args[0] != "doctor" || strings.Count(p.out.String(), note) != 1 {
			t.Errorf("%v: exit code %d:\n%s", args, code, p.out.String())
		}
	}
	d.kill()
	d.process.wait()
}

// A child of another build does nothing, and says what to do. The run does not die of it.
func TestAnotherBuildsChild(t *testing.T) {
	t.Parallel()
	s := newPlainSite(t)
	s.env[buildVariable] = "next"
	p := s.start("", "run", "plain", "--config", s.config(), "--force")
	code := p.wait()
	if out := p.out.String(); code != exitFailed || !strings.Contains(out, "the run's process is moonseal test, its parent is moonseal next") || !strings.Contains(out, "systemctl restart moonseal") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if all := s.histories(); len(all) > 0 {
		t.Errorf("a run began: %+v", all[0].Run)
	}
	out, err := exec.CommandContext(t.Context(), program(t), workerCommand).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "systemctl restart moonseal") {
		t.Errorf("started by hand: %v\n%s", err, out)
	}
}

package worker

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Where memory ends for more than a run, a run is what the kernel ends.
func TestARunIsLostBeforeTheDaemon(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	if err := (Limits{}).apply(cmd.Process.Pid, false); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", cmd.Process.Pid))
	if err != nil || string(text) != "500\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// A child, and what it makes, has timers that may be late, see timerSlack; this process
// keeps its own.
func TestTimersOfAChildMayBeLate(t *testing.T) {
	const own = "/proc/self/timerslack_ns"
	before, err := os.ReadFile(own)
	if err != nil {
		t.Skip(err)
	}
	p, err := Exec{Path: "/bin/sh", Args: []string{"-c", "cat " + own + " >&2; exit 1"}}.Start(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Wait(), fmt.Sprintf("exit status 1: %d", timerSlack); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if after, err := os.ReadFile(own); err != nil || string(after) != string(before) {
		t.Errorf("%q, want %q: %v", after, before, err)
	}
}

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

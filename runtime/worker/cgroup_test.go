package worker

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// cgroups returns a cgroup of version 2 that the test may divide, and where the
// hierarchy is mounted.
func cgroups(t *testing.T) (root, dir string) {
	t.Helper()
	for _, root := range []string{cgroupRoot, cgroupRoot + "/unified"} {
		var st unix.Statfs_t
		dir := filepath.Join(root, fmt.Sprintf("moonseal-test-%d", os.Getpid()))
		if unix.Statfs(root, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC && os.Mkdir(dir, 0o755) == nil {
			t.Cleanup(func() { _ = unix.Rmdir(dir) })
			return root, dir
		}
	}
	t.Skip("there is no cgroup of version 2 that this test may use")
	return "", ""
}

func TestEachChildHasACgroup(t *testing.T) {
	_, dir := cgroups(t)
	g := &Groups{dir: dir, log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := g.add(cmd.Process.Pid, Limits{Memory: 64 << 20, CPU: 0.5})
	if c == nil {
		t.Fatal("no group")
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cmd.Process.Pid))
	if err != nil || !strings.Contains(string(text), filepath.Base(dir)+"/"+filepath.Base(c.dir)+"\n") {
		t.Errorf("%s, %v", text, err)
	}
	c.remove() // which ends what is in it
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("got %v", err)
	}
	c.remove()
	if left, _ := filepath.Glob(filepath.Join(dir, groupPrefix+"*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestOnlyADelegatedCgroupIsDivided(t *testing.T) {
	root, dir := cgroups(t)
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Rmdir(below) })
	self := filepath.Join(t.TempDir(), "cgroup")
	if err := os.WriteFile(self, []byte("4:memory:/x\n0::/"+filepath.Base(dir)+"/below\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := delegated(root, self); err == nil {
		t.Errorf("nothing is delegated: %s", got)
	}
	if err := unix.Setxattr(dir, "trusted.delegate", []byte("1"), 0); err != nil {
		t.Skipf("cannot mark a cgroup as delegated: %v", err)
	}
	if got, err := delegated(root, self); err != nil || got != dir {
		t.Errorf("the one above: %s, %v", got, err)
	}
	if err := unix.Setxattr(below, "trusted.delegate", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if got, err := delegated(root, self); err != nil || got != below {
		t.Errorf("its own: %s, %v", got, err)
	}
	if _, err := delegated(t.TempDir(), self); err == nil {
		t.Error("a folder that is not a cgroup")
	}
}

func TestLimitsAsFiles(t *testing.T) {
	got := Limits{Memory: 1 << 20, CPU: 1.5}.files()
	if got["cpu.max"] != "150000 100000" || got["pids.max"] != "256" || (!raceDetector && got["memory.max"] != "1048576") {
		t.Errorf("got %v", got)
	}
	if _, ok := (Limits{}).files()["memory.max"]; ok {
		t.Error("a limit that was not requested")
	}
}

// Without cgroups nothing fails.
func TestNoCgroups(t *testing.T) {
	var none *Groups
	c := none.add(1, Limits{})
	c.remove()
	if c != nil || c.outOfMemory() {
		t.Error("a group out of nothing")
	}
	gone := &Groups{dir: filepath.Join(t.TempDir(), "gone"), log: slog.New(slog.DiscardHandler)}
	if gone.add(os.Getpid(), Limits{}) != nil {
		t.Error("a group in a folder that is not there")
	}
}

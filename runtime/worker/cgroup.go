package worker

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Groups makes a cgroup (cgroups(7), version 2) for each child, below the one that was
// delegated to this process. It is safe for concurrent use; nil makes none.
type Groups struct {
	dir  string
	log  *slog.Logger
	next atomic.Int64
}

const (
	cgroupRoot = "/sys/fs/cgroup"
	// ownGroup is the group of this process: one with limited groups below it cannot have
	// processes of its own.
	ownGroup    = "moonseal"
	groupPrefix = "run-"
)

// OpenGroups opens the cgroup that the service manager has delegated (systemd's
// Delegate=), and moves this process into one below it. If none was delegated it logs why
// at debug and returns nil: children then have rlimits only.
func OpenGroups(log *slog.Logger) *Groups {
	dir, err := delegated(cgroupRoot, "/proc/self/cgroup")
	if err != nil {
		log.Debug("the processes of runs have no cgroups", "why", err.Error())
		return nil
	}
	g, err := openGroups(dir, log)
	if err != nil {
		log.Debug("the processes of runs have no cgroups", "why", err.Error())
		return nil
	}
	return g
}

// delegated returns the folder of the cgroup that this process may divide: its own, or the
// one above if it was started in one below.
func delegated(root, self string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		return "", errors.New(root + " is not cgroup version 2")
	}
	text, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	_, path, ok := strings.Cut("\n"+string(text), "\n0::")
	if !ok {
		return "", errors.New(self + " names no cgroup of version 2")
	}
	path, _, _ = strings.Cut(path, "\n")
	own := filepath.Join(root, path)
	for _, dir := range []string{own, filepath.Dir(own)} {
		if isDelegated(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("the cgroup %s was not delegated to this process", path)
}

// isDelegated reads the mark that systemd sets on a delegated cgroup.
func isDelegated(dir string) bool {
	mark := make([]byte, 8)
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		if n, err := unix.Getxattr(dir, name, mark); err == nil && string(mark[:n]) == "1" {
			return true
		}
	}
	return false
}

func openGroups(dir string, log *slog.Logger) (*Groups, error) {
	own := filepath.Join(dir, ownGroup)
	if err := os.Mkdir(own, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // as the kernel's own
		return nil, err
	}
	if err := write(own, "cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
		return nil, err
	}
	g := &Groups{dir: dir, log: log}
	for _, name := range []string{"memory", "pids", "cpu"} {
		if err := write(dir, "cgroup.subtree_control", "+"+name); err != nil {
			log.Debug("the cgroups of runs have no such limit", "controller", name, "why", err.Error())
		}
	}
	// Left by a daemon that was killed, and whose children have ended since.
	left, _ := filepath.Glob(filepath.Join(dir, groupPrefix+"*"))
	for _, l := range left {
		_ = unix.Rmdir(l)
	}
	return g, nil
}

// group is one child's cgroup.
type group struct{ dir string }

// add makes a cgroup and puts the process pid into it. It returns nil if that fails: the
// child has its rlimits.
func (g *Groups) add(pid int, l Limits) *group {
	if g == nil {
		return nil
	}
	c := &group{filepath.Join(g.dir, fmt.Sprintf("%s%d-%d", groupPrefix, os.Getpid(), g.next.Add(1)))}
	err := os.Mkdir(c.dir, 0o755) //nolint:gosec // as the kernel's own
	if err == nil {
		for file, value := range l.files() {
			if err := write(c.dir, file, value); err != nil {
				g.log.Debug("a limit is not set", "limit", file, "why", err.Error())
			}
		}
		err = write(c.dir, "cgroup.procs", strconv.Itoa(pid))
	}
	if err != nil {
		g.log.Debug("a run's process has no cgroup", "why", err.Error())
		_ = unix.Rmdir(c.dir)
		return nil
	}
	return c
}

// files returns the limits as the contents of a cgroup's files.
func (l Limits) files() map[string]string {
	files := map[string]string{"pids.max": strconv.Itoa(maxTasks), "memory.oom.group": "1"}
	if l.Memory > 0 && !raceDetector {
		files["memory.max"], files["memory.swap.max"] = strconv.FormatInt(l.Memory, 10), "0"
	}
	if l.CPU > 0 {
		const period = 100_000 // µs
		files["cpu.max"] = fmt.Sprintf("%d %d", max(int(l.CPU*period), 1000), period)
	}
	return files
}

// remove kills what is left in the group, and removes it.
func (c *group) remove() {
	if c == nil {
		return
	}
	_ = write(c.dir, "cgroup.kill", "1")
	_ = unix.Rmdir(c.dir) // if it is still busy, the next start removes it
}

// outOfMemory reports whether the kernel has killed for the group's memory.max.
func (c *group) outOfMemory() bool {
	if c == nil {
		return false
	}
	events, err := os.ReadFile(filepath.Join(c.dir, "memory.events"))
	return err == nil && bytes.Contains(events, []byte("oom_kill ")) && !bytes.Contains(events, []byte("oom_kill 0\n"))
}

func write(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

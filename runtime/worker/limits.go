package worker

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

// Limits bound a child; the kernel enforces them. 0 means unlimited.
type Limits struct {
	Memory int64   // bytes of data (RLIMIT_DATA), and of all memory if there is a cgroup
	Files  int     // open files (RLIMIT_NOFILE)
	CPU    float64 // processors' worth of time if there is a cgroup; else the child is nicer than others
}

const (
	// maxFile bounds each file that a child writes, in bytes: its largest is a
	// renewal.log.
	maxFile = 64 << 20
	// nicer is the niceness of a child whose processor share no cgroup limits.
	nicer = 10
	// maxTasks bounds a child's threads if there is a cgroup. RLIMIT_NPROC cannot: it
	// counts all threads of the user, the daemon's included.
	maxTasks = 256
	// oomScore makes the kernel kill a child before the daemon when the machine runs out
	// of memory.
	oomScore = 500
)

// keepBelowLimit makes a child's garbage collector work harder before the child reaches
// the kernel's limit, which ends it.
func keepBelowLimit() {
	var data unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &data); err == nil && data.Cur < 1<<40 {
		debug.SetMemoryLimit(int64(data.Cur) / 4 * 3)
	}
}

// apply sets the limits of the process pid. grouped is whether it is in a cgroup.
func (l Limits) apply(pid int, grouped bool) error {
	// While the process does not yet hide from this one; see seal.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(oomScore)), 0)
	limits := map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: maxFile}
	// The race detector's own memory is more than any limit.
	if l.Memory > 0 && !raceDetector {
		limits[unix.RLIMIT_DATA] = uint64(l.Memory)
	}
	if l.Files > 0 {
		limits[unix.RLIMIT_NOFILE] = uint64(l.Files)
	}
	for what, limit := range limits {
		if err := unix.Prlimit(pid, what, &unix.Rlimit{Cur: limit, Max: limit}, nil); err != nil {
			return fmt.Errorf("cannot limit the run's process: %w", err)
		}
	}
	if l.CPU > 0 && !grouped {
		_ = unix.Setpriority(unix.PRIO_PGRP, pid, nicer) // all its threads; it leads its group
	}
	return nil
}

package worker

import (
	"math"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// timerSlack is by how many nanoseconds a child's timers may be late; the kernel's own
// value is 50,000. While a child works, Go's scheduler wakes a thread every 20
// microseconds. In a virtual machine, where timers are expensive, the slack saves 7 % of
// a run's processor time, and no timer of a run has to be exact to a millisecond.
const timerSlack = 1_000_000

// startConfined starts the child from a thread that is confined as the child must be, and
// that ends afterwards: a process inherits the confinement of the thread that creates it,
// so there is no moment in which the child is free. writes is whether it may change the
// folders of the jail.
func (e Exec) startConfined(cmd *exec.Cmd, writes bool) error {
	// What this process inherited, from a shell or a service manager, must not reach the
	// child. Kernels before 5.11 do not have the call.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	ruleset := e.ruleset(writes)
	if ruleset != nil {
		defer func() { _ = ruleset.Close() }()
	}
	var err error
	onThread(func() {
		// Without it only root may use Landlock. Every kernel has it.
		if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return
		}
		if ruleset != nil {
			if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset.Fd(), 0, 0); errno != 0 {
				e.debug("the run's process is not confined", "landlock_restrict_self", errno)
			}
		}
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0) // some kernels are built without it
		err = cmd.Start()
	})
	return err
}

// ruleset returns nil if there is no jail, or if the kernel cannot enforce it.
func (e Exec) ruleset(writes bool) *os.File {
	if e.Jail == nil {
		return nil
	}
	abi := LandlockABI()
	if abi == 0 {
		e.debug("the run's process is not confined", "landlock", "this kernel has none")
		return nil
	}
	var access uint64
	var folders []string
	switch {
	case writes:
		access, folders = mayWrite, e.Jail.of(e.tenant)
	case e.reads:
		access, folders = mayRead, e.Jail.of(e.tenant)
	}
	ruleset, err := e.Jail.ruleset(abi, e.Path, e.Env, access, folders)
	if err != nil {
		e.debug("the run's process is not confined", "landlock", err)
		return nil
	}
	return ruleset
}

func (e Exec) debug(message string, args ...any) {
	if e.Log != nil {
		e.Log.Debug(message, args...)
	}
}

// onThread calls f on a thread of its own, which ends with it. It is never the
// process's first thread, which cannot end and would stay as f has left it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread is not used again
		if unix.Gettid() == unix.Getpid() {
			onThread(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

package worker

import (
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// seal restricts a child further, from within and for good. Each restriction is a second
// line of defence behind what its parent has set, so those that the kernel refuses are
// left out. signals lets it signal other processes, see [Jail.Signals].
func seal(signals bool) {
	// Started from /proc/self/exe it would be "exe" in lists of processes.
	if name, err := unix.BytePtrFromString(filepath.Base(os.Args[0])); err == nil && unix.Gettid() == unix.Getpid() {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0)
	}
	// Its secrets must be readable neither by another process of this user nor in a core file.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	// Exceeding the file size limit must be an error of the write, not the process's end.
	signal.Ignore(syscall.SIGXFSZ)
	arch, ok := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if !ok {
		return
	}
	filter := calls(arch, signals)
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	//nolint:dogsled // the results of the raw call are of no use here
	_, _, _ = unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
}

// calls returns the program (seccomp(2)) that lets a child make every system call but
// those that start a program and, unless signals, those that signal another process:
// Landlock restricts these only from Linux 6.12 on. It requires no_new_privs, which the
// parent has set.
func calls(arch uint32, signals bool) []unix.SockFilter {
	const (
		load     = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		atLeast  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		ret      = unix.BPF_RET | unix.BPF_K
		ofNumber = 0 // struct seccomp_data
		ofArch   = 4
		ofFirst  = 16         // the first argument's lower half, on little-endian machines
		x32      = 0x40000000 // calls of the other ABI that amd64 has
	)
	refused := unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	filter := []unix.SockFilter{
		{Code: load, K: ofArch},
		{Code: equal, K: arch, Jt: 1}, // another architecture's calls have other numbers
		{Code: ret, K: refused},
		{Code: load, K: ofNumber},
		{Code: atLeast, K: x32, Jf: 1},
		{Code: ret, K: refused},
	}
	never := []uint32{unix.SYS_EXECVE, unix.SYS_EXECVEAT}
	var toItself []uint32
	if !signals {
		never = append(never, unix.SYS_TKILL, unix.SYS_PIDFD_SEND_SIGNAL)
		toItself = []uint32{unix.SYS_KILL, unix.SYS_TGKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO}
	}
	for _, call := range never {
		filter = append(filter, unix.SockFilter{Code: equal, K: call, Jf: 1}, unix.SockFilter{Code: ret, K: refused})
	}
	for _, call := range toItself {
		filter = append(filter,
			unix.SockFilter{Code: equal, K: call, Jf: 4},
			unix.SockFilter{Code: load, K: ofFirst},
			unix.SockFilter{Code: equal, K: uint32(unix.Getpid()), Jt: 1},
			unix.SockFilter{Code: ret, K: refused},
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		)
	}
	return append(filter, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
}

package worker

import (
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// seal closes, from within a child and for good, what its birth left open. Each
// is a second line behind what its parent has set, and what a kernel refuses is
// done without.
func seal() {
	// Neither another process of this user nor a core file gets at its secrets.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	// A file over its limit is the writer's error, not the process's end.
	signal.Ignore(syscall.SIGXFSZ)
	noPrograms()
}

// noPrograms refuses every execve from now on, on all threads (seccomp(2)). It
// wants no_new_privs, which the parent has set.
func noPrograms() {
	arch, ok := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if !ok {
		return
	}
	const (
		load     = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jump     = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		atLeast  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		ret      = unix.BPF_RET | unix.BPF_K
		ofNumber = 0 // struct seccomp_data
		ofArch   = 4
		x32      = 0x40000000 // calls of the other ABI that amd64 has
	)
	filter := []unix.SockFilter{
		{Code: load, K: ofArch},
		{Code: jump, K: arch, Jf: 5}, // another architecture's calls have other numbers
		{Code: load, K: ofNumber},
		{Code: atLeast, K: x32, Jt: 3},
		{Code: jump, K: unix.SYS_EXECVE, Jt: 2},
		{Code: jump, K: unix.SYS_EXECVEAT, Jt: 1},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	//nolint:dogsled // nothing of what a raw call gives is of use here
	_, _, _ = unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
}

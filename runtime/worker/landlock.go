package worker

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Jail is what a child may reach in the file system, enforced by the kernel
// (landlock(7)). Nil in [Exec] means no jail. It covers neither the network nor inherited
// open files.
type Jail struct {
	// Write are folders that a run may read and change, and a load may not. A tenant's run
	// has only the folder of the tenant's name in each. Runs without a tenant have all of
	// it: Landlock cannot exclude a folder from one that is granted.
	Write []string
	Read  []string // further files and folders that it may read
	// Signals lets the child signal processes other than itself, for tests that
	// end its parent from within.
	Signals bool
}

// LandlockABI returns the version of Landlock that the kernel has, 0 for none: not built
// in, switched off, or refused by a container.
func LandlockABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

const (
	mayRead  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	mayWrite = mayRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_REFER |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG
	mayExecute = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	ofFiles    = mayExecute | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// handled returns the accesses that a kernel of this ABI can refuse. They are refused
// unless a rule grants them.
func handled(abi int) uint64 {
	all := uint64(unix.LANDLOCK_ACCESS_FS_REFER - 1) // those of the first ABI
	for from, access := range map[int]uint64{2: unix.LANDLOCK_ACCESS_FS_REFER, 3: unix.LANDLOCK_ACCESS_FS_TRUNCATE, 5: unix.LANDLOCK_ACCESS_FS_IOCTL_DEV} {
		if abi >= from {
			all |= access
		}
	}
	return all
}

// system returns what a program must be able to read: trusted roots, the configuration of
// name resolution, and time zones.
func system() []string {
	return []string{
		"/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols",
		"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/nscd", // where resolv.conf and its like are replaced
		"/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/tls/cacert.pem",
		"/etc/pki/ca-trust/extracted", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/pki", "/var/lib/ca-certificates",
		"/etc/localtime", "/etc/timezone", "/usr/share/zoneinfo", "/usr/lib/locale",
	}
}

// libraries returns what a dynamically linked program needs beside itself.
func libraries() []string {
	return []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/ld.so.preload"}
}

// of returns the folders of Write for the runs of a tenant.
func (j *Jail) of(tenant string) []string {
	if tenant == "" {
		return j.Write
	}
	var out []string
	for _, dir := range j.Write {
		out = append(out, filepath.Join(dir, filepath.Base(tenant)))
	}
	return out
}

// ruleset makes the kernel's ruleset for a child that runs program, with the
// environment env, and has access to folders.
func (j *Jail) ruleset(abi int, program string, env []string, access uint64, folders []string) (*os.File, error) {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled(abi)}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		if !j.Signals {
			attr.Scoped |= unix.LANDLOCK_SCOPE_SIGNAL
		}
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return nil, fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	r := rules{File: os.NewFile(fd, "ruleset"), handled: attr.Handled_access_fs}
	r.allow(mayRead, system()...)
	r.allow(mayRead, j.Read...)
	for _, v := range env {
		if name, value, _ := strings.Cut(v, "="); name == "SSL_CERT_FILE" || name == "SSL_CERT_DIR" {
			r.allow(mayRead, filepath.SplitList(value)...)
		}
	}
	r.allow(ofFiles&^mayExecute|unix.LANDLOCK_ACCESS_FS_READ_FILE, os.DevNull)
	r.allow(mayExecute, program)
	if loader := interpreter(program); loader != "" {
		r.allow(mayExecute, loader)
		r.allow(mayRead, libraries()...)
	}
	if raceDetector { // it reads the layout of its own memory
		r.allow(mayRead, "/proc")
	}
	r.allow(access, folders...)
	if r.err != nil {
		_ = r.Close()
		return nil, r.err
	}
	return r.File, nil
}

// rules adds rules to a ruleset, and records the first error.
type rules struct {
	*os.File
	handled uint64
	err     error
}

// allow grants access to paths and what is below them. A missing path needs no rule.
func (r *rules) allow(access uint64, paths ...string) {
	for _, path := range paths {
		if path == "" || r.err != nil {
			continue
		}
		if err := r.add(access, path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.ENOTDIR) {
			r.err = fmt.Errorf("landlock_add_rule %s: %w", path, err)
		}
	}
}

func (r *rules) add(access uint64, path string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= ofFiles
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access & r.handled, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, r.Fd(), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// interpreter returns the dynamic loader that a program names, "" for a static one.
func interpreter(program string) string {
	f, err := elf.Open(program)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > unix.PathMax {
			continue
		}
		name := make([]byte, p.Filesz)
		if _, err := p.ReadAt(name, 0); err != nil {
			return ""
		}
		return strings.TrimRight(string(name), "\x00")
	}
	return ""
}

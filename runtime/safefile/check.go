package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"moonseal/runtime/problem"
)

// Policy says who may be able to change a file: root and User, unless AnyOwner.
type Policy struct {
	User     int
	AnyOwner bool // the owners of the file and of the folders do not matter, only what others can write
	// ReadOnly reports whether the file system of a folder is mounted read-only: such
	// a folder cannot be changed, whatever its mode says. nil asks the system.
	ReadOnly func(dir string) bool
}

// mostLinks is the kernel's bound too.
const mostLinks = 40

// Check refuses path if others can change what is found there: if they can write the
// file, or any folder or link on the way to it. In a folder with the sticky bit,
// such as /tmp, others cannot replace what is not theirs, so it may be further up; the
// folder of the file itself must not be one, since others could create the file.
func (p Policy) Check(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	at, rest := "/", split(abs)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return err
		}
		if err := p.entry(at, next, info, len(rest) == 0); err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > mostLinks {
			return &problem.Error{Kind: problem.Usage, Target: path, Message: "symlink loop"}
		}
		target, err := os.Readlink(next)
		if err != nil {
			return err
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(split(target), rest...)
	}
	return nil
}

// entry checks one name in the folder dir.
func (p Policy) entry(dir, path string, info fs.FileInfo, last bool) error {
	folder, err := os.Stat(dir)
	if err != nil {
		return err
	}
	sticky := !last && folder.Mode()&fs.ModeSticky != 0
	if !sticky {
		if err := p.writable(dir, folder); err != nil {
			return err
		}
	}
	if err := p.owned(dir, folder); err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink == 0 && (last || !info.IsDir()) {
		if err := p.writable(path, info); err != nil {
			return err
		}
	}
	return p.owned(path, info)
}

func (p Policy) owned(path string, info fs.FileInfo) error {
	owner := Owner(info)
	if p.AnyOwner || owner <= 0 || owner == p.User {
		return nil
	}
	what := "it"
	if info.Mode()&fs.ModeSymlink != 0 {
		what = "this link"
	}
	return &problem.Error{Kind: problem.Usage, Target: path, Message: fmt.Sprintf("%s belongs to %s", what, UserName(owner)), Hint: "chown " + UserName(p.User) + " " + path}
}

func (p Policy) writable(path string, info fs.FileInfo) error {
	readOnly := p.ReadOnly
	if readOnly == nil {
		readOnly = ReadOnly
	}
	if !OthersWrite(info) || readOnly(path) {
		return nil
	}
	return Writable(path, info)
}

// OthersWrite reports whether users other than its owner can write the file or folder.
func OthersWrite(info fs.FileInfo) bool { return info.Mode().Perm()&0o022 != 0 }

// Writable returns the error of a file or folder that users other than its owner can
// write.
func Writable(path string, info fs.FileInfo) *problem.Error {
	what := "it"
	if info.IsDir() {
		what = "this folder"
	}
	mode := info.Mode().Perm()
	if info.Mode()&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	return &problem.Error{
		Kind: problem.Usage, Target: path, Message: fmt.Sprintf("others can write %s (mode %04o)", what, mode), Hint: "chmod go-w " + path,
	}
}

// ReadOnly reports whether path is on a file system that is mounted read-only, as
// the volumes of a container's secrets are, whose modes say little.
func ReadOnly(path string) bool {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(path, &st)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && st.Flags&unix.ST_RDONLY != 0
		}
	}
}

// Owner returns the user id of a file's owner, -1 if the system does not say.
func Owner(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// UserName returns the name of the user with this id, for messages.
func UserName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(uid)
}

// split returns the parts of a path. ".." stays: the part before it may be a link.
func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(part string) bool { return part == "" || part == "." })
}

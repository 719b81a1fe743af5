package account

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moonseal/runtime/problem"
)

// most bounds a file that is read; a chain of certificates is some 10 KB.
const most = 1 << 20

// WriteFile replaces the file at path, and makes its folder where there is
// none. After a crash the file has the old contents or the new, never half;
// after WriteFile returned it has the new, even if power fails.
func WriteFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return err
	}
	return fileError("write", path, replace(dir, path, data))
}

func replace(dir, path string, data []byte) (err error) {
	f, err := os.CreateTemp(dir, ".new-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// makeDir makes dir and what is missing above it, 0700, each synced into its
// parent. It refuses a folder that others can write: they could swap a pin.
func makeDir(dir string) error {
	if err := checkDir(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
			if err := makeDir(parent); err != nil {
				return err
			}
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fileError("make the folder", dir, err)
	}
	if err := syncDir(parent); err != nil {
		return fileError("make the folder", dir, err)
	}
	return checkDir(dir)
}

// checkDir gives an error for which errors.Is(err, fs.ErrNotExist) holds where
// there is nothing.
func checkDir(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return fileError("use the folder", dir, err)
	}
	if st.Mode().Perm()&0o022 != 0 {
		return &problem.Error{
			Kind: problem.Usage, Target: dir, Work: problem.NotDone,
			Message: fmt.Sprintf("others can write this folder (mode %04o)", st.Mode().Perm()),
			Hint:    "chmod go-w " + dir,
		}
	}
	return nil
}

// readFile gives a file's contents, nil where there is none.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fileError("read", path, err)
	}
	defer func() { _ = f.Close() }()
	if err := checkDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fileError("read", path, err)
	}
	if len(b) > most {
		return nil, &problem.Error{Kind: problem.Usage, Target: path, Message: "the file is larger than 1 MiB", Work: problem.NotDone}
	}
	return b, nil
}

// lock takes the lock file at path, waiting for whoever holds it. It is held
// for the time of making one key, and the kernel frees it with its process.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fileError("lock", path, err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fileError("lock", path, err)
	}
	return func() { _ = f.Close() }, nil
}

// fileError gives err, which an operation on path met, for a person; nil for
// nil. A full disk can be mended by waiting, missing rights cannot.
func fileError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	e := &problem.Error{Kind: problem.Unavailable, Target: path, Message: "cannot " + op + ": " + problem.Reason(err), Cause: err}
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
		e.Kind = problem.Usage
		e.Hint = "the user that runs moonseal must be able to read and write the state folder"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		e.Hint = "free some space"
	}
	return e
}

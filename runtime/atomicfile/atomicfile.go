// Package atomicfile replaces files so that neither a crash nor a power failure leaves half
// of one, in folders that others cannot write. Files are 0600, and folders that it creates
// 0700. Errors are *problem.Error.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moonseal/runtime/problem"
)

// WriteFile replaces the file at path, and makes its folder if there is none.
// After a crash the file has the old contents or the new, never half; after
// WriteFile has returned it has the new, even if power fails.
func WriteFile(path string, data []byte) error {
	return WriteFiles(filepath.Dir(path), File{Name: filepath.Base(path), Data: data})
}

// File is a file of a folder, with its new contents.
type File struct {
	Name string
	Data []byte
}

// WriteFiles replaces files of a folder in their order, each as WriteFile does, with one
// sync of the folder for all. If power fails before it has returned, any of them may
// still have the old contents.
func WriteFiles(dir string, files ...File) error {
	for _, f := range files {
		if err := Replace(filepath.Join(dir, f.Name), f.Data); err != nil {
			return err
		}
	}
	return Explain("write", filepath.Join(dir, files[len(files)-1].Name), syncDir(dir))
}

// Replace is WriteFile without the sync of the folder: if power fails before that is
// synced for another file, the file may have the old contents again, never half.
func Replace(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := MakeDir(dir); err != nil {
		return err
	}
	return Explain("write", path, replace(dir, path, data))
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
	return err
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

// MakeDir creates dir and what is missing above it, 0700, each synced into its parent. It
// refuses a folder that others can write, as CheckDir does.
func MakeDir(dir string) error {
	if err := CheckDir(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
			if err := MakeDir(parent); err != nil {
				return err
			}
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return Explain("make the folder", dir, err)
	}
	if err := syncDir(parent); err != nil {
		return Explain("make the folder", dir, err)
	}
	return CheckDir(dir)
}

// CheckDir refuses a folder that others can write: they could swap a file in it,
// such as a pin. If dir does not exist, the error is an [fs.ErrNotExist] to errors.Is.
func CheckDir(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return Explain("use the folder", dir, err)
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

// Explain returns the *problem.Error for err, which the operation op ("write")
// on path returned; nil for nil. Waiting can fix a full disk, but not missing
// permissions.
func Explain(op, path string, err error) error {
	if err == nil {
		return nil
	}
	e := &problem.Error{Kind: problem.Unavailable, Target: path, Message: "cannot " + op + ": " + problem.Reason(err), Cause: err}
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
		e.Kind = problem.Usage
		e.Hint = "the user that runs moonseal must be able to read and write the state directory"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		e.Hint = "free some space"
	}
	return e
}

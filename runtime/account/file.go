package account

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/problem"
)

// most bounds a file that is read; a chain of certificates is some 10 KB.
const most = 1 << 20

// readFile gives a file's contents, nil where there is none.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, atomicfile.Explain("read", path, err)
	}
	defer func() { _ = f.Close() }()
	if err := atomicfile.CheckDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, atomicfile.Explain("read", path, err)
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
		return nil, atomicfile.Explain("lock", path, err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, atomicfile.Explain("lock", path, err)
	}
	return func() { _ = f.Close() }, nil
}

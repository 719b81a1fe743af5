package account

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/problem"
	"moonseal/runtime/safefile"
)

// most bounds a file that is read; a chain of certificates is some 10 KB.
const most = 1 << 20

// readFile returns a file's contents, nil if there is none.
func readFile(path string) ([]byte, error) {
	b, _, err := safefile.Read(path, most)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, safefile.ErrTooLarge):
		return nil, &problem.Error{Kind: problem.Usage, Target: path, Message: "the file is larger than 1 MiB", Work: problem.NotDone}
	case errors.Is(err, safefile.ErrNotRegular):
		return nil, &problem.Error{Kind: problem.Usage, Target: path, Message: "not a regular file", Work: problem.NotDone}
	case err != nil:
		return nil, atomicfile.Explain("read", path, err)
	}
	if err := atomicfile.CheckDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return b, nil
}

// lock locks the file at path, waiting for its holder. It is held while one key is made,
// and the kernel frees it with its process.
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

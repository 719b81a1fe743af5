package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moonseal/runtime/problem"
)

// fileLock is a lock that the kernel frees when its process ends, however it
// ends. The file holds the holder's process id.
type fileLock struct{ f *os.File }

// tryLock acquires the lock at path, or returns ErrLocked and the holder's process id, 0 if
// it is not known.
func tryLock(path string) (l *fileLock, holder int, err error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, 0, storeError(path, err)
		}
		err = flock(f)
		if errors.Is(err, unix.EWOULDBLOCK) {
			pid := readPID(f)
			_ = f.Close()
			return nil, pid, ErrLocked
		}
		if err != nil {
			_ = f.Close()
			return nil, 0, storeError(path, err)
		}
		if !stillThere(f, path) { // removed between open and lock
			_ = f.Close()
			continue
		}
		l := &fileLock{f: f}
		if err := l.writePID(os.Getpid()); err != nil {
			_ = f.Close()
			return nil, 0, storeError(path, err)
		}
		return l, 0, nil
	}
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func stillThere(f *os.File, path string) bool {
	here, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(here, there)
}

func (l *fileLock) writePID(pid int) error {
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	_, err := l.f.WriteAt([]byte(strconv.Itoa(pid)+"\n"), 0)
	return err
}

func readPID(f *os.File) int {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

func (l *fileLock) release() error {
	_ = l.f.Truncate(0) // the file must not name this process as holder any longer
	return l.f.Close()
}

func process(pid int) string {
	if pid == 0 {
		return "another process"
	}
	return "process " + strconv.Itoa(pid)
}

func lockState(dir string) (*fileLock, error) {
	l, pid, err := tryLock(filepath.Join(dir, "moonseal.lock"))
	if !errors.Is(err, ErrLocked) {
		return l, err
	}
	return nil, &problem.Error{
		Kind: problem.Conflict, Target: dir, Work: problem.NotDone, Cause: ErrLocked,
		Message: "the state directory is in use by " + process(pid),
		Hint:    "wait until it has ended, or stop it",
	}
}

// RunLock is held by the process that works on a run. It ends with the process.
type RunLock struct{ l *fileLock }

// lockPoll is how often LockRun retries. Usually it waits for the child of a process that
// was killed, which ends within milliseconds.
const lockPoll = 5 * time.Millisecond

// LockRun acquires <dir>/runs/<id>.lock, dir being the state directory. While another
// process holds it, it waits until ctx ends, and then returns ErrLocked, inside a
// *problem.Error that names the holder; with a ctx that has ended it tries once.
func LockRun(ctx context.Context, dir, id string) (*RunLock, error) {
	id, err := ParseRunID(id)
	if err != nil {
		return nil, err
	}
	runs := filepath.Join(dir, "runs")
	if err := os.MkdirAll(runs, 0o700); err != nil {
		return nil, storeError(runs, err)
	}
	again := time.NewTicker(lockPoll)
	defer again.Stop()
	for {
		l, pid, err := tryLock(filepath.Join(runs, id+".lock"))
		if err == nil {
			return &RunLock{l}, nil
		}
		if !errors.Is(err, ErrLocked) {
			return nil, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return nil, &problem.Error{
				Kind: problem.Conflict, Target: "run " + id, Work: problem.NotDone, Cause: ErrLocked,
				Message: fmt.Sprintf("%s is working on this run", process(pid)),
				Hint:    "wait until it has ended, or stop it",
			}
		}
	}
}

// TakeOverRun is LockRun for a caller that knows that the holder's parent is gone: a holder
// that has not ended by itself after the grace, because it is stopped or hangs, is killed.
func TakeOverRun(ctx context.Context, dir, id string, grace time.Duration) (*RunLock, error) {
	short, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	l, err := LockRun(short, dir, id)
	if !errors.Is(err, ErrLocked) || ctx.Err() != nil {
		return l, err
	}
	if err := killHolder(filepath.Join(dir, "runs", id+".lock")); err != nil {
		return nil, err
	}
	return LockRun(ctx, dir, id)
}

// killHolder kills the process that holds the lock at path. The process is opened before
// the lock is checked again: if it is still held, the process id in the file is the
// holder's and was not reused.
func killHolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return storeError(path, err)
	}
	defer func() { _ = f.Close() }()
	pid := readPID(f)
	if pid <= 1 || pid == os.Getpid() {
		return nil
	}
	proc, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil // it has ended; the process that inherited the lock from it is unknown
	}
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer func() { _ = unix.Close(proc) }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) || readPID(f) != pid {
		return nil
	}
	if err := unix.PidfdSendSignal(proc, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("pidfd_send_signal: %w", err)
	}
	return nil
}

// RunLocked reports whether a process holds the run's lock, dir being the state
// folder. It changes nothing, and needs no right to write.
func RunLocked(dir, id string) (bool, error) {
	id, err := ParseRunID(id)
	if err != nil {
		return false, err
	}
	path := filepath.Join(dir, "runs", id+".lock")
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, storeError(path, err)
	}
	defer func() { _ = f.Close() }()
	// Shared, and for a moment only: a process that needs the lock retries soon.
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, storeError(path, err)
}

// File returns the lock's open file. The lock is held as long as any process has it open:
// pass it to a child, then call [RunLock.HandOver].
func (r *RunLock) File() *os.File { return r.l.f }

// HandOver leaves the lock to the process pid, which has inherited [RunLock.File].
func (r *RunLock) HandOver(pid int) error { return errors.Join(r.l.writePID(pid), r.l.f.Close()) }

// RemoveRunLock removes the lock's file of a run that has ended. While a process holds
// the lock the file stays: else two processes could hold two files of one name.
func RemoveRunLock(dir, id string) error {
	id, err := ParseRunID(id)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "runs", id+".lock")
	l, _, err := tryLock(path)
	if errors.Is(err, ErrLocked) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(storeError(path, os.Remove(path)), l.release())
}

// Release frees the lock.
func (r *RunLock) Release() error { return r.l.release() }

package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"moonseal/runtime/problem"
)

// Errors to look for with errors.Is; they come inside a *problem.Error.
var (
	ErrStaleEpoch = errors.New("the run was taken over")            // it was adopted since
	ErrMisuse     = errors.New("an invalid record")                 // a bug of its writer
	ErrClosed     = errors.New("the journal is closed")             //
	ErrLocked     = errors.New("the lock is held by another")       // a state directory or a run in use
	ErrNewer      = errors.New("the journal is of a newer version") // made by a newer moonseal
	ErrLockHeld   = errors.New("another run holds the lock")        // of those that a playbook names
)

func misuse(format string, args ...any) error {
	return &problem.Error{Kind: problem.Internal, Call: "journal", Message: fmt.Sprintf(format, args...), Work: problem.NotDone, Cause: ErrMisuse}
}

func closed() error {
	return &problem.Error{Kind: problem.Internal, Call: "journal", Message: ErrClosed.Error(), Work: problem.NotDone, Cause: ErrClosed}
}

// storeError turns an error of SQLite or the system about the file at path into a problem.
// nil and a *problem.Error stay as they are.
func storeError(path string, err error) error {
	var done *problem.Error
	if err == nil || errors.As(err, &done) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := &problem.Error{
		Kind: problem.Unavailable, Code: problem.StateFailed, Call: "journal", Target: path,
		Message: "cannot use the journal: " + problem.Reason(err), Cause: err,
	}
	switch primaryCode(err) {
	case sqlite3.SQLITE_FULL:
		e.Message, e.Hint = "the disk is full", "free some space; the run continues where it was"
	case sqlite3.SQLITE_IOERR:
		e.Message, e.Hint = "the disk failed: "+err.Error(), "check the system's log for errors of this disk"
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		e.Message, e.Hint = "another program holds the journal locked", "close whatever has the file open, such as sqlite3"
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		e.Kind, e.Message = problem.Usage, "the journal is damaged: "+err.Error()
		e.Hint = "move " + path + " away, and restore a backup: moonseal restore FILE; without one, check by hand for leftover TXT records and half-done restarts"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		e.Kind, e.Message, e.Hint = problem.Usage, "cannot open or write the journal: "+err.Error(), hintRights
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
		return misuse("%v", err)
	default:
		systemError(e, err)
	}
	return e
}

const hintRights = "the user that runs moonseal must be able to read and write the state directory"

func systemError(e *problem.Error, err error) {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
		e.Kind, e.Hint = problem.Usage, hintRights
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		e.Message, e.Hint = "the disk is full", "free some space"
	}
}

// primaryCode returns SQLite's result code without its extension (a disk's
// IOERR_FSYNC is IOERR), 0 for an error of another kind.
func primaryCode(err error) int {
	if se, ok := errors.AsType[*sqlite.Error](err); ok {
		return se.Code() & 0xff
	}
	return 0
}

package queue

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

// ErrClosed is the cause of what is asked of a queue that has stopped.
var ErrClosed = errors.New("the queue has stopped")

var errDamaged = errors.New("damaged")

func closed() error {
	return &problem.Error{Kind: problem.Unavailable, Call: "queue", Message: ErrClosed.Error(), Work: problem.NotDone, Cause: ErrClosed}
}

func misuse(format string, a ...any) error {
	return &problem.Error{Kind: problem.Usage, Call: "queue", Message: fmt.Sprintf(format, a...), Work: problem.NotDone}
}

const hintRights = "the user that runs moonseal must be able to read and write the state folder"

// storeError gives what SQLite or the system said about the file at path, for a
// person. nil, the end of a context and what is a *problem.Error stay as they are.
func storeError(path string, err error) error {
	var have *problem.Error
	if err == nil || errors.As(err, &have) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := &problem.Error{Kind: problem.Unavailable, Call: "queue", Target: path, Message: "cannot use the queue: " + problem.Reason(err), Work: problem.NotDone, Cause: err}
	switch code := primaryCode(err); {
	case code == sqlite3.SQLITE_FULL, errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		e.Message, e.Hint = "the disk is full", "free some space"
	case code == sqlite3.SQLITE_IOERR:
		e.Message, e.Hint = "the disk failed: "+err.Error(), "look at the system's log for errors of this disk"
	case code == sqlite3.SQLITE_BUSY, code == sqlite3.SQLITE_LOCKED:
		e.Message, e.Hint = "another program holds the queue locked", "close whatever has the file open, such as sqlite3"
	case rights(code), errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
		e.Kind, e.Message, e.Hint = problem.Usage, "cannot open or write the queue: "+err.Error(), hintRights
	case damaged(err):
		e.Kind, e.Message, e.Hint = problem.Usage, "the queue is damaged: "+err.Error(), "start the daemon again: it makes the queue anew from the journal"
	}
	return e
}

func rights(code int) bool {
	switch code {
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return true
	}
	return false
}

// damaged reports whether err says that the file is no queue, or one of a newer
// River: then it helps to make another.
func damaged(err error) bool {
	switch primaryCode(err) {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_FORMAT,
		sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH:
		return true
	}
	return errors.Is(err, errDamaged)
}

// primaryCode gives SQLite's result code without its extension, 0 for an error
// of another kind.
func primaryCode(err error) int {
	if se, ok := errors.AsType[*sqlite.Error](err); ok {
		return se.Code() & 0xff
	}
	return 0
}

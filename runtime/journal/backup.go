package journal

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/problem"
)

// Backup writes a copy of the journal as of one moment to w, while others write. It is a
// complete SQLite file.
func (j *Journal) Backup(ctx context.Context, w io.Writer) (err error) {
	dir, err := os.MkdirTemp(j.dir, "backup-") // 0700
	if err != nil {
		return storeError(j.dir, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, fileName)
	db, err := openDB(j.path, "rw", 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, `VACUUM INTO $1`, path); err != nil {
		return storeError(j.path, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return storeError(path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(w, f)
	return err
}

// Restore restores a copy that Backup wrote into the state directory dir, which must have
// no journal and be in use by no process.
func Restore(ctx context.Context, dir, from string) (err error) {
	if err := makeState(dir); err != nil {
		return err
	}
	lock, err := lockState(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	path := filepath.Join(dir, fileName)
	if _, err := os.Lstat(path); err == nil {
		return &problem.Error{
			Kind: problem.Conflict, Target: path, Message: "a journal exists already", Work: problem.NotDone,
			Hint: "restore into an empty state directory, or move that journal away first",
		}
	}
	steps, err := migrations()
	if err == nil {
		from, err = filepath.Abs(from)
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(from); err != nil {
		return &problem.Error{Kind: problem.Usage, Target: from, Message: "cannot read it: " + problem.Reason(err), Cause: err, Work: problem.NotDone}
	}
	db, err := openDB(from, "ro", 1)
	if err != nil {
		return err
	}
	have, err := version(ctx, db, from)
	var sound string
	if err == nil {
		err = db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&sound)
	}
	if err == nil && sound == "ok" && have > 0 && have <= len(steps) {
		err = checkSchema(ctx, db, from, steps[:have])
	}
	err = errors.Join(err, db.Close())
	switch {
	case err != nil:
		return storeError(from, err)
	case sound != "ok" || have == 0:
		return &problem.Error{Kind: problem.Usage, Target: from, Message: "not a complete copy of a journal", Work: problem.NotDone}
	case have > len(steps):
		return tooNew(from, have, len(steps))
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return storeError(from, err)
	}
	// A write-ahead log that is left here is another journal's, and would be replayed into
	// this one.
	for _, beside := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return storeError(path+beside, err)
		}
	}
	return atomicfile.WriteFile(path, data)
}

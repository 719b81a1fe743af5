package journal

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Backup writes a copy of the journal as it is at one moment to w, while others
// write. It is a whole SQLite file.
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

package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"moonseal/runtime/problem"
)

// backupPath returns where the journal at path is copied to before its upgrade.
func backupPath(path string, version int) string { return fmt.Sprintf("%s.v%d-backup", path, version) }

// copyBefore copies the journal to a file beside it before its upgrade: [Restore] of that
// copy is the only way back. It returns the copy's path. A copy of the same version, from
// an earlier start, is replaced.
func copyBefore(ctx context.Context, conn *sql.Conn, path string, version int) (string, error) {
	backup := backupPath(path, version)
	half := backup + ".new"
	err := copyInto(ctx, conn, half, backup)
	if err == nil {
		return backup, nil
	}
	_ = os.Remove(half)
	if ctx.Err() != nil {
		return "", err
	}
	e := *problem.From(storeError(backup, err))
	e.Target, e.Message, e.Work = backup, "cannot copy the journal before the upgrade: "+e.Message, problem.NotDone
	if e.Kind == problem.Unavailable {
		e.Hint = "nothing was changed, and the previous version still starts; the copy needs as much space as the journal"
	}
	return "", &e
}

// copyInto copies the journal into half, and renames it once it is complete.
func copyInto(ctx context.Context, conn *sql.Conn, half, whole string) error {
	if err := os.Remove(half); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a start that was killed
		return err
	}
	f, err := os.OpenFile(half, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) // SQLite's would be 0644
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := conn.ExecContext(ctx, `VACUUM INTO $1`, half); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(half, whole); err != nil {
		return err
	}
	return syncDir(filepath.Dir(whole))
}

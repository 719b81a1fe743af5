package journal

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"moonseal/runtime/problem"
)

//go:embed migrations/sqlite/*.sql
var migrationFiles embed.FS

// applicationID marks the file as ours ("moon"), so that another program's
// database is refused instead of extended.
const applicationID = 0x6d6f6f6e

// migrations returns the SQL that leads from each version to the next; the first
// leads from nothing to version 1.
func migrations() ([]string, error) {
	names, err := fs.Glob(migrationFiles, "migrations/sqlite/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	var out []string
	for i, name := range names {
		if !strings.HasPrefix(name, fmt.Sprintf("migrations/sqlite/%04d_", i+1)) {
			return nil, fmt.Errorf("migration %d is missing before %s", i+1, name)
		}
		b, err := migrationFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		out = append(out, string(b))
	}
	return out, nil
}

// querier is a *sql.DB, *sql.Conn or *sql.Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// version returns the version of the journal that db holds, 0 for an empty file.
// It changes nothing.
func version(ctx context.Context, db querier, path string) (int, error) {
	var version, app, tables int
	err := db.QueryRowContext(ctx, `SELECT (SELECT user_version FROM pragma_user_version),
		(SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)`).Scan(&version, &app, &tables)
	if err != nil {
		return 0, storeError(path, err)
	}
	if app != applicationID && (app != 0 || version != 0 || tables != 0) {
		return 0, &problem.Error{
			Kind: problem.Usage, Target: path, Message: "this is the database of another program", Work: problem.NotDone,
			Hint: "move it away, or use another state directory",
		}
	}
	return version, nil
}

func tooNew(path string, have, know int) error {
	return &problem.Error{
		Kind: problem.Usage, Target: path, Work: problem.NotDone, Cause: ErrNewer,
		Message: fmt.Sprintf("the journal has version %d, this moonseal reads versions up to %d", have, know),
		Hint:    "use the newer moonseal that wrote it",
	}
}

// migrate upgrades the journal from version have to the newest, each step in a transaction
// of its own. A step may replace a table that others refer to: foreign keys are checked at
// its end.
func migrate(ctx context.Context, conn *sql.Conn, path string, have int, steps []string) error {
	if have == len(steps) {
		return nil
	}
	// SQLite ignores this pragma within a transaction.
	if _, err := conn.ExecContext(ctx, "PRAGMA foreign_keys = OFF"); err != nil {
		return storeError(path, err)
	}
	for v := have; v < len(steps); v++ {
		if err := migrateTo(ctx, conn, v+1, steps[v]); err != nil {
			_, _ = conn.ExecContext(ctx, "ROLLBACK")
			return storeError(path, err)
		}
	}
	_, err := conn.ExecContext(ctx, "PRAGMA foreign_keys = ON")
	return storeError(path, err)
}

func migrateTo(ctx context.Context, conn *sql.Conn, v int, step string) error {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE; "+step); err != nil {
		return err
	}
	var loose int
	var table string
	if err := conn.QueryRowContext(ctx, "SELECT count(*), coalesce(min([table]), '') FROM pragma_foreign_key_check").Scan(&loose, &table); err != nil {
		return err
	}
	if loose > 0 {
		return fmt.Errorf("the upgrade to version %d leaves %d rows that refer to none, the first of table %s", v, loose, table)
	}
	_, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", applicationID, v))
	return err
}

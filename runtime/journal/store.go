package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"

	"moonseal/runtime/problem"
)

const fileName = "moonseal.db"

// dsn returns the data source name of the file at path. Foreign keys and full sync are set
// per connection; no connection may lack them.
func dsn(path, mode string) string {
	q := url.Values{
		"mode": {mode}, "_txlock": {"immediate"}, "_busy_timeout": {"5000"},
		"_foreign_keys": {"on"}, "_synchronous": {"FULL"}, "_dqs": {"0"}, "_defensive": {"1"},
		"_pragma": {"cache_size(-1024)"}, // KiB; the file is in the system's cache
	}
	if mode == "ro" {
		q.Set("_pragma", "cache_size(-256)") // each reader has its own
		q.Set("_txlock", "deferred")
		q.Set("_query_only", "1")
	}
	return (&url.URL{Scheme: "file", Path: path}).String() + "?" + q.Encode()
}

func openDB(path, mode string, most int) (*sql.DB, error) {
	c, err := sqlite.NewConnector(dsn(path, mode))
	if err != nil {
		return nil, storeError(path, err)
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	return db, nil
}

// conn is a connection with its prepared statements.
type conn struct {
	db    *sql.DB
	c     *sql.Conn
	ctx   context.Context //nolint:containedctx // the writer's; it never ends, a commit is not broken off
	stmts map[string]*sql.Stmt

	runs  map[string]*known
	parts map[[sha256.Size]byte]int64 // shared parts of values, by their hash
	last  *int64                      // id of a part that was used; 0 if that is not known yet
	work  workload                    // the writer's; outlives the connection
}

// openConn opens the writing connection, refuses a journal that it cannot write, and
// upgrades it.
func openConn(ctx context.Context, path string, steps []string, o Options) (_ *conn, err error) {
	db, err := openDB(path, "rw", 1)
	if err != nil {
		return nil, err
	}
	w := &conn{
		db: db, ctx: context.WithoutCancel(ctx), stmts: map[string]*sql.Stmt{}, runs: map[string]*known{}, parts: map[[sha256.Size]byte]int64{},
		last: new(int64), work: workload{stints: map[string]*stint{}},
	}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.c, err = db.Conn(ctx); err != nil {
		return nil, storeError(path, err)
	}
	have, err := version(ctx, w.c, path)
	if err != nil {
		return nil, err
	}
	if have > len(steps) {
		return nil, tooNew(path, have, len(steps))
	}
	if have == 0 {
		// A commit writes whole pages, most of them for one row each. Smaller ones than
		// this leave more of a page unused beside a large row than they save.
		if _, err := w.c.ExecContext(ctx, "PRAGMA page_size = 2048"); err != nil {
			return nil, storeError(path, err)
		}
	}
	var mode string
	if err := w.c.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return nil, storeError(path, err)
	}
	if mode != "wal" {
		return nil, &problem.Error{
			Kind: problem.Usage, Target: path, Message: "this file system cannot hold the journal (no shared memory)", Work: problem.NotDone,
			Hint: "move the state directory to a local disk",
		}
	}
	return w, w.upgrade(ctx, path, have, steps, o)
}

// upgrade upgrades the journal, after it has copied it.
func (w *conn) upgrade(ctx context.Context, path string, have int, steps []string, o Options) error {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if old := have > 0 && have < len(steps); old && !o.Copied {
		backup, err := copyBefore(ctx, w.c, path, have)
		if err != nil {
			return err
		}
		log.Info("journal copied before its upgrade; to go back, restore the copy with the previous version of moonseal",
			"copy", backup, "from", have, "to", len(steps))
	}
	return migrate(ctx, w.c, path, have, steps)
}

func (w *conn) close() {
	for _, s := range w.stmts {
		_ = s.Close()
	}
	if w.c != nil {
		_ = w.c.Close()
	}
	_ = w.db.Close()
}

func (w *conn) prepare(query string) (*sql.Stmt, error) {
	if s, ok := w.stmts[query]; ok {
		return s, nil
	}
	s, err := w.c.PrepareContext(w.ctx, query)
	if err == nil {
		w.stmts[query] = s
	}
	return s, err
}

// exec runs a statement and returns the number of rows that it changed.
func (w *conn) exec(query string, args ...any) (int64, error) {
	s, err := w.prepare(query)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(w.ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (w *conn) row(query string, args ...any) *sql.Row {
	s, err := w.prepare(query)
	if err != nil {
		return w.c.QueryRowContext(w.ctx, query, args...) // returns the same error
	}
	return s.QueryRowContext(w.ctx, args...)
}

// makeState creates the state directory, and refuses one that others can write.
func makeState(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return storeError(dir, err)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return storeError(dir, err)
	}
	if st.Mode().Perm()&0o022 != 0 {
		return &problem.Error{
			Kind: problem.Usage, Target: dir, Work: problem.NotDone,
			Message: fmt.Sprintf("others can write the state directory (mode %04o)", st.Mode().Perm()), Hint: "chmod go-w " + dir,
		}
	}
	return nil
}

// makeFile creates the database's file if it is missing, readable by its owner only:
// SQLite's would be 0644. The state directory must be locked: closing the file drops the
// locks that SQLite has on it in this process.
func makeFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return storeError(path, err)
	}
	return storeError(path, errors.Join(f.Chmod(0o600), f.Close(), syncDir(filepath.Dir(path))))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func missing(path string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return storeError(path, err)
	}
	return &problem.Error{Kind: problem.NotFound, Target: path, Message: "there is no journal yet", Hint: "no playbook has run with this state directory", Work: problem.NotDone}
}

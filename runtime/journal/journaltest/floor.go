// Package journaltest is what the journal, and what is built on it, is measured
// against: the same bytes, committed and synced by hand, in turns with what is
// measured, for a disk's speed changes from second to second.
package journaltest

import (
	"context"
	"database/sql"
	"net/url"
	"path/filepath"
	"strings"

	"modernc.org/sqlite"
)

// Floor is one SQLite connection with a table that has nothing but its rows, and
// with the journal's settings: a write-ahead log, and a sync at each commit.
type Floor struct {
	ctx                   context.Context //nolint:containedctx // of the benchmark, which it lives as long as
	db                    *sql.DB
	conn                  *sql.Conn
	begin, insert, commit *sql.Stmt
}

// Open opens the floor's database in dir, which several may share.
func Open(ctx context.Context, dir string) (_ *Floor, err error) {
	q := url.Values{"_busy_timeout": {"60000"}, "_journal_mode": {"WAL"}, "_synchronous": {"FULL"}}
	c, err := sqlite.NewConnector((&url.URL{Scheme: "file", Path: filepath.Join(dir, "floor.db")}).String() + "?" + q.Encode())
	if err != nil {
		return nil, err
	}
	f := &Floor{ctx: ctx, db: sql.OpenDB(c)}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	_, _ = sqlite.Fdatasync(true) // as the journal has it
	if f.conn, err = f.db.Conn(ctx); err != nil {
		return nil, err
	}
	if _, err = f.conn.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS floor (id INTEGER PRIMARY KEY, body TEXT) STRICT"); err != nil {
		return nil, err
	}
	if err = f.grow(); err != nil {
		return nil, err
	}
	for query, into := range map[string]**sql.Stmt{"BEGIN IMMEDIATE": &f.begin, "INSERT INTO floor (body) VALUES ($1)": &f.insert, "COMMIT": &f.commit} {
		if *into, err = f.conn.PrepareContext(ctx, query); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// grow fills the log once, so that no commit pays for its growth.
func (f *Floor) grow() error {
	var filled bool
	if err := f.conn.QueryRowContext(f.ctx, "SELECT count(*) > 0 FROM floor").Scan(&filled); err != nil || filled {
		return err
	}
	return Fill(func(text string) error {
		_, err := f.conn.ExecContext(f.ctx, "INSERT INTO floor (body) VALUES ($1)", text)
		return err
	})
}

// Fill writes as many texts as it takes until SQLite's write-ahead log has its
// size: 1,000 pages of 4 KiB, which are then written over and over. Before that
// each commit pays for the file's growth too. What is compared must not differ in it.
func Fill(write func(text string) error) error {
	const pages, each = 1100, 10
	text := strings.Repeat("x", each*4096)
	for range pages / each {
		if err := write(text); err != nil {
			return err
		}
	}
	return nil
}

// Commit writes one row of body in a transaction of its own, and syncs it.
func (f *Floor) Commit(body string) error {
	if _, err := f.begin.ExecContext(f.ctx); err != nil {
		return err
	}
	if _, err := f.insert.ExecContext(f.ctx, body); err != nil {
		return err
	}
	_, err := f.commit.ExecContext(f.ctx)
	return err
}

// Close closes the connection.
func (f *Floor) Close() error { return f.db.Close() }

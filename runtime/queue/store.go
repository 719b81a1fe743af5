package queue

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	"modernc.org/sqlite"
)

const (
	fileName = "queue.db"
	// page is how many jobs are read at a time; River's most is 10,000.
	page = 1000
)

// store is River's tables in a file. Each change is one transaction.
type store struct {
	path   string
	db     *sql.DB
	client *river.Client[*sql.Tx]
}

// openStore opens the queue's file, makes it where it is missing, and moves it
// aside where it is damaged; fresh says that what was in it has to come from
// elsewhere.
func openStore(ctx context.Context, o *Options, l *listener, w *worker) (s *store, old []row, fresh bool, err error) {
	path, err := filepath.Abs(filepath.Join(o.Dir, fileName))
	if err != nil {
		return nil, nil, false, storeError(o.Dir, err)
	}
	st, err := os.Stat(path)
	fresh = errors.Is(err, os.ErrNotExist) || err == nil && st.Size() == 0
	s, old, err = tryStore(ctx, path, o, l, w)
	if err == nil || !damaged(err) || o.Unfinished == nil {
		return s, old, fresh, storeError(path, err)
	}
	o.Log.Warn("the queue was damaged, and is made anew from the journal", slog.String("file", path), slog.String("kept_as", path+".damaged"), slog.Any("err", err))
	if err := moveAside(path); err != nil {
		return nil, nil, false, storeError(path, err)
	}
	s, old, err = tryStore(ctx, path, o, l, w)
	return s, old, true, storeError(path, err)
}

func tryStore(ctx context.Context, path string, o *Options, l *listener, w *worker) (_ *store, old []row, err error) {
	if err := makeFile(path); err != nil {
		return nil, nil, err
	}
	db, err := openDB(path)
	if err != nil {
		return nil, nil, err
	}
	s := &store{path: path, db: db}
	defer func() {
		if err != nil {
			_ = db.Close()
		}
	}()
	if err := check(ctx, db); err != nil {
		return nil, nil, err
	}
	if err := migrate(ctx, db, o.Log); err != nil {
		return nil, nil, err
	}
	if s.client, err = newClient(db, l, o, w); err != nil {
		return nil, nil, err
	}
	old, err = s.adopt(ctx)
	return s, old, err
}

// openDB opens the file at path with one connection: SQLite has one writer, and
// River expects no more. A change is not synced, see the package comment.
func openDB(path string) (*sql.DB, error) {
	q := url.Values{
		"mode": {"rw"}, "_txlock": {"immediate"}, "_busy_timeout": {"5000"}, "_dqs": {"0"},
		"_pragma": {"journal_mode(WAL)", "synchronous(NORMAL)", "temp_store(MEMORY)", "cache_size(-256)"},
	}
	c, err := sqlite.NewConnector((&url.URL{Scheme: "file", Path: path}).String() + "?" + q.Encode())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(1)
	return db, nil
}

// makeFile makes the file where there is none; SQLite's would be 0644.
func makeFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Close())
}

func moveAside(path string) error {
	for _, log := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + log); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Rename(path, path+".damaged")
}

func check(ctx context.Context, db *sql.DB) error {
	var said string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&said); err != nil {
		return err
	}
	if said != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, said)
	}
	return nil
}

func migrate(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	m, err := rivermigrate.New(riversqlite.New(db), &rivermigrate.Config{Logger: slog.New(quiet{log.Handler()})})
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// row is a job as the last process left it.
type row struct {
	id     int64
	args   args
	at     time.Time
	orphan bool // it was being worked on, or about to be
}

// adopt reads the jobs of a process that has ended, and takes back what it had
// made available or was working on: with its state folder it left that to us.
func (s *store) adopt(ctx context.Context) ([]row, error) {
	var rows []row
	for last := int64(0); ; {
		list := river.NewJobListParams().First(page).States(unfinished()...)
		if last > 0 {
			list = list.After(river.JobListCursorFromJob(&rivertype.JobRow{ID: last}))
		}
		found, err := s.client.JobList(ctx, list)
		if err != nil {
			return nil, err
		}
		for _, j := range found.Jobs {
			r := row{id: j.ID, at: j.ScheduledAt, orphan: j.State != rivertype.JobStatePending}
			if err := json.Unmarshal(j.EncodedArgs, &r.args); err != nil || r.args.Run == "" || r.args.Playbook == "" {
				return nil, fmt.Errorf("%w: job %d cannot be read", errDamaged, j.ID)
			}
			rows = append(rows, r)
			last = j.ID
		}
		if len(found.Jobs) < page {
			break
		}
	}
	return rows, s.tx(ctx, func(tx *sql.Tx) error {
		const takeBack = `UPDATE river_job SET state = 'pending', attempt = 0 WHERE state IN ('available', 'running', 'retryable', 'scheduled')`
		const ended = `DELETE FROM river_job WHERE state IN ('completed', 'cancelled', 'discarded')`
		_, err := tx.ExecContext(ctx, takeBack)
		if err == nil {
			_, err = tx.ExecContext(ctx, ended)
		}
		return err
	})
}

// tx makes a change, whole or not at all.
func (s *store) tx(ctx context.Context, change func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := change(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// insert adds a job that waits until at. That its playbook has none is known.
func (s *store) insert(ctx context.Context, tx *sql.Tx, a args, at time.Time) (id int64, err error) {
	r, err := s.client.InsertTx(ctx, tx, a, insertOpts(at))
	if err != nil {
		return 0, err
	}
	if r.UniqueSkippedAsDuplicate {
		return 0, fmt.Errorf("%w: another program added job %d", errDamaged, r.Job.ID)
	}
	return r.Job.ID, nil
}

// replace makes a job that waits into one that waits until at. River has no
// call that changes a job's time.
func (s *store) replace(ctx context.Context, id int64, a args, at time.Time) (next int64, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		if _, err := s.client.JobDeleteTx(ctx, tx, id); err != nil {
			return err
		}
		next, err = s.insert(ctx, tx, a, at)
		return err
	})
	return next, err
}

// release makes jobs available.
func (s *store) release(ctx context.Context, ids []int64) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		for _, id := range ids {
			if _, err := s.client.JobRetryTx(ctx, tx, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// finish ends a job that is worked on, and puts another in its place where the
// run goes on at the time again. ctx is the worker's.
func (s *store) finish(ctx context.Context, j *river.Job[args], next *args, again time.Time) (id int64, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		_, err := river.JobCompleteTx[*riversqlite.Driver](ctx, tx, j)
		if err == nil {
			_, err = s.client.JobDeleteTx(ctx, tx, j.ID)
		}
		if errors.Is(err, rivertype.ErrNotFound) { // someone else deleted it
			err = nil
		}
		if err != nil || next == nil {
			return err
		}
		id, err = s.insert(ctx, tx, *next, again)
		return err
	})
	return id, err
}

package journal

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"modernc.org/sqlite"

	"moonseal/runtime/problem"
)

// Options are the options of Open; the zero Options are for production.
type Options struct {
	Clock clockwork.Clock // nil: the real one
	Rand  io.Reader       // nil: crypto/rand; two bytes for each run's id
	Log   *slog.Logger    // for lazy records that are refused, and for upgrades; nil: none
	// Copied says that the journal is a copy itself, so that it is not copied before an
	// upgrade.
	Copied bool
}

// Journal is the open journal of a state directory. It is safe for concurrent use.
type Journal struct {
	dir, path  string
	lock       *fileLock // nil when read-only
	reads      *sql.DB
	statements statements // of reads
	parts      partCache  // of values, as they were read
	w          *writer    // nil when read-only
	clock      clockwork.Clock
	rand       io.Reader

	idMu   sync.Mutex
	lastID uint64
}

// readers is how many reads may be under way at once.
const readers = 4

// Open opens the journal in the state directory dir for writing, and creates both if they
// are missing. It returns ErrLocked, with the id of the other process, if one has it open,
// and ErrNewer for a journal that a newer moonseal wrote.
func Open(ctx context.Context, dir string, o Options) (_ *Journal, err error) {
	steps, err := migrations()
	if err != nil {
		return nil, err
	}
	return open(ctx, dir, o, steps)
}

func open(ctx context.Context, dir string, o Options, steps []string) (_ *Journal, err error) {
	if dir, err = filepath.Abs(dir); err != nil { // a URL has no relative paths
		return nil, storeError(dir, err)
	}
	if err := makeState(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fileName)
	j := &Journal{dir: dir, path: path, clock: o.Clock, rand: o.Rand}
	if j.clock == nil {
		j.clock = clockwork.NewRealClock()
	}
	if j.rand == nil {
		j.rand = rand.Reader
	}
	if j.lock, err = lockState(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = j.lock.release()
		}
	}()
	if err := makeFile(path); err != nil {
		return nil, err
	}
	// A commit need not sync the file's timestamps: SQLite does so by itself when C compiles
	// it. The setting is the process's.
	_, _ = sqlite.Fdatasync(true)
	c, err := openConn(ctx, path, steps, o)
	if err != nil {
		return nil, err
	}
	if j.lastID, err = lastID(ctx, c); err != nil {
		c.close()
		return nil, storeError(path, err)
	}
	if j.reads, err = openDB(path, "ro", readers); err != nil {
		c.close()
		return nil, err
	}
	j.w = startWriter(ctx, path, steps, c, j.clock, o.Log)
	return j, nil
}

func lastID(ctx context.Context, c *conn) (uint64, error) {
	var id sql.NullString
	err := c.c.QueryRowContext(ctx, `SELECT max(id) FROM runs`).Scan(&id)
	return idNumber(id.String), err
}

// OpenReadOnly opens the journal in dir for reading, while another process may
// write. The methods that write return ErrClosed. A missing journal is NotFound.
func OpenReadOnly(ctx context.Context, dir string) (*Journal, error) {
	steps, err := migrations()
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, storeError(dir, err)
	}
	path := filepath.Join(dir, fileName)
	if _, err := os.Stat(path); err != nil { // to open and close it would drop SQLite's locks
		return nil, missing(path, err)
	}
	db, err := openDB(path, "ro", readers)
	if err != nil {
		return nil, err
	}
	j := &Journal{dir: dir, path: path, reads: db, clock: clockwork.NewRealClock(), rand: rand.Reader}
	have, err := version(ctx, db, path)
	switch {
	case err == nil && have > len(steps):
		err = tooNew(path, have, len(steps))
	case err == nil && have < len(steps):
		err = &problem.Error{
			Kind: problem.Usage, Target: path, Work: problem.NotDone,
			Message: fmt.Sprintf("the journal has version %d, this moonseal reads version %d", have, len(steps)),
			Hint:    "start moonseal serve, or run any playbook with moonseal run: that upgrades it; if an older moonseal still serves, restart it",
		}
	}
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return j, nil
}

// Dir returns the state directory.
func (j *Journal) Dir() string { return j.dir }

// Close writes what is queued and frees the state directory. It returns the error of
// lazy records that could not be written.
func (j *Journal) Close() error {
	err := j.reads.Close() // first: the last to close removes the log, and a reader cannot
	if j.w != nil {
		err = errors.Join(err, j.w.close())
	}
	if j.lock != nil {
		err = errors.Join(err, j.lock.release())
	}
	return err
}

// Write returns when all of recs, which are of one run, are synced, or none is written. If
// ctx ends first, they are withdrawn if that is still possible, and the error is ctx's; it
// is never unknown whether they were written.
func (j *Journal) Write(ctx context.Context, recs ...Record) error {
	return j.WriteAfter(ctx, nil, recs)
}

// WriteLazy queues records that need no sync of their own: they are written with the next
// commit, or after LazyDelay by themselves, without a sync. It waits only while very many
// are queued. It returns no error of the writing itself, unless the queue is full because
// the disk cannot be written.
func (j *Journal) WriteLazy(ctx context.Context, recs ...Record) error {
	return j.WriteAfter(ctx, recs, nil)
}

// WriteAfter is WriteLazy of some records and Write of others, in one. It returns an error
// of the lazy ones only if there are no others.
func (j *Journal) WriteAfter(ctx context.Context, lazy, recs []Record) error {
	if j.w == nil {
		return closed()
	}
	if len(lazy)+len(recs) == 0 {
		return nil
	}
	r, err := newRequest(lazy, recs)
	switch {
	case err != nil:
		return err
	case len(recs) == 0:
		return j.w.queueLazy(ctx, r)
	default:
		return j.w.do(ctx, r)
	}
}

// Adopt makes the caller the only one that may write about run, and returns the epoch to
// write with. It changes nothing else, so that the run can be read as its last worker left
// it; lock the run first. The work of a process that died is counted up to its last record.
func (j *Journal) Adopt(ctx context.Context, run string) (epoch int64, err error) {
	if j.w == nil {
		return 0, closed()
	}
	err = j.w.do(ctx, &request{fn: func(w *conn) (err error) {
		epoch, err = w.adopt(run)
		return err
	}})
	return epoch, err
}

func (w *conn) adopt(run string) (epoch int64, err error) {
	k, err := w.remember(run)
	if err != nil {
		return 0, err
	}
	r, err := scanRun(w.row(`SELECT `+runColumns+` FROM runs WHERE id = $1`, run).Scan)
	if err != nil {
		return 0, err
	}
	if !r.Resumed.IsZero() {
		r.Worked += w.work.died(run, r.Updated.Sub(r.Resumed))
	}
	w.work.adopted(run)
	k.epoch++
	_, err = w.exec(`UPDATE runs SET epoch = $2, resumed_at = NULL, worked = $3 WHERE id = $1`, run, k.epoch, int64(r.Worked))
	return k.epoch, err
}

func noRun(run string) error {
	return &problem.Error{
		Kind: problem.NotFound, Code: problem.NoRun, Message: "there is no run " + run, Work: problem.NotDone,
		Hint: "`moonseal runs` lists them", Cause: ErrMisuse,
	}
}

// noRunOr returns noRun if err says that there are no rows, else err.
func noRunOr(run string, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return noRun(run)
	}
	return err
}

// Source is one file of a bundle.
type Source struct {
	Path string `json:"path"`
	Body []byte `json:"body"`
}

// SaveBundle stores the sources of a bundle, unless the journal has it.
func (j *Journal) SaveBundle(ctx context.Context, hash string, sources []Source) error {
	if j.w == nil {
		return closed()
	}
	at := j.clock.Now().UnixNano()
	return j.w.do(ctx, &request{fn: func(w *conn) error {
		n, err := w.exec(`INSERT INTO bundles (hash, created_at) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING`, hash, at)
		if err != nil || n == 0 {
			return err
		}
		for _, s := range sources {
			body := s.Body
			if body == nil {
				body = []byte{} // an empty file is not NULL
			}
			if _, err := w.exec(`INSERT INTO sources (bundle, path, body) VALUES ($1, $2, $3)`, hash, s.Path, body); err != nil {
				return err
			}
		}
		return nil
	}})
}

// Probe checks whether the journal can be written, by a commit that changes nothing.
func (j *Journal) Probe(ctx context.Context) error {
	if j.w == nil {
		return closed()
	}
	same := fmt.Sprintf("PRAGMA user_version = %d", len(j.w.steps))
	return j.w.do(ctx, &request{fn: func(w *conn) error {
		_, err := w.exec(same)
		return err
	}})
}

// Stats counts what was written since Open.
type Stats struct {
	Commits  int64 // transactions, each with one sync
	Unsynced int64 // further ones, of records that no caller waits for; the next commit syncs them
	Records  int64
	Refused  int64 // records and calls that were refused
}

// Stats returns the counters so far.
func (j *Journal) Stats() Stats {
	if j.w == nil {
		return Stats{}
	}
	return Stats{Commits: j.w.commits.Load(), Unsynced: j.w.quiet.Load(), Records: j.w.records.Load(), Refused: j.w.refused.Load()}
}

// LazyDelay is how long a lazy record waits for a commit at most. After that it is written,
// so that others can read it; only the next synced commit syncs it.
const LazyDelay = 50 * time.Millisecond

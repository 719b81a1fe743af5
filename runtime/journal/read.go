package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"moonseal/runtime/problem"
)

// Run is the row of a run.
type Run struct {
	ID           string         `json:"id"`
	Playbook     string         `json:"playbook"`
	Bundle       string         `json:"bundle"`
	Status       Status         `json:"status"`
	Epoch        int64          `json:"epoch"`
	Force        bool           `json:"force,omitempty"`
	Locks        []string       `json:"locks,omitempty"`
	Created      time.Time      `json:"created"`
	Started      time.Time      `json:"started,omitzero"` // first worked on
	Updated      time.Time      `json:"updated"`          // the last change that is known
	Latest       time.Time      `json:"latest,omitzero"`  // its waits were computed no later than that; a clock that is behind it was set back
	Ended        time.Time      `json:"ended,omitzero"`
	Outcome      Status         `json:"outcome,omitempty"` // known from RunEnding on
	Reason       string         `json:"reason,omitempty"`
	Error        *problem.Error `json:"error,omitempty"`
	WaitFor      string         `json:"wait_for,omitempty"`
	WakeAt       time.Time      `json:"wake_at,omitzero"`
	Failures     int            `json:"failures,omitempty"`     // since a step last got done
	FailingSince time.Time      `json:"failing_since,omitzero"` // the first of them
	Deaths       int            `json:"deaths,omitempty"`
	Worked       time.Duration  `json:"worked,omitempty"` // nanoseconds, without waits, up to Resumed
	Resumed      time.Time      `json:"resumed,omitzero"` // since when it is being worked on; zero while it waits
	CancelAsked  time.Time      `json:"cancel_asked,omitzero"`
	Left         []string       `json:"left,omitempty"` // of a cancelled run: what may have happened, or is half done
}

// setBackBy is how far a clock goes back if it is not just adjusted by NTP.
const setBackBy = time.Minute

// ClockSetBack reports whether the clock shows an earlier time than when the run started to
// wait: the next process must compute again how long it waits.
func (r Run) ClockSetBack(now time.Time) bool { return r.Latest.Sub(now) > setBackBy }

// A step's records do not touch the run's row, which would make every commit
// larger: a run's last record is the latest of its row's and its steps'.
const runColumns = `id, playbook, bundle, status, epoch, force, created_at, started_at, updated_at, ended_at,
	outcome, reason, error, wait_for, wake_at, failures, failing_since, deaths, worked, resumed_at, locks, cancel_at, leftovers,
	(SELECT max(attempt_at) FROM steps WHERE run = runs.id), (SELECT max(ended_at) FROM steps WHERE run = runs.id),
	` + latestColumn

const runQuery = `SELECT ` + runColumns + ` FROM runs WHERE id = $1`

func scanRun(scan func(...any) error) (Run, error) {
	var r Run
	var attempted, ended time.Time
	err := scan(&r.ID, &r.Playbook, &r.Bundle, &r.Status, &r.Epoch, &r.Force, at(&r.Created), at(&r.Started), at(&r.Updated), at(&r.Ended),
		word(&r.Outcome), &r.Reason, parsed(&r.Error), &r.WaitFor, at(&r.WakeAt), &r.Failures, at(&r.FailingSince), &r.Deaths, &r.Worked,
		at(&r.Resumed), parsed(&r.Locks), at(&r.CancelAsked), parsed(&r.Left),
		at(&attempted), at(&ended), at(&r.Latest))
	for _, t := range []time.Time{attempted, ended} {
		if t.After(r.Updated) {
			r.Updated = t
		}
	}
	return r, err
}

// Run returns a run; NotFound if it does not exist.
func (j *Journal) Run(ctx context.Context, id string) (Run, error) {
	run, err := ParseRunID(id)
	if err != nil {
		return Run{}, err
	}
	return j.oneRun(ctx, j.reads, run)
}

func (j *Journal) oneRun(ctx context.Context, db querier, id string) (Run, error) {
	r, err := scanRun(db.QueryRowContext(ctx, runQuery, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Run{}, noRun(id)
	}
	return r, storeError(j.path, err)
}

// Filter narrows Runs; the zero Filter accepts all.
type Filter struct {
	Playbook string
	Status   Status
	Limit    int
}

// Runs returns the runs that f accepts, the newest first.
func (j *Journal) Runs(ctx context.Context, f Filter) ([]Run, error) {
	var where []string
	var args []any
	add := func(column string, value any) {
		args = append(args, value)
		where = append(where, column+" = $"+strconv.Itoa(len(args)))
	}
	if f.Playbook != "" {
		add("playbook", f.Playbook)
	}
	if f.Status != "" {
		add("status", f.Status)
	}
	q := `SELECT ` + runColumns + ` FROM runs`
	if len(where) > 0 {
		q += ` WHERE ` + strings.Join(where, ` AND `)
	}
	q += ` ORDER BY id DESC`
	if f.Limit > 0 {
		q += ` LIMIT ` + strconv.Itoa(f.Limit)
	}
	return list(ctx, j, j.reads, scanRun, q, args...)
}

const unfinishedQuery = `SELECT ` + runColumns + ` FROM runs INDEXED BY runs_unfinished WHERE ended_at IS NULL AND ($1 = '' OR playbook = $1) ORDER BY id`

// Unfinished returns the runs of a playbook that have not ended, the oldest
// first; those of all playbooks for "".
func (j *Journal) Unfinished(ctx context.Context, playbook string) ([]Run, error) {
	return list(ctx, j, j.reads, scanRun, unfinishedQuery, playbook)
}

// Log is a line of a run's log. Seq grows over the run's lines.
type Log struct {
	Seq     int64           `json:"seq"`
	Run     string          `json:"run"`
	At      time.Time       `json:"at"`
	Level   string          `json:"level"`
	Step    string          `json:"step,omitempty"`
	Message string          `json:"message"`
	Fields  json.RawMessage `json:"fields,omitempty"`
}

// Logs returns a run's log lines behind the one with seq after, in their order; at most
// limit of them, all if it is 0.
func (j *Journal) Logs(ctx context.Context, run string, after int64, limit int) ([]Log, error) {
	if limit <= 0 {
		limit = -1
	}
	return list(ctx, j, j.reads, func(scan func(...any) error) (Log, error) {
		var l Log
		err := scan(&l.Seq, &l.Run, at(&l.At), &l.Level, &l.Step, &l.Message, raw(&l.Fields))
		return l, err
	}, `SELECT seq, run, at, level, step, message, fields FROM logs WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT $3`, run, after, limit)
}

// Sources returns the files of a bundle, ordered by path; NotFound if it does not exist.
func (j *Journal) Sources(ctx context.Context, bundle string) ([]Source, error) {
	var have int
	if err := j.reads.QueryRowContext(ctx, `SELECT count(*) FROM bundles WHERE hash = $1`, bundle).Scan(&have); err != nil {
		return nil, storeError(j.path, err)
	}
	if have == 0 {
		return nil, &problem.Error{Kind: problem.NotFound, Message: "bundle " + bundle + " is not in the journal", Work: problem.NotDone}
	}
	return list(ctx, j, j.reads, func(scan func(...any) error) (Source, error) {
		var s Source
		err := scan(&s.Path, &s.Body)
		return s, err
	}, `SELECT path, body FROM sources WHERE bundle = $1 ORDER BY path`, bundle)
}

const lastRecordsQuery = `SELECT run, seq, at, data FROM records WHERE run = (SELECT recorded FROM playbooks WHERE playbook = $1) ORDER BY seq`

// LastRecords returns the records of the newest run of playbook that recorded anything, in
// their order; none if no run did.
func (j *Journal) LastRecords(ctx context.Context, playbook string) ([]RecordedRow, error) {
	return list(ctx, j, j.reads, scanRecorded, lastRecordsQuery, playbook)
}

// list collects the rows of a query.
func list[T any](ctx context.Context, j *Journal, db querier, scan func(func(...any) error) (T, error), query string, args ...any) ([]T, error) {
	var out []T
	err := scanAll(ctx, j, db, scan, func(v T) error {
		out = append(out, v)
		return nil
	}, query, args...)
	for i := range out { // now that the rows have released their connection
		if err == nil {
			err = j.whole(ctx, db, &out[i])
		}
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// eachRow calls each with the rows of a query in a transaction.
func eachRow[T Row](ctx context.Context, j *Journal, tx preparedTx, scan func(func(...any) error) (T, error), each func(Row) error, query string, args ...any) error {
	return scanAll(ctx, j, tx, scan, func(v T) error {
		if err := j.whole(ctx, tx, &v); err != nil {
			return err
		}
		return each(v)
	}, query, args...)
}

func scanAll[T any](ctx context.Context, j *Journal, db querier, scan func(func(...any) error) (T, error), each func(T) error, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return storeError(j.path, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		v, err := scan(rows.Scan)
		if err != nil {
			return storeError(j.path, err)
		}
		if err := each(v); err != nil {
			return err
		}
	}
	return storeError(j.path, rows.Err())
}

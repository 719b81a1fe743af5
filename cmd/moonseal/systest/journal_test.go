package systest

import (
	"database/sql"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // to read the journal's file
)

// journal reads the journal's file: what no command shows, or while no daemon runs.
type journal struct {
	s  *site
	db *sql.DB
}

func (s *site) journal() *journal {
	s.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.state(), "moonseal.db")+"?mode=ro")
	s.check(err)
	return &journal{s, db}
}

func (j *journal) close() { j.s.check(j.db.Close()) }

// query calls each with a function that scans a row, for every row.
func (j *journal) query(text string, args []any, each func(scan func(into ...any))) {
	j.s.t.Helper()
	rows, err := j.db.QueryContext(j.s.t.Context(), text, args...)
	j.s.check(err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		each(func(into ...any) { j.s.check(rows.Scan(into...)) })
	}
	j.s.check(rows.Err())
}

// runs returns all runs, the latest first.
func (j *journal) runs() (out []run) {
	j.s.t.Helper()
	j.query(`SELECT id, playbook, bundle, status, reason, epoch, resumed_at, ended_at, error FROM runs ORDER BY id DESC`, nil, func(scan func(...any)) {
		var r run
		var resumed, ended sql.NullInt64
		var failure sql.NullString
		scan(&r.ID, &r.Playbook, &r.Bundle, &r.Status, &r.Reason, &r.Epoch, &resumed, &ended, &failure)
		r.Resumed, r.Ended, r.Error = instant(resumed), instant(ended), []byte(failure.String)
		out = append(out, r)
	})
	return out
}

func instant(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.Unix(0, n.Int64)
}

// run returns a run, which must be there.
func (j *journal) run(id string) run {
	j.s.t.Helper()
	for _, r := range j.runs() {
		if r.ID == id {
			return r
		}
	}
	j.s.t.Fatalf("there is no run %s", id)
	return run{}
}

// steps returns the steps of a run, in their order.
func (j *journal) steps(id string) (out []step) {
	j.s.t.Helper()
	j.query(`SELECT name, state, attempt, result FROM steps WHERE run = $1 ORDER BY step`, []any{id}, func(scan func(...any)) {
		var one step
		var result sql.NullString
		scan(&one.Name, &one.State, &one.Attempt, &result)
		one.Result = []byte(result.String)
		out = append(out, one)
	})
	return out
}

// last returns the last step that a run has come to; a step without a name if there is none.
func (j *journal) last(id string) step {
	j.s.t.Helper()
	steps := j.steps(id)
	if len(steps) == 0 {
		return step{}
	}
	return steps[len(steps)-1]
}

// sources returns the scripts of a bundle, by path.
func (j *journal) sources(bundle string) map[string]string {
	j.s.t.Helper()
	out := map[string]string{}
	j.query(`SELECT path, body FROM sources WHERE bundle = $1`, []any{bundle}, func(scan func(...any)) {
		var path string
		var body []byte
		scan(&path, &body)
		out[path] = string(body)
	})
	return out
}

package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"time"

	"moonseal/runtime/problem"
)

// Step is the row of a step.
type Step struct {
	Step      int             `json:"step"`
	Kind      string          `json:"kind"`
	Name      string          `json:"name"`
	Key       string          `json:"key,omitempty"`
	State     StepState       `json:"state"`
	Attempt   int             `json:"attempt"`          // the latest, from 1
	Deaths    int             `json:"deaths,omitempty"` // of its process, inside it
	Started   time.Time       `json:"started"`          // its first attempt
	AttemptAt time.Time       `json:"attempt_at"`       // its latest
	Ended     time.Time       `json:"ended,omitzero"`
	Deadline  time.Time       `json:"deadline,omitzero"`
	NextAt    time.Time       `json:"next_at,omitzero"` // its next attempt, while it is retrying
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *problem.Error  `json:"error,omitempty"` // of its latest failed attempt
}

// Effect is the row of one call that changes something outside.
type Effect struct {
	Step     int             `json:"step"`
	N        int             `json:"n"`
	Fn       string          `json:"fn"`
	Args     json.RawMessage `json:"args,omitempty"`
	Look     json.RawMessage `json:"look,omitempty"`
	Progress json.RawMessage `json:"progress,omitempty"`
	State    EffectState     `json:"state"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *problem.Error  `json:"error,omitempty"`
	Marked   time.Time       `json:"marked"`
	Ended    time.Time       `json:"ended,omitzero"`
}

// Undo is the row of a clean-up, with what its effect returned.
type Undo struct {
	Run      string          `json:"run"`
	N        int             `json:"n"`
	Step     int             `json:"step"`
	Effect   int             `json:"effect"` // the step's effect; -1 where a script added the undo
	Fn       string          `json:"fn"`
	Args     json.RawMessage `json:"args,omitempty"`
	Holds    []string        `json:"holds,omitempty"`
	State    UndoState       `json:"state"`
	Attempts int             `json:"attempts,omitempty"` // that failed
	NextAt   time.Time       `json:"next_at,omitzero"`
	Error    *problem.Error  `json:"error,omitempty"` // of the latest
	Added    time.Time       `json:"added"`
	Ended    time.Time       `json:"ended,omitzero"`
	Granted  json.RawMessage `json:"granted,omitempty"` // see [UndoSpec]

	Happened EffectState     `json:"happened,omitempty"` // the effect's state
	Look     json.RawMessage `json:"look,omitempty"`     // the effect's
	Progress json.RawMessage `json:"progress,omitempty"` // the effect's
	Result   json.RawMessage `json:"result,omitempty"`   // the effect's
}

// RecordedRow is the row of a Recorded.
type RecordedRow struct {
	Run  string          `json:"run"`
	Seq  int             `json:"seq"`
	At   time.Time       `json:"at"`
	Data json.RawMessage `json:"data"`
}

// HookRow is the row of a HookRan.
type HookRow struct {
	Key string    `json:"key"`
	At  time.Time `json:"at"`
}

// History is all that a process needs in order to take a run up. It is plain data; its
// rows can also be read, and sent, one by one.
type History struct {
	Run     Run           `json:"run"`
	Steps   []Step        `json:"steps,omitempty"`   // by Step
	Effects []Effect      `json:"effects,omitempty"` // by Step and N
	Undos   []Undo        `json:"undos,omitempty"`   // by N
	Records []RecordedRow `json:"records,omitempty"` // by Seq
	Hooks   []HookRow     `json:"hooks,omitempty"`   // by instant

	Decisions []Decided `json:"decisions,omitempty"` // the oldest first
	LogSize   LogSize   `json:"log_size"`

	// Before is the playbook's run before, if it left something when it ended.
	Before *Leftover `json:"before,omitempty"`
}

// LogSize is how much a run's log holds. The lines that tell what other records tell too
// are counted apart.
type LogSize struct {
	Lines      int   `json:"lines"`
	Bytes      int64 `json:"bytes"`
	EventLines int   `json:"event_lines,omitempty"`
	EventBytes int64 `json:"event_bytes,omitempty"`
}

// Leftover is what a run that was cancelled may have made, or has half made.
type Leftover struct {
	Run  string   `json:"run"`
	Left []string `json:"left"`
}

// EventField marks the log lines that repeat what the journal's other records say.
const EventField = "_event"

// History returns a run with all that belongs to it, as of one instant.
func (j *Journal) History(ctx context.Context, id string) (*History, error) {
	h := &History{}
	err := j.EachRow(ctx, id, func(row Row) error {
		row.addTo(h)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// EachRow calls each with the rows of a run's history as they are read, as of one
// instant: the run first, the size of its log last. The first error of each ends it.
func (j *Journal) EachRow(ctx context.Context, id string, each func(Row) error) error {
	id, err := ParseRunID(id)
	if err != nil {
		return err
	}
	err = j.statements.prepare(ctx, j.reads, runQuery, stepsQuery, effectsQuery, undosQuery, recordsQuery, hooksQuery, decidedQuery, logSizeQuery,
		leftQuery, partQuery)
	if err != nil {
		return storeError(j.path, err)
	}
	raw, err := j.reads.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return storeError(j.path, err)
	}
	defer func() { _ = raw.Rollback() }()
	tx := preparedTx{raw, &j.statements}
	r, err := j.oneRun(ctx, tx, id)
	if err != nil {
		return err
	}
	if err := each(r); err != nil {
		return err
	}
	for _, read := range []func() error{
		func() error {
			return eachRow(ctx, j, tx, scanStep, each, stepsQuery, id)
		},
		func() error {
			return eachRow(ctx, j, tx, scanEffect, each, effectsQuery, id)
		},
		func() error {
			return eachRow(ctx, j, tx, scanUndo, each, undosQuery, id)
		},
		func() error {
			return eachRow(ctx, j, tx, scanRecorded, each, recordsQuery, id)
		},
		func() error {
			return eachRow(ctx, j, tx, scanHook, each, hooksQuery, id)
		},
		func() error {
			return eachRow(ctx, j, tx, scanDecided, each, decidedQuery, id)
		},
	} {
		if err := read(); err != nil {
			return err
		}
	}
	before, err := j.leftBefore(ctx, tx, r)
	if err == nil && before != nil {
		err = each(*before)
	}
	if err != nil {
		return err
	}
	var size LogSize
	err = tx.QueryRowContext(ctx, logSizeQuery, id).Scan(&size.Lines, &size.Bytes, &size.EventLines, &size.EventBytes)
	if err != nil {
		return storeError(j.path, err)
	}
	return each(size)
}

// Deaths returns how often processes have died in a step of a run; for a negative step,
// in all of the run.
func (j *Journal) Deaths(ctx context.Context, id string, step int) (int, error) {
	var n int
	err := j.reads.QueryRowContext(ctx, `SELECT COALESCE((SELECT deaths FROM steps WHERE run = $1 AND step = $2), deaths) FROM runs WHERE id = $1`, id, step).Scan(&n)
	return n, storeError(j.path, err)
}

// The queries of a history.
const (
	stepsQuery   = `SELECT ` + stepColumns + ` FROM steps WHERE run = $1 ORDER BY step`
	effectsQuery = `SELECT ` + effectColumns + ` FROM effects WHERE run = $1 ORDER BY step, n`
	undosQuery   = undoQuery + ` WHERE undos.run = $1 ORDER BY undos.n`
	recordsQuery = `SELECT run, seq, at, data FROM records WHERE run = $1 ORDER BY seq`
	hooksQuery   = `SELECT key, at FROM hooks WHERE run = $1 ORDER BY at, key`
	decidedQuery = decisionQuery + ` WHERE run = $1 ORDER BY seq`
	logSizeQuery = `SELECT count(*) - COALESCE(sum(event), 0), COALESCE(sum(size * (1 - event)), 0), COALESCE(sum(event), 0), COALESCE(sum(size * event), 0)
		FROM (SELECT octet_length(message) + COALESCE(octet_length(fields), 0) AS size, instr(COALESCE(fields, ''), '"` + EventField + `":') > 0 AS event
			FROM logs WHERE run = $1)`
	leftQuery = `SELECT id, leftovers FROM runs WHERE playbook = $1 AND id < $2 ORDER BY id DESC LIMIT 1`
)

// Undos returns the undos in a state, all of them for "", the oldest run first.
func (j *Journal) Undos(ctx context.Context, state UndoState) ([]Undo, error) {
	switch state {
	case "":
		return list(ctx, j, j.reads, scanUndo, undoQuery+` ORDER BY undos.run, undos.n`)
	case UndoPending:
		return list(ctx, j, j.reads, scanUndo, pendingUndosQuery)
	default:
		return list(ctx, j, j.reads, scanUndo, undoQuery+` WHERE undos.state = $1 ORDER BY undos.run, undos.n`, state)
	}
}

// leftBefore returns the leftovers of the run that ended before r, nil for none.
func (j *Journal) leftBefore(ctx context.Context, tx querier, r Run) (*Leftover, error) {
	before, err := list(ctx, j, tx, func(scan func(...any) error) (Leftover, error) {
		var l Leftover
		err := scan(&l.Run, parsed(&l.Left))
		return l, err
	}, leftQuery, r.Playbook, r.ID)
	if err != nil || len(before) == 0 || len(before[0].Left) == 0 {
		return nil, err
	}
	return &before[0], nil
}

// Forget abandons the pending undos of a run that has ended, which was read as it is
// now.
func (j *Journal) Forget(ctx context.Context, read Run, d Decided) error {
	undos, err := j.Undos(ctx, UndoPending)
	if err != nil {
		return err
	}
	return j.DecideRun(ctx, read, func(s Stamp) ([]Record, error) {
		d.Stamp = s
		recs := []Record{d}
		for _, u := range undos {
			if u.Run == read.ID {
				recs = append(recs, UndoForgotten{Stamp: s, N: u.N})
			}
		}
		return recs, nil
	})
}

const heldQuery = `SELECT undos.run, undos.holds FROM undos INDEXED BY undos_pending CROSS JOIN runs ON runs.id = undos.run
	WHERE undos.state = 'pending' AND undos.holds IS NOT NULL AND runs.ended_at IS NULL AND undos.run <> $1 ORDER BY undos.run`

// HeldBy returns those of values that a pending undo of an unfinished run other
// than exceptRun holds, each with that run's id. They are still needed outside.
func (j *Journal) HeldBy(ctx context.Context, values []string, exceptRun string) (map[string]string, error) {
	type hold struct {
		run   string
		holds []string
	}
	rows, err := list(ctx, j, j.reads, func(scan func(...any) error) (hold, error) {
		var h hold
		err := scan(&h.run, parsed(&h.holds))
		return h, err
	}, heldQuery, exceptRun)
	held := map[string]string{}
	for _, h := range rows {
		for _, v := range h.holds {
			if _, known := held[v]; !known && slices.Contains(values, v) {
				held[v] = h.run
			}
		}
	}
	return held, err
}

const stepColumns = `step, kind, name, key, state, attempt, deaths, started_at, attempt_at, ended_at, deadline, next_at, result, error`

func scanStep(scan func(...any) error) (Step, error) {
	var s Step
	err := scan(&s.Step, &s.Kind, &s.Name, &s.Key, &s.State, &s.Attempt, &s.Deaths, at(&s.Started), at(&s.AttemptAt), at(&s.Ended),
		at(&s.Deadline), at(&s.NextAt), raw(&s.Result), parsed(&s.Error))
	return s, err
}

const effectColumns = `step, n, fn, args, look, progress, state, result, error, marked_at, ended_at`

func scanEffect(scan func(...any) error) (Effect, error) {
	var e Effect
	err := scan(&e.Step, &e.N, &e.Fn, raw(&e.Args), raw(&e.Look), raw(&e.Progress), &e.State, raw(&e.Result), parsed(&e.Error), at(&e.Marked), at(&e.Ended))
	return e, err
}

const undoQuery = `SELECT undos.run, undos.n, undos.step, COALESCE(undos.effect, -1), undos.fn, undos.args, undos.holds, undos.state, undos.attempts,
	undos.next_at, undos.error, undos.added_at, undos.ended_at, undos.granted, effects.state, effects.look, effects.progress, effects.result
	FROM undos LEFT JOIN effects ON effects.run = undos.run AND effects.step = undos.step AND effects.n = undos.effect`

// The state is in the text: the planner uses the partial index of pending undos only if
// the query says so.
const pendingUndosQuery = undoQuery + ` WHERE undos.state = 'pending' ORDER BY undos.run, undos.n`

func scanUndo(scan func(...any) error) (Undo, error) {
	var u Undo
	err := scan(&u.Run, &u.N, &u.Step, &u.Effect, &u.Fn, raw(&u.Args), parsed(&u.Holds), &u.State, &u.Attempts, at(&u.NextAt), parsed(&u.Error),
		at(&u.Added), at(&u.Ended), raw(&u.Granted), word(&u.Happened), raw(&u.Look), raw(&u.Progress), raw(&u.Result))
	return u, err
}

func scanRecorded(scan func(...any) error) (RecordedRow, error) {
	var r RecordedRow
	err := scan(&r.Run, &r.Seq, at(&r.At), raw(&r.Data))
	return r, err
}

func scanHook(scan func(...any) error) (HookRow, error) {
	var h HookRow
	err := scan(&h.Key, at(&h.At))
	return h, err
}

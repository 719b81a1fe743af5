package journal

import (
	"encoding/json"
	"time"

	"moonseal/runtime/problem"
)

// StepState is the state of a step.
type StepState string

// The states of a step.
const (
	StepRunning  StepState = "started"  // an attempt is under way, or its process died
	StepRetrying StepState = "retrying" // an attempt failed, another will come
	StepIsDone   StepState = "done"     // with its result
	StepIsFailed StepState = "failed"   // with its error
)

// StepStarted records that an attempt at a step starts. Step counts the run's steps from 0
// in the order of their first start. The first start of a step fixes its kind, name and
// key, and its deadline if it has one.
type StepStarted struct {
	Stamp
	Step     int       `json:"step"`
	Kind     string    `json:"kind"` // the call: "step", "poll", "sleep", …
	Name     string    `json:"name"`
	Key      string    `json:"key,omitempty"`
	Attempt  int       `json:"attempt"` // from 1
	Deadline time.Time `json:"deadline,omitzero"`
}

// StepDone records the step's result.
type StepDone struct {
	Stamp
	Step   int             `json:"step"`
	Result json.RawMessage `json:"result,omitempty"`
}

// StepFailed records a failed attempt. It is retried at NextAt, unless it is Final: then the
// error is the step's outcome, for good.
type StepFailed struct {
	Stamp
	Step    int            `json:"step"`
	Attempt int            `json:"attempt"`
	Error   *problem.Error `json:"error"`
	NextAt  time.Time      `json:"next_at,omitzero"`
	Final   bool           `json:"final,omitempty"`
}

// DeadlineSet sets the deadline of a started step, unless it has one.
type DeadlineSet struct {
	Stamp
	Step     int       `json:"step"`
	Deadline time.Time `json:"deadline"`
}

// Type of the record on the wire.
func (StepStarted) Type() string { return "step_started" }

// Type of the record on the wire.
func (StepDone) Type() string { return "step_done" }

// Type of the record on the wire.
func (StepFailed) Type() string { return "step_failed" }

// Type of the record on the wire.
func (DeadlineSet) Type() string { return "deadline_set" }

func (r StepStarted) apply(w *conn) error {
	return w.one(r, `INSERT INTO steps (run, step, kind, name, key, state, attempt, started_at, attempt_at, deadline)
		VALUES ($1, $2, $3, $4, $5, 'started', $6, $7, $7, $8)
		ON CONFLICT (run, step) DO UPDATE SET state = 'started', attempt = excluded.attempt, attempt_at = excluded.attempt_at,
			next_at = NULL, deadline = COALESCE(steps.deadline, excluded.deadline)
		WHERE steps.state IN ('started', 'retrying') AND steps.kind = excluded.kind AND steps.name = excluded.name AND steps.key = excluded.key`,
		r.Run, r.Step, r.Kind, r.Name, r.Key, r.Attempt, r.At.UnixNano(), nanos(r.Deadline))
}

func (r StepDone) apply(w *conn) error {
	result, err := w.sharedResult(r.Run, r.Result)
	if err != nil {
		return err
	}
	err = w.one(r, `UPDATE steps SET state = 'done', result = $3, error = NULL, next_at = NULL, ended_at = $4
		WHERE run = $1 AND step = $2 AND state IN ('started', 'retrying')`, r.Run, r.Step, result, r.At.UnixNano())
	k := w.runs[r.Run]
	if err != nil || k.clean {
		return err
	}
	k.clean = true
	_, err = w.exec(`UPDATE runs SET failures = 0, failing_since = NULL, error = NULL
		WHERE id = $1 AND outcome IS NULL AND (failures > 0 OR error IS NOT NULL)`, r.Run)
	return err
}

func (r StepFailed) apply(w *conn) error {
	e, err := errorText(r.Error)
	if err != nil {
		return err
	}
	state := StepRetrying
	if r.Final {
		state = StepIsFailed
	}
	err = w.one(r, `UPDATE steps SET state = $3, attempt = $4, error = $5, next_at = $6, ended_at = CASE WHEN $3 = 'failed' THEN $7 ELSE NULL END
		WHERE run = $1 AND step = $2 AND state IN ('started', 'retrying')`, r.Run, r.Step, state, r.Attempt, e, nanos(r.NextAt), r.At.UnixNano())
	if err != nil || !r.Final {
		return err
	}
	// The next step's failures are its own.
	_, err = w.exec(`UPDATE runs SET failures = 0, failing_since = NULL WHERE id = $1 AND outcome IS NULL AND failures > 0`, r.Run)
	return err
}

func (r DeadlineSet) apply(w *conn) error {
	return w.one(r, `UPDATE steps SET deadline = COALESCE(deadline, $3) WHERE run = $1 AND step = $2`, r.Run, r.Step, r.Deadline.UnixNano())
}

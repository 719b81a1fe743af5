package journal

import (
	"time"

	"moonseal/runtime/problem"
)

// Status is the status of a run.
type Status string

// The statuses of a run. The last four are outcomes too.
const (
	Created   Status = "created"   // no process has worked on it yet
	Running   Status = "running"   // a process works on it, or died while it did
	Waiting   Status = "waiting"   // it continues by itself, at WakeAt
	Parked    Status = "parked"    // it waits for a decision
	Ending    Status = "ending"    // its outcome is known, undos are left
	Done      Status = "done"      //
	Skipped   Status = "skipped"   // there was nothing to do
	Failed    Status = "failed"    //
	Cancelled Status = "cancelled" //
)

// Outcome reports whether a run can end as s.
func (s Status) Outcome() bool {
	return s == Done || s == Skipped || s == Failed || s == Cancelled
}

// RunCreated creates a run. Its bundle must have been saved; its epoch, at least 1, is what
// its creator may write with.
type RunCreated struct {
	Stamp
	Playbook string `json:"playbook"`
	Bundle   string `json:"bundle"`
	Force    bool   `json:"force,omitempty"`
	// Locks are names; of the runs that share one, one at a time may make disruptive
	// changes. They are acquired with the first such change, see [EffectMarked].
	Locks []string `json:"locks,omitempty"`
}

// RunResumed records that a process works on the run now, for the first time or again.
type RunResumed struct{ Stamp }

// RunWaiting records that the run has freed its process, or does nothing, until an instant.
type RunWaiting struct {
	Stamp
	For     string         `json:"for"`               // what it waits for, such as "retry", "poll", "window"
	Until   time.Time      `json:"until"`             //
	Failure bool           `json:"failure,omitempty"` // because a step failed: one more in Run.Failures
	Error   *problem.Error `json:"error,omitempty"`   // the step's
}

// RunParked records that the run waits for a decision.
type RunParked struct {
	Stamp
	Reason string         `json:"reason"`
	Error  *problem.Error `json:"error,omitempty"`
}

// RunDied records that the run's process ended without a result, inside Step, or outside any
// step if Step is negative. The next adopter of the run writes it.
type RunDied struct {
	Stamp
	Step int `json:"step"`
}

// RunEnding records that the run will end with Outcome, once its undos are done.
type RunEnding struct {
	Stamp
	Outcome Status         `json:"outcome"`
	Reason  string         `json:"reason,omitempty"`
	Error   *problem.Error `json:"error,omitempty"`
	Left    []string       `json:"left,omitempty"` // what may have happened, or is half done, and must be checked by hand
}

// RunEnded records that the run has ended, with Outcome, or with that of RunEnding if it is
// "". Pending undos stay for cleanup. Its locks are released.
type RunEnded struct {
	Stamp
	Outcome Status         `json:"outcome,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	Error   *problem.Error `json:"error,omitempty"`
}

// Type of the record on the wire.
func (RunCreated) Type() string { return "run_created" }

// Type of the record on the wire.
func (RunResumed) Type() string { return "run_resumed" }

// Type of the record on the wire.
func (RunWaiting) Type() string { return "run_waiting" }

// Type of the record on the wire.
func (RunParked) Type() string { return "run_parked" }

// Type of the record on the wire.
func (RunDied) Type() string { return "run_died" }

// Type of the record on the wire.
func (RunEnding) Type() string { return "run_ending" }

// Type of the record on the wire.
func (RunEnded) Type() string { return "run_ended" }

// stopClock, with $2 the instant and $3 the work of the process, adds that if there was one.
const stopClock = `worked = worked + CASE WHEN resumed_at IS NULL THEN 0 ELSE $3 END, resumed_at = NULL, updated_at = $2`

func (r RunCreated) apply(w *conn) error {
	if r.Epoch < 1 {
		return misuse("run %s starts with epoch %d", r.Run, r.Epoch)
	}
	if _, err := ParseRunID(r.Run); err != nil {
		return misuse("%q cannot name a run", r.Run)
	}
	locks, err := listColumn(r.Locks)
	if err != nil {
		return err
	}
	w.runs[r.Run] = &known{epoch: r.Epoch}
	_, err = w.exec(`INSERT INTO runs (id, playbook, bundle, status, epoch, force, created_at, updated_at, locks)
		VALUES ($1, $2, $3, 'created', $4, $5, $6, $6, $7)`, r.Run, r.Playbook, r.Bundle, r.Epoch, r.Force, r.At.UnixNano(), locks)
	return err
}

func (r RunResumed) apply(w *conn) error {
	if err := w.setBack(r.Stamp); err != nil {
		return err
	}
	return w.one(r, `UPDATE runs SET status = CASE status WHEN 'ending' THEN status ELSE 'running' END,
		started_at = COALESCE(started_at, $2), resumed_at = COALESCE(resumed_at, $2), wait_for = '', wake_at = NULL, reason = '', updated_at = $2
		WHERE id = $1 AND ended_at IS NULL`, r.Run, r.At.UnixNano())
}

func (r RunWaiting) apply(w *conn) error {
	w.runs[r.Run].clean = false
	e, err := errorText(r.Error)
	if err != nil {
		return err
	}
	if err := w.setBack(r.Stamp); err != nil {
		return err
	}
	return w.one(r, `UPDATE runs SET status = CASE status WHEN 'ending' THEN status ELSE 'waiting' END, wait_for = $4, wake_at = $5, error = $7,
		failures = failures + $6, failing_since = CASE WHEN $6 > 0 THEN COALESCE(failing_since, $2) ELSE failing_since END, `+stopClock+`
		WHERE id = $1 AND ended_at IS NULL`, r.Run, r.At.UnixNano(), w.work.stopped(r.Stamp), r.For, nanos(r.Until), r.Failure, e)
}

func (r RunParked) apply(w *conn) error {
	w.runs[r.Run].clean = false
	e, err := errorText(r.Error)
	if err != nil {
		return err
	}
	if err := w.setBack(r.Stamp); err != nil {
		return err
	}
	return w.one(r, `UPDATE runs SET status = 'parked', wait_for = '', wake_at = NULL, reason = $4, error = $5, `+stopClock+`
		WHERE id = $1 AND ended_at IS NULL AND outcome IS NULL`, r.Run, r.At.UnixNano(), w.work.stopped(r.Stamp), r.Reason, e)
}

func (r RunDied) apply(w *conn) error {
	if r.Step >= 0 {
		if err := w.one(r, `UPDATE steps SET deaths = deaths + 1 WHERE run = $1 AND step = $2`, r.Run, r.Step); err != nil {
			return err
		}
	}
	if err := w.setBack(r.Stamp); err != nil {
		return err
	}
	return w.one(r, `UPDATE runs SET deaths = deaths + 1, updated_at = $2 WHERE id = $1`, r.Run, r.At.UnixNano())
}

func (r RunEnding) apply(w *conn) error {
	e, err := errorText(r.Error)
	if err != nil {
		return err
	}
	if !r.Outcome.Outcome() {
		return misuse("%q is not a valid outcome", r.Outcome)
	}
	left, err := listColumn(r.Left)
	if err != nil {
		return err
	}
	return w.one(r, `UPDATE runs SET status = 'ending', outcome = $3, reason = $4, error = $5, leftovers = $6, wait_for = '', wake_at = NULL, updated_at = $2
		WHERE id = $1 AND ended_at IS NULL AND outcome IS NULL`, r.Run, r.At.UnixNano(), r.Outcome, r.Reason, e, left)
}

func (r RunEnded) apply(w *conn) error {
	defer delete(w.runs, r.Run) // hardly anything comes after it
	e, err := errorText(r.Error)
	if err != nil {
		return err
	}
	if r.Outcome != "" && !r.Outcome.Outcome() {
		return misuse("%q is not a valid outcome", r.Outcome)
	}
	var outcome any
	if r.Outcome != "" {
		outcome = r.Outcome
	}
	err = w.one(r, `UPDATE runs SET status = COALESCE($4, outcome), outcome = COALESCE($4, outcome), ended_at = $2, wait_for = '', wake_at = NULL,
		reason = CASE WHEN $5 = '' THEN reason ELSE $5 END, error = COALESCE($6, error), `+stopClock+`
		WHERE id = $1 AND ended_at IS NULL AND COALESCE($4, outcome) IS NOT NULL`, r.Run, r.At.UnixNano(), w.work.stopped(r.Stamp), outcome, r.Reason, e)
	if err != nil {
		return err
	}
	if _, err := w.exec(`INSERT INTO playbooks (playbook, last) SELECT playbook, id FROM runs WHERE id = $1
		ON CONFLICT (playbook) DO UPDATE SET last = excluded.last WHERE coalesce(last, '') < excluded.last`, r.Run); err != nil {
		return err
	}
	return w.releaseLocks(r.Run)
}

// one runs a statement that must change one row: its conditions exclude a run that has
// ended, a step that is done and the like.
func (w *conn) one(r Record, query string, args ...any) error {
	n, err := w.exec(query, args...)
	if err == nil && n != 1 {
		return misuse("%s does not fit run %s as it is", r.Type(), r.Stamped().Run)
	}
	return err
}

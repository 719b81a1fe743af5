package journal

import (
	"encoding/json"
	"time"

	"moonseal/runtime/problem"
)

// EffectState is the outcome of one call that changes something outside.
type EffectState string

// The states of an effect.
const (
	EffectOpen      EffectState = "open"     // it may or may not have happened
	EffectIsDone    EffectState = "done"     //
	EffectIsNotDone EffectState = "not_done" // it certainly did not happen
)

// UndoState is the state of an undo.
type UndoState string

// The states of an undo.
const (
	UndoPending     UndoState = "pending"   //
	UndoIsDone      UndoState = "done"      //
	UndoVoid        UndoState = "void"      // what it would undo certainly did not happen
	UndoIsForgotten UndoState = "forgotten" // given up by a decision
)

// UndoSpec is a clean-up to come: everything that it needs besides what its
// effect returned.
type UndoSpec struct {
	N     int             `json:"n"`               // counts the run's undos from 0; they run from the last to the first
	Fn    string          `json:"fn"`              //
	Args  json.RawMessage `json:"args,omitempty"`  //
	Holds []string        `json:"holds,omitempty"` // values outside that this run needs until then; see [Journal.HeldBy]
	// Granted is what the playbook was granted when the change was made, JSON: the undo may
	// reach that, whatever the config grants by then. Empty is not known.
	Granted json.RawMessage `json:"granted,omitempty"`
}

// EffectMarked precedes one call that changes something outside, in one commit with the undo
// that the call's function names. A disruptive one acquires the run's locks in that commit;
// if another run holds one of them the record is refused with ErrLockHeld.
type EffectMarked struct {
	Stamp
	Step int             `json:"step"`
	N    int             `json:"n"` // counts the step's effects from 0, over all its attempts
	Fn   string          `json:"fn"`
	Args json.RawMessage `json:"args,omitempty"`
	Look json.RawMessage `json:"look,omitempty"` // what the function saw before it changed anything
	Undo *UndoSpec       `json:"undo,omitempty"`

	Disruptive bool `json:"disruptive,omitempty"` // users of the appliance may notice it
}

// EffectProgress records how far a call that is half done has come.
type EffectProgress struct {
	Stamp
	Step     int             `json:"step"`
	N        int             `json:"n"`
	Progress json.RawMessage `json:"progress"`
}

// EffectDone records that the call happened, and its result, which its undo sees. An empty
// Result is not known; another EffectDone may add it.
type EffectDone struct {
	Stamp
	Step   int             `json:"step"`
	N      int             `json:"n"`
	Result json.RawMessage `json:"result,omitempty"`
}

// EffectNotDone records that the call certainly did not happen. VoidUndo says that its undo
// has nothing to do; leave it unset if a part of the call may have happened.
type EffectNotDone struct {
	Stamp
	Step     int            `json:"step"`
	N        int            `json:"n"`
	Error    *problem.Error `json:"error,omitempty"`
	VoidUndo bool           `json:"void_undo,omitempty"`
}

// UndoAdded records a clean-up that a script registers itself.
type UndoAdded struct {
	Stamp
	Step int      `json:"step"` // the step after which it was registered
	Undo UndoSpec `json:"undo"`
}

// UndoDone records that undo N has done its work.
type UndoDone struct {
	Stamp
	N int `json:"n"`
}

// UndoFailed records that an attempt at undo N failed, and is retried at NextAt.
type UndoFailed struct {
	Stamp
	N      int            `json:"n"`
	Error  *problem.Error `json:"error"`
	NextAt time.Time      `json:"next_at,omitzero"`
}

// UndoForgotten records that undo N was given up by a decision.
type UndoForgotten struct {
	Stamp
	N int `json:"n"`
}

// Type of the record on the wire.
func (EffectMarked) Type() string { return "effect_marked" }

// Type of the record on the wire.
func (EffectProgress) Type() string { return "effect_progress" }

// Type of the record on the wire.
func (EffectDone) Type() string { return "effect_done" }

// Type of the record on the wire.
func (EffectNotDone) Type() string { return "effect_not_done" }

// Type of the record on the wire.
func (UndoAdded) Type() string { return "undo_added" }

// Type of the record on the wire.
func (UndoDone) Type() string { return "undo_done" }

// Type of the record on the wire.
func (UndoFailed) Type() string { return "undo_failed" }

// Type of the record on the wire.
func (UndoForgotten) Type() string { return "undo_forgotten" }

func (r EffectMarked) apply(w *conn) error {
	if r.Disruptive {
		if err := w.acquireLocks(r.Run, r.At); err != nil {
			return err
		}
	}
	args, err := w.shared(r.Run, r.Args)
	if err != nil {
		return err
	}
	look, err := w.shared(r.Run, r.Look)
	if err != nil {
		return err
	}
	err = w.one(r, `INSERT INTO effects (run, step, n, fn, args, look, state, marked_at)
		SELECT $1, $2, $3, $4, $5, $6, 'open', $7 FROM steps WHERE run = $1 AND step = $2 AND state = 'started'`,
		r.Run, r.Step, r.N, r.Fn, args, look, r.At.UnixNano())
	if err != nil || r.Undo == nil {
		return err
	}
	return r.Undo.add(w, r, r.Step, r.N)
}

func (r EffectProgress) apply(w *conn) error {
	progress, err := w.shared(r.Run, r.Progress)
	if err != nil {
		return err
	}
	return w.one(r, `UPDATE effects SET progress = $4 WHERE run = $1 AND step = $2 AND n = $3 AND state = 'open'`,
		r.Run, r.Step, r.N, progress)
}

func (r EffectDone) apply(w *conn) error {
	result, err := w.sharedResult(r.Run, r.Result)
	if err != nil {
		return err
	}
	return w.one(r, `UPDATE effects SET state = 'done', result = $4, ended_at = $5
		WHERE run = $1 AND step = $2 AND n = $3 AND (state = 'open' OR state = 'done' AND result IS NULL)`,
		r.Run, r.Step, r.N, result, r.At.UnixNano())
}

func (r EffectNotDone) apply(w *conn) error {
	e, err := errorText(r.Error)
	if err != nil {
		return err
	}
	err = w.one(r, `UPDATE effects SET state = 'not_done', error = $4, ended_at = $5
		WHERE run = $1 AND step = $2 AND n = $3 AND (state = 'open' OR state = 'done' AND result IS NULL)`,
		r.Run, r.Step, r.N, e, r.At.UnixNano())
	if err != nil || !r.VoidUndo {
		return err
	}
	_, err = w.exec(`UPDATE undos SET state = 'void', ended_at = $4 WHERE run = $1 AND step = $2 AND effect = $3 AND state = 'pending'`,
		r.Run, r.Step, r.N, r.At.UnixNano())
	return err
}

func (r UndoAdded) apply(w *conn) error { return r.Undo.add(w, r, r.Step, nil) }

func (u UndoSpec) add(w *conn, r Record, step int, effect any) error {
	var holds any
	if len(u.Holds) > 0 {
		b, err := json.Marshal(u.Holds)
		if err != nil {
			return err
		}
		holds = string(b)
	}
	args, err := w.shared(r.Stamped().Run, u.Args)
	if err != nil {
		return err
	}
	return w.one(r, `INSERT INTO undos (run, n, step, effect, fn, args, holds, state, added_at, granted) VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9)`,
		r.Stamped().Run, u.N, step, effect, u.Fn, args, holds, r.Stamped().At.UnixNano(), text(u.Granted))
}

func (r UndoDone) apply(w *conn) error {
	return w.one(r, `UPDATE undos SET state = 'done', error = NULL, next_at = NULL, ended_at = $3 WHERE run = $1 AND n = $2 AND state = 'pending'`,
		r.Run, r.N, r.At.UnixNano())
}

func (r UndoFailed) apply(w *conn) error {
	e, err := errorText(r.Error)
	if err != nil {
		return err
	}
	return w.one(r, `UPDATE undos SET attempts = attempts + 1, error = $3, next_at = $4 WHERE run = $1 AND n = $2 AND state = 'pending'`,
		r.Run, r.N, e, nanos(r.NextAt))
}

func (r UndoForgotten) apply(w *conn) error {
	return w.one(r, `UPDATE undos SET state = 'forgotten', next_at = NULL, ended_at = $3 WHERE run = $1 AND n = $2 AND state = 'pending'`,
		r.Run, r.N, r.At.UnixNano())
}

package journal

import (
	"encoding/json"
	"fmt"

	"moonseal/runtime/problem"
)

// Bounds of what a run journals beside its log: a process that resumes the run has all of
// it in memory.
const (
	MostValue   = 1 << 20  // bytes of one value: a result, arguments, progress, a record, an error
	MostName    = 4 << 10  // bytes of a step's name and key
	MostHistory = 32 << 20 // bytes of a run's history
)

const (
	// reserve is what a run may have beyond MostHistory so that nothing that has happened
	// is lost: results of calls already made, errors, clean-up.
	reserve = 8 << 20
	// rowWeight is what a row weighs beside its values.
	rowWeight = 256
)

// Purpose says what records are for: those that start something new are refused first.
type Purpose int64

// The purposes, as the bytes beyond [MostHistory] that are left to each.
const (
	ToBegin Purpose = 0
	ToEnd   Purpose = reserve / 2 // clean-up
	ToKeep  Purpose = reserve     // what has happened; the last bound
)

// Quota is how much of its bounds a run's history uses. The zero Quota is an empty
// history's.
type Quota struct {
	used  int64
	began int64 // what the journal had when the run was resumed
	sizes map[slot]int64
}

// slot is a place in the history that holds one value, or the smaller ones of a row:
// another value for it replaces the one before.
type slot struct {
	of      slotOf
	step, n int
	key     string
}

type slotOf int

const (
	stepRow slotOf = iota
	stepResult
	stepError
	effectRow
	effectLook
	effectProgress
	effectResult
	effectError
	undoRow
	undoError
	recordRow
	hookRow
	runError
)

// part is a value of a record.
type part struct {
	what string // as errors call it
	slot slot
	size int64 // of the value
	row  int64 // of what stands beside it
	most int64
}

// OverError is the error of a record that breaks a bound.
type OverError struct {
	What string // the value
	Size int64  // in bytes: the value's, or the history's with it
	Most int64
	Run  bool // it is the bound of the run's history
}

func (e *OverError) Error() string {
	if e.Run {
		return fmt.Sprintf("the run's history has %d bytes with %s, more than %d", e.Size, e.What, e.Most)
	}
	return fmt.Sprintf("%s has %d bytes, more than %d", e.What, e.Size, e.Most)
}

// QuotaOf returns the quota of a run that is resumed with history h.
func QuotaOf(h *History) *Quota {
	q := &Quota{}
	h.rows(q.Row)
	return q
}

// Row counts a row that the journal had when the run was resumed.
func (q *Quota) Row(row Row) {
	var parts [4]part
	q.put(row.parts(parts[:0]))
	q.began = q.used
}

// Check returns an [OverError] if r breaks a bound.
func (q *Quota) Check(p Purpose, r Record) error {
	var room [4]part
	grown := int64(0)
	what := ""
	for _, part := range parts(room[:0], r) {
		more := part.row + part.size - q.sizes[part.slot]
		if more != 0 && part.size > part.most { // what the journal has already may be of an older version
			return &OverError{What: part.what, Size: part.size, Most: part.most}
		}
		if more > 0 {
			grown += more
			what = part.what
		}
	}
	if most := q.most() + int64(p); grown > 0 && q.used+grown > most {
		return &OverError{What: what, Size: q.used + grown, Most: most, Run: true}
	}
	return nil
}

// Add counts records that are, or will be, in the journal.
func (q *Quota) Add(recs ...Record) {
	for _, r := range recs {
		var room [4]part
		q.put(parts(room[:0], r))
	}
}

func (q *Quota) put(parts []part) {
	if q.sizes == nil {
		q.sizes = map[slot]int64{}
	}
	for _, p := range parts {
		size := p.row + p.size
		q.used += size - q.sizes[p.slot]
		if q.sizes[p.slot] = size; size == 0 {
			delete(q.sizes, p.slot)
		}
	}
}

// most returns the bound of the history. Only versions without these bounds let a run exceed
// the reserve: such a run continues, and can be ended.
func (q *Quota) most() int64 {
	if q.began > MostHistory+reserve {
		return q.began + reserve
	}
	return MostHistory
}

// Size returns how many bytes r has, roughly: its values, without its stamp.
func Size(r Record) int {
	if l, ok := r.(Logged); ok {
		return len(l.Message) + len(l.Fields)
	}
	var room [4]part
	size := int64(0)
	for _, p := range parts(room[:0], r) {
		size += p.row + p.size
	}
	return int(size)
}

// parts appends the values of r. Records that only a parent or a user writes have none, and
// neither has the log.
func parts(out []part, r Record) []part {
	switch r := r.(type) {
	case StepStarted:
		return append(out, stepPart(r.Step, r.Kind, r.Name, r.Key))
	case StepDone:
		return append(out, value("the result", slot{of: stepResult, step: r.Step}, r.Result))
	case StepFailed:
		return append(out, errorPart(slot{of: stepError, step: r.Step}, "", r.Error))
	case EffectMarked:
		out = append(out, effectPart(r.Step, r.N, r.Fn, r.Args), value("what was seen before the call", slot{of: effectLook, step: r.Step, n: r.N}, r.Look))
		if r.Undo != nil {
			out = append(out, undoPart(r.Undo.N, r.Undo.Fn, r.Undo.Args, r.Undo.Holds))
		}
		return out
	case EffectProgress:
		return append(out, value("the progress", slot{of: effectProgress, step: r.Step, n: r.N}, r.Progress))
	case EffectDone:
		return append(out, value("the result", slot{of: effectResult, step: r.Step, n: r.N}, r.Result))
	case EffectNotDone:
		return append(out, errorPart(slot{of: effectError, step: r.Step, n: r.N}, "", r.Error))
	case UndoAdded:
		return append(out, undoPart(r.Undo.N, r.Undo.Fn, r.Undo.Args, r.Undo.Holds))
	case UndoFailed:
		return append(out, errorPart(slot{of: undoError, n: r.N}, "", r.Error))
	case Recorded:
		return append(out, recordPart(r.Seq, r.Data))
	case HookRan:
		return append(out, hookPart(r.Key))
	case RunWaiting:
		return append(out, errorPart(slot{of: runError}, r.For, r.Error))
	case RunParked:
		return append(out, errorPart(slot{of: runError}, r.Reason, r.Error))
	case RunEnding:
		return append(out, errorPart(slot{of: runError}, r.Reason, r.Error))
	case RunEnded:
		return append(out, errorPart(slot{of: runError}, r.Reason, r.Error))
	}
	return out
}

func (s Step) parts(out []part) []part {
	return append(out, stepPart(s.Step, s.Kind, s.Name, s.Key), value("", slot{of: stepResult, step: s.Step}, s.Result),
		errorPart(slot{of: stepError, step: s.Step}, "", s.Error))
}

func (e Effect) parts(out []part) []part {
	return append(out, effectPart(e.Step, e.N, e.Fn, e.Args), value("", slot{of: effectLook, step: e.Step, n: e.N}, e.Look),
		value("", slot{of: effectProgress, step: e.Step, n: e.N}, e.Progress), value("", slot{of: effectResult, step: e.Step, n: e.N}, e.Result),
		errorPart(slot{of: effectError, step: e.Step, n: e.N}, "", e.Error))
}

func (u Undo) parts(out []part) []part {
	return append(out, undoPart(u.N, u.Fn, u.Args, u.Holds), errorPart(slot{of: undoError, n: u.N}, "", u.Error))
}

func (r RecordedRow) parts(out []part) []part { return append(out, recordPart(r.Seq, r.Data)) }

func (h HookRow) parts(out []part) []part { return append(out, hookPart(h.Key)) }

func (r Run) parts(out []part) []part {
	return append(out, errorPart(slot{of: runError}, r.Reason+r.WaitFor, r.Error))
}

func (Decided) parts(out []part) []part { return out }

func (Leftover) parts(out []part) []part { return out }

func (LogSize) parts(out []part) []part { return out }

func value(what string, s slot, raw json.RawMessage) part {
	return part{what: what, slot: s, size: int64(len(raw)), most: MostValue}
}

func stepPart(step int, kind, name, key string) part {
	return part{what: "the step's name with its key", slot: slot{of: stepRow, step: step}, size: int64(len(kind) + len(name) + len(key)), row: rowWeight, most: MostName}
}

func effectPart(step, n int, fn string, args json.RawMessage) part {
	return part{what: "the call with its arguments", slot: slot{of: effectRow, step: step, n: n}, size: int64(len(fn) + len(args)), row: rowWeight, most: MostValue}
}

func undoPart(n int, fn string, args json.RawMessage, holds []string) part {
	size := len(fn) + len(args)
	for _, h := range holds {
		size += len(h)
	}
	return part{what: "the clean-up with its arguments", slot: slot{of: undoRow, n: n}, size: int64(size), row: rowWeight, most: MostValue}
}

func recordPart(seq int, data json.RawMessage) part {
	return part{what: "the record", slot: slot{of: recordRow, n: seq}, size: int64(len(data)), row: rowWeight, most: MostValue}
}

func hookPart(key string) part {
	return part{what: "the hook's event", slot: slot{of: hookRow, key: key}, size: int64(len(key)), row: rowWeight, most: MostValue}
}

func errorPart(s slot, reason string, e *problem.Error) part {
	size := len(reason)
	if e != nil {
		b, err := Marshal(e)
		if err != nil {
			size += MostValue // more than any bound
		}
		size += len(b)
	}
	return part{what: "the error", slot: s, size: int64(size), most: MostValue}
}

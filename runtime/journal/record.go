package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"moonseal/runtime/problem"
)

// Record is one fact about one run: one of the structs of this package that
// begin with a [Stamp]. Over the wire it goes through [Encode] and [Decode].
type Record interface {
	// Stamped returns whose record it is, and when it became true.
	Stamped() Stamp
	// Type is the record's name on the wire, such as "step_done".
	Type() string

	apply(w *conn) error
}

// Stamp begins every record.
type Stamp struct {
	Run   string    `json:"run"`
	Epoch int64     `json:"epoch"` // of the writer, from Adopt or RunCreated
	At    time.Time `json:"at"`
	// Worked is how long the writer's process has worked on the run so far, without its
	// waits, by a monotonic clock.
	Worked time.Duration `json:"worked,omitempty"`
}

// Stamped returns the stamp itself.
func (s Stamp) Stamped() Stamp { return s }

type envelope struct {
	Type   string          `json:"type"`
	Record json.RawMessage `json:"record"`
}

// Encode returns r as one JSON object without line breaks.
func Encode(r Record) ([]byte, error) {
	b, err := Marshal(r)
	if err != nil {
		return nil, misuse("%s: %v", r.Type(), err)
	}
	out := make([]byte, 0, len(b)+48)
	out = append(append(append(out, `{"type":"`...), r.Type()...), `","record":`...) // an envelope; no type needs escaping
	return append(append(out, b...), '}'), nil
}

// Decode returns the record that Encode wrote. It refuses unknown fields: both
// ends are of one build.
func Decode(b []byte) (Record, error) {
	var e envelope
	if err := strict(b, &e); err != nil {
		return nil, misuse("a malformed record: %v", err)
	}
	of, ok := types[e.Type]
	if !ok {
		return nil, misuse("a record of unknown type %q", e.Type)
	}
	r, err := of.decode(e.Record)
	if err != nil {
		return nil, misuse("%s: %v", e.Type, err)
	}
	return r, nil
}

// Pack appends r to b, in a form that costs less than Encode's and that only the
// same build of moonseal reads.
func Pack(b []byte, r Record) ([]byte, error) {
	body, err := Marshal(r)
	if err != nil {
		return nil, misuse("%s: %v", r.Type(), err)
	}
	name := r.Type()
	b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
	return append(binary.AppendUvarint(b, uint64(len(body))), body...), nil
}

// Unpack returns the record that Pack wrote at the head of b, and what follows it.
func Unpack(b []byte) (r Record, rest []byte, err error) {
	name, b, ok := cut(b)
	body, b, whole := cut(b)
	of, known := types[string(name)]
	if !ok || !whole || !known {
		return nil, nil, misuse("a malformed packed record of type %q", name)
	}
	if r, err = of.unpack(body); err != nil {
		return nil, nil, misuse("%s: %v", name, err)
	}
	return r, b, nil
}

// cut cuts bytes off b that begin with their number.
func cut(b []byte) (part, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, nil, false
	}
	if b = b[n:]; size > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:size], b[size:], true
}

// form reads a type's records: strictly, and as fast as it goes.
type form struct{ decode, unpack func([]byte) (Record, error) }

func reads[T Record]() form { return form{decode[T], unpack[T]} }

//nolint:gochecknoglobals // never changed
var types = map[string]form{
	RunCreated{}.Type():     reads[RunCreated](),
	RunResumed{}.Type():     reads[RunResumed](),
	RunWaiting{}.Type():     reads[RunWaiting](),
	RunParked{}.Type():      reads[RunParked](),
	RunDied{}.Type():        reads[RunDied](),
	RunEnding{}.Type():      reads[RunEnding](),
	RunEnded{}.Type():       reads[RunEnded](),
	StepStarted{}.Type():    reads[StepStarted](),
	StepDone{}.Type():       reads[StepDone](),
	StepFailed{}.Type():     reads[StepFailed](),
	DeadlineSet{}.Type():    reads[DeadlineSet](),
	EffectMarked{}.Type():   reads[EffectMarked](),
	EffectProgress{}.Type(): reads[EffectProgress](),
	EffectDone{}.Type():     reads[EffectDone](),
	EffectNotDone{}.Type():  reads[EffectNotDone](),
	UndoAdded{}.Type():      reads[UndoAdded](),
	UndoDone{}.Type():       reads[UndoDone](),
	UndoFailed{}.Type():     reads[UndoFailed](),
	UndoForgotten{}.Type():  reads[UndoForgotten](),
	Logged{}.Type():         reads[Logged](),
	Recorded{}.Type():       reads[Recorded](),
	HookRan{}.Type():        reads[HookRan](),
	Decided{}.Type():        reads[Decided](),
}

func decode[T Record](b []byte) (Record, error) {
	var r T
	err := strict(b, &r)
	return r, err
}

func unpack[T Record](b []byte) (Record, error) {
	var r T
	err := json.Unmarshal(b, &r)
	return r, err
}

func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more data follows it")
	}
	return nil
}

// nanos returns an instant for a column, NULL for the zero one.
func nanos(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixNano()
}

// text returns JSON for a column, NULL if there is none.
func text(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	return string(raw)
}

func errorText(e *problem.Error) (any, error) {
	if e == nil {
		return nil, nil
	}
	b, err := json.Marshal(e)
	return string(b), err
}

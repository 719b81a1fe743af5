package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"moonseal/runtime/problem"
)

// Record is one fact about one run: one of the structs of this package that
// begin with a [Stamp]. Over the wire it goes through [Encode] and [Decode].
type Record interface {
	// Stamped gives whose record it is, and when it became true.
	Stamped() Stamp
	// Type is the record's name on the wire, such as "step_done".
	Type() string

	apply(w *conn) error
}

// Stamp begins every record.
type Stamp struct {
	Run   string    `json:"run"`
	Epoch int64     `json:"epoch"` // of the writer, as Adopt or RunCreated gave it
	At    time.Time `json:"at"`
}

// Stamped gives the stamp itself.
func (s Stamp) Stamped() Stamp { return s }

type envelope struct {
	Type   string          `json:"type"`
	Record json.RawMessage `json:"record"`
}

// Encode gives r as one JSON object without line breaks.
func Encode(r Record) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, misuse("%s: %v", r.Type(), err)
	}
	out := make([]byte, 0, len(b)+48)
	out = append(append(append(out, `{"type":"`...), r.Type()...), `","record":`...) // an envelope; no type needs escaping
	return append(append(out, b...), '}'), nil
}

// Decode gives the record that Encode wrote. It refuses unknown fields: both
// ends are of one build.
func Decode(b []byte) (Record, error) {
	var e envelope
	if err := strict(b, &e); err != nil {
		return nil, misuse("a record that is no record: %v", err)
	}
	decode, ok := decoders[e.Type]
	if !ok {
		return nil, misuse("a record of unknown type %q", e.Type)
	}
	r, err := decode(e.Record)
	if err != nil {
		return nil, misuse("%s: %v", e.Type, err)
	}
	return r, nil
}

//nolint:gochecknoglobals // never changed
var decoders = map[string]func([]byte) (Record, error){
	RunCreated{}.Type():     decode[RunCreated],
	RunResumed{}.Type():     decode[RunResumed],
	RunWaiting{}.Type():     decode[RunWaiting],
	RunParked{}.Type():      decode[RunParked],
	RunDied{}.Type():        decode[RunDied],
	RunEnding{}.Type():      decode[RunEnding],
	RunEnded{}.Type():       decode[RunEnded],
	StepStarted{}.Type():    decode[StepStarted],
	StepDone{}.Type():       decode[StepDone],
	StepFailed{}.Type():     decode[StepFailed],
	DeadlineSet{}.Type():    decode[DeadlineSet],
	EffectMarked{}.Type():   decode[EffectMarked],
	EffectProgress{}.Type(): decode[EffectProgress],
	EffectDone{}.Type():     decode[EffectDone],
	EffectNotDone{}.Type():  decode[EffectNotDone],
	UndoAdded{}.Type():      decode[UndoAdded],
	UndoDone{}.Type():       decode[UndoDone],
	UndoFailed{}.Type():     decode[UndoFailed],
	UndoForgotten{}.Type():  decode[UndoForgotten],
	Logged{}.Type():         decode[Logged],
	Recorded{}.Type():       decode[Recorded],
	HookRan{}.Type():        decode[HookRan],
}

func decode[T Record](b []byte) (Record, error) {
	var r T
	err := strict(b, &r)
	return r, err
}

func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("something follows it")
	}
	return nil
}

// nanos gives an instant for a column, NULL for the zero one.
func nanos(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixNano()
}

// text gives JSON for a column, NULL where there is none.
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

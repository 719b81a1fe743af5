package run

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// cursor is where in its recorded history the run is. It matches what the body comes to
// against the record, in order, and keeps what is new. It decides nothing: of a mismatch
// it only reports that there is one.
type cursor struct {
	rec      *recorder
	steps    []*step // as recorded, then as they come
	recorded int     // of them, those that the journal had
	next     int     // the next step's number
	seen     map[stepKey]bool
	defers   []*step // the steps of deferred functions, outside of the body's order
	approval *step   // of the first change, in mode ask; nil until requested

	rows         int // calls of ctx:record so far
	rowsRecorded int // of them, those that the journal had

	ending bool           // the outcome is recorded; nothing new starts
	place  *problem.Place // the line of the last call of ctx
}

// stepKey identifies a step within a run.
type stepKey struct{ name, key string }

func (k stepKey) String() string {
	if k.key == "" {
		return k.name
	}
	return k.name + "[" + k.key + "]"
}

// mismatchError is a body that has come to another step than the record has there.
type mismatchError struct {
	recorded *step
	kind     string
	key      stepKey
}

func (e *mismatchError) Error() string {
	return fmt.Sprintf("the journal has %s %q as step %d of this run, and the script now comes to %s %q: it depends on something outside of steps",
		e.recorded.kind, e.recorded.label(), e.recorded.n+1, e.kind, e.key)
}

// replaying reports whether the body has yet to come to the end of the record.
func (c *cursor) replaying() bool { return c.next < c.recorded || c.ending }

// missed returns the recorded step that the body has not come to, nil for none.
func (c *cursor) missed() *step {
	if c.next >= c.recorded {
		return nil
	}
	return c.steps[c.next]
}

// passed reports whether the body has come to a step of this label.
func (c *cursor) passed(label string) bool {
	for _, s := range c.steps[:c.next] {
		if s.label() == label {
			return true
		}
	}
	return false
}

// check refuses a step that has no valid name, or that of an earlier step.
func (c *cursor) check(kind string, k stepKey) error {
	switch {
	case kind == kindSleep:
		return nil
	case !utf8.ValidString(k.name) || !utf8.ValidString(k.key):
		return misuse("ctx:"+kind, fmt.Sprintf("step %q is not named in UTF-8", k), "")
	case c.seen[k]:
		return misuse("ctx:"+kind, fmt.Sprintf("step %q comes twice in this run", k), "in a loop give each step a key: ctx:step(name, { key = host }, fn)")
	}
	return nil
}

// enter returns the step that the body has come to: the recorded one, or a new one. The
// error is a [mismatchError] if the record has another one there.
func (c *cursor) enter(kind string, k stepKey) (*step, error) {
	if err := c.check(kind, k); err != nil {
		return nil, err
	}
	n := c.next
	if !c.ending { // before it counts as seen
		rec := journal.StepStarted{Step: n, Kind: kind, Name: k.name, Key: k.key}
		if err := c.start("ctx:"+kind, rec, n >= len(c.steps)); err != nil {
			return nil, err
		}
	}
	if kind != kindSleep {
		c.seen[k] = true
	}
	if n >= len(c.steps) {
		if c.ending {
			return nil, pastTheEnd()
		}
		c.steps = append(c.steps, &step{n: n, kind: kind, stepKey: k})
	}
	s := c.steps[n]
	if s.kind != kind || s.stepKey != k {
		if c.ending { // what it would come to is not done any more
			return nil, pastTheEnd()
		}
		return nil, &mismatchError{recorded: s, kind: kind, key: k}
	}
	c.next++
	if c.ending && !s.final() {
		return nil, pastTheEnd()
	}
	return s, nil
}

// pastTheEnd ends the body of a run whose outcome is recorded.
func pastTheEnd() *control { return &control{outcome: &Outcome{Status: journal.Skipped}} }

// start refuses a record that breaks a bound; isNew reports whether the journal does not
// have it yet. A value that is too large is refused in each process that comes to it,
// recorded or not. A history that is full ends the run as failed, which no pcall catches:
// a later process, whose history is another, would not refuse the same.
func (c *cursor) start(call string, rec journal.Record, isNew bool) error {
	e, whole := c.rec.exceeds(journal.ToBegin, call, "", rec)
	if e == nil || whole && !isNew {
		return nil
	}
	e.Place = c.place
	if whole {
		return &control{outcome: &Outcome{Status: journal.Failed, Error: e}}
	}
	return e
}

// purpose is what a record is for that is written at this point of the history.
func (c *cursor) purpose() journal.Purpose {
	if c.ending {
		return journal.ToEnd
	}
	return journal.ToBegin
}

// firstDefer is the number of the first deferred function's step: far above any
// of the body's, whose count is not known when a body ends early.
const firstDefer = 1 << 20

// deferred returns the step of a deferred function, whose undo has the number n.
func (c *cursor) deferred(n int) *step {
	for _, s := range c.defers {
		if s.n == firstDefer+n {
			return s
		}
	}
	s := &step{n: firstDefer + n, kind: kindStep, stepKey: stepKey{"cleaning_up", strconv.Itoa(n)}}
	c.defers = append(c.defers, s)
	return s
}

// setBack moves the deadlines of steps that have not ended: the clock was set back.
func (c *cursor) setBack(by time.Duration) {
	for _, s := range c.steps {
		if !s.final() && !s.deadline.IsZero() {
			s.deadline = s.deadline.Add(-by)
		}
	}
}

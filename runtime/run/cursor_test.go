package run

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// newCursor is at the start of a record of these steps, all but the last of them done.
func newCursor(names ...string) *cursor {
	c := &cursor{rec: newRecorder(&memory{}), seen: map[stepKey]bool{}, recorded: len(names)}
	for n, name := range names {
		s := &step{n: n, kind: kindStep, stepKey: stepKey{name: name}, state: journal.StepIsDone}
		if n == len(names)-1 {
			s.state = journal.StepRunning
		}
		c.steps = append(c.steps, s)
	}
	return c
}

// A body that comes to the recorded steps gets them, and then new ones.
func TestCursorReplays(t *testing.T) {
	c := newCursor("a", "b")
	var replaying []bool
	for n, name := range []string{"a", "b", "c"} {
		replaying = append(replaying, c.replaying())
		s, err := c.enter(kindStep, stepKey{name: name})
		if err != nil || s.n != n || s.label() != name {
			t.Fatalf("%s: got %+v, %v", name, s, err)
		}
	}
	if want := []bool{true, true, false}; !slices.Equal(replaying, want) {
		t.Errorf("replaying: got %v, want %v", replaying, want)
	}
	if s := c.missed(); s != nil {
		t.Errorf("missed %s", s.label())
	}
	if !c.passed("a") || !c.passed("c") || c.passed("d") {
		t.Error("the steps that the body has passed are a, b and c")
	}
}

// A body that comes to another step than is recorded does not move the cursor.
func TestCursorMismatch(t *testing.T) {
	for name, come := range map[string]struct {
		kind string
		key  stepKey
	}{
		"another name": {kindStep, stepKey{name: "b"}},
		"another key":  {kindStep, stepKey{"a", "k"}},
		"another kind": {kindPoll, stepKey{name: "a"}},
	} {
		c := newCursor("a")
		_, err := c.enter(come.kind, come.key)
		mismatch, ok := errors.AsType[*mismatchError](err)
		if !ok || mismatch.recorded != c.steps[0] || !strings.Contains(err.Error(), `the journal has step "a" as step 1`) {
			t.Errorf("%s: got %v", name, err)
		}
		if s := c.missed(); s == nil || s.label() != "a" {
			t.Errorf("%s: missed %v, want a", name, s)
		}
	}
}

func TestCursorRefuses(t *testing.T) {
	c := newCursor()
	if _, err := c.enter(kindStep, stepKey{"a", "k"}); err != nil {
		t.Fatal(err)
	}
	for want, k := range map[string]stepKey{
		`step "a[k]" comes twice in this run`: {"a", "k"},
		"is not named in UTF-8":               {name: "\xff"},
	} {
		if _, err := c.enter(kindPoll, k); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Once the outcome is recorded the body gets what has ended, and nothing new starts.
func TestCursorEnding(t *testing.T) {
	c := newCursor("a", "b")
	c.ending = true
	if _, err := c.enter(kindStep, stepKey{name: "a"}); err != nil {
		t.Errorf("a step that is done: %v", err)
	}
	for _, name := range []string{"b", "c"} { // not ended, and new
		_, err := c.enter(kindStep, stepKey{name: name})
		if out, ok := errors.AsType[*control](err); !ok || out.outcome.Status != journal.Skipped {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if !c.replaying() || c.purpose() != journal.ToEnd || len(c.steps) != 2 {
		t.Errorf("got %+v", c)
	}
}

// A value that is too large is refused in each process, with the line of the call.
func TestCursorBounds(t *testing.T) {
	c := newCursor()
	c.place = &problem.Place{File: "p.lua", Line: 7}
	large := journal.Recorded{Data: make([]byte, journal.MostValue+1)}
	for _, isNew := range []bool{true, false} {
		e, ok := errors.AsType[*problem.Error](c.start("ctx:record", large, isNew))
		if !ok || e.Code != problem.TooLarge || e.Place != c.place {
			t.Errorf("new %v: got %+v", isNew, e)
		}
	}
}

func TestCursorSetBack(t *testing.T) {
	c := newCursor("a", "b")
	was := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	c.steps[0].deadline, c.steps[1].deadline = was, was
	c.setBack(time.Hour)
	if a, b := c.steps[0].deadline, c.steps[1].deadline; !a.Equal(was) || !b.Equal(was.Add(-time.Hour)) {
		t.Errorf("got %s for a step that is done, %s for one that runs", a, b)
	}
}

func TestCursorDeferred(t *testing.T) {
	c := newCursor("a")
	s := c.deferred(2)
	if s != c.deferred(2) || s.n != firstDefer+2 || s == c.deferred(3) || len(c.steps) != 1 {
		t.Errorf("got %+v", s)
	}
}

package run

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/problem"
)

// newUndoStack owes these undos. Each attempt at one is noted, and answered by fail.
func newUndoStack(m *memory, fail func(fn string) error, fns ...string) (st *undoStack, attempts *[]string) {
	attempts = &[]string{}
	rec := newRecorder(m)
	clock := rec.clock.(*clockwork.FakeClock)
	st = &undoStack{
		rec: rec, clock: clock, log: silent(), jitter: func() float64 { return 0.5 }, trace: func(Point, string) {}, redacted: problem.From,
		once: func(_ context.Context, u *undo) error {
			*attempts = append(*attempts, u.fn)
			return fail(u.fn)
		},
		wait: func(_ context.Context, d time.Duration) error {
			clock.Advance(d)
			return nil
		},
	}
	for n, fn := range fns {
		st.push(&undo{n: n, fn: fn, effect: &effect{fn: fn}})
	}
	return st, attempts
}

func TestUndoStackRunsLastFirst(t *testing.T) {
	m := &memory{}
	st, attempts := newUndoStack(m, func(string) error { return nil }, "a", "b", "c")
	for range 2 { // the second time nothing is owed
		if err := st.run(t.Context(), func(u *undo) bool { return u.fn != "b" }); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"c", "a"}; !slices.Equal(*attempts, want) || !st.pending() {
		t.Errorf("got %v, want %v; pending %v", *attempts, want, st.pending())
	}
	if err := st.run(t.Context(), anyUndo); err != nil || st.pending() {
		t.Errorf("got %v, pending %v", err, st.pending())
	}
	if want := []string{"undo_done", "undo_done", "undo_done"}; !slices.Equal(m.types(), want) {
		t.Errorf("journaled %v, want %v", m.types(), want)
	}
}

// A failed undo is retried, then kept; those below it run all the same.
func TestUndoStackKeeps(t *testing.T) {
	for name, c := range map[string]struct {
		kind     problem.Kind
		attempts []string
	}{
		"waiting may fix it":    {problem.Unavailable, []string{"b", "b", "b", "a"}},
		"waiting cannot fix it": {problem.Refused, []string{"b", "a"}},
	} {
		m := &memory{}
		st, attempts := newUndoStack(m, func(fn string) error {
			if fn == "b" {
				return &problem.Error{Kind: c.kind, Message: "no"}
			}
			return nil
		}, "a", "b")
		if err := st.run(t.Context(), anyUndo); err != nil || !slices.Equal(*attempts, c.attempts) {
			t.Errorf("%s: got %v, %v, want %v", name, *attempts, err, c.attempts)
		}
		if want := []string{"undo_failed", "undo_done"}; !slices.Equal(m.types(), want) || !st.pending() {
			t.Errorf("%s: journaled %v, want %v; pending %v", name, m.types(), want, st.pending())
		}
	}
}

// What ends the process ends the clean-up, and the undo is still owed.
func TestUndoStackStops(t *testing.T) {
	m := &memory{}
	stop := &control{stop: errors.New("interrupted")}
	st, attempts := newUndoStack(m, func(string) error { return stop }, "a", "b")
	if err := st.run(t.Context(), anyUndo); !errors.Is(err, stop) || len(*attempts) != 1 || len(m.recs) > 0 || !st.pending() {
		t.Errorf("got %v after %v; journaled %v", err, *attempts, m.types())
	}
}

// A call of which not even a part has happened leaves nothing to undo.
func TestUndoStackVoid(t *testing.T) {
	st, attempts := newUndoStack(&memory{}, func(string) error { return nil }, "a", "b")
	st.void(st.undos[1].effect)
	if err := st.run(t.Context(), anyUndo); err != nil || !slices.Equal(*attempts, []string{"a"}) {
		t.Errorf("got %v, %v", *attempts, err)
	}
}

// The body claims its deferred functions in the order in which they were journaled.
func TestUndoStackUnclaimed(t *testing.T) {
	st, _ := newUndoStack(&memory{}, nil, "dns.Zone:present", deferFn, deferFn)
	if u := st.unclaimed(); u != st.undos[1] {
		t.Errorf("got %+v", u)
	}
}

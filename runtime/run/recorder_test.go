package run

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// memory is a journal in memory.
type memory struct {
	recs []journal.Record
	err  error // of the next write
}

func (m *memory) Write(_ context.Context, recs ...journal.Record) error {
	m.recs = append(m.recs, recs...)
	return m.err
}

func (m *memory) WriteLazy(ctx context.Context, recs ...journal.Record) error {
	return m.Write(ctx, recs...)
}

func (*memory) HeldBy(context.Context, []string, string) (map[string]string, error) { return nil, nil }

func (m *memory) types() []string {
	var out []string
	for _, r := range m.recs {
		out = append(out, r.Type())
	}
	return out
}

func newRecorder(m *memory) *recorder {
	h := &journal.History{Run: journal.Run{ID: "r1", Epoch: 3}}
	return &recorder{journal: m, clock: clockwork.NewFakeClock(), run: "r1", epoch: 3, quota: journal.QuotaOf(h)}
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// A journal that cannot be written stops the process, whatever a script catches.
func TestRecorderStops(t *testing.T) {
	full := errors.New("disk full")
	rec := newRecorder(&memory{err: full})
	for name, err := range map[string]error{
		"write": rec.write(t.Context(), journal.RunResumed{Stamp: rec.stamp()}),
		"lazy":  rec.lazy(t.Context(), journal.RunResumed{Stamp: rec.stamp()}),
	} {
		if !isControl(err) || !errors.Is(err, full) {
			t.Errorf("%s: got %v, want a stop because of %v", name, err, full)
		}
	}
}

func TestRecorderExceeds(t *testing.T) {
	rec := newRecorder(&memory{})
	large := journal.StepDone{Result: make([]byte, journal.MostValue+1)}
	e, whole := rec.exceeds(journal.ToBegin, "ctx:step", `step "a"`, large)
	if e == nil || whole || e.Code != problem.TooLarge || e.Call != "ctx:step" || e.Happened() != problem.NotDone {
		t.Errorf("got %+v, %v", e, whole)
	}
	if e, _ := rec.exceeds(journal.ToBegin, "ctx:step", "", journal.StepDone{Result: []byte("1")}); e != nil {
		t.Errorf("got %v for a small record", e)
	}
	if at := rec.stamp(); at.Run != "r1" || at.Epoch != 3 || at.Worked != time.Duration(0) {
		t.Errorf("got %+v", at)
	}
}

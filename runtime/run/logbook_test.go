package run

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"moonseal/runtime/account"
	"moonseal/runtime/journal"
	"moonseal/runtime/secret"
)

func newTestLogbook(t *testing.T, m *memory) (*logbook, *strings.Builder) {
	t.Helper()
	rec := newRecorder(m)
	var out strings.Builder
	redactor := &secret.Redactor{}
	redactor.Learn("s3cr3t-value")
	opt := &Options{
		History: &journal.History{}, Redactor: redactor, Account: account.Open(t.TempDir(), ""),
		Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	return newLogbook(rec, opt, newMarks(rec, nil), func() string { return "running" }), &out
}

// The line about a step goes with the step's record, under the step's name.
func TestLogbookCommitsWithStep(t *testing.T) {
	m := &memory{}
	b, out := newTestLogbook(t, m)
	s := &step{n: 4, stepKey: stepKey{"upload", "node1"}}
	if err := b.commitStep(t.Context(), s, journal.StepDone{Step: 4}, slog.LevelInfo, "done", "attempt", 2); err != nil {
		t.Fatal(err)
	}
	if want := []string{"step_done", "logged"}; !slices.Equal(m.types(), want) {
		t.Fatalf("journaled %v, want %v", m.types(), want)
	}
	line := m.recs[1].(journal.Logged)
	if line.Step != "upload[node1]" || line.Message != "done" || !strings.Contains(string(line.Fields), `"attempt":2`) {
		t.Errorf("got %+v", line)
	}
	if !strings.Contains(out.String(), "msg=done") || !strings.Contains(out.String(), "step=upload[node1]") {
		t.Errorf("the daemon's log has %q", out)
	}
	b.engine.Info("later")
	if later := m.recs[2].(journal.Logged); later.Step != "running" {
		t.Errorf("got %+v", later)
	}
}

// A line whose record is not journaled is not passed on.
func TestLogbookFailedCommit(t *testing.T) {
	m := &memory{err: journal.ErrLocked}
	b, out := newTestLogbook(t, m)
	if err := b.commitStep(t.Context(), &step{}, journal.StepDone{}, slog.LevelInfo, "done"); !isControl(err) || out.Len() > 0 {
		t.Errorf("got %v; the daemon's log has %q", err, out)
	}
}

func TestLogbookRedacts(t *testing.T) {
	m := &memory{}
	b, out := newTestLogbook(t, m)
	b.script.Info("sent s3cr3t-value", "to", "s3cr3t-value")
	line := m.recs[0].(journal.Logged)
	if all := line.Message + string(line.Fields) + out.String(); strings.Contains(all, "s3cr3t") {
		t.Errorf("got %q", all)
	}
}

// Scripts and modules have a bound; the engine's lines pass all the same.
func TestLogbookBounds(t *testing.T) {
	m := &memory{}
	b, _ := newTestLogbook(t, m)
	b.used.Lines = MostLogLines - 1
	for range 3 {
		b.script.Info("x")
	}
	b.engine.Info("y")
	b.logDropped()
	b.logDropped() // once
	var got []string
	for _, r := range m.recs {
		got = append(got, r.(journal.Logged).Message)
	}
	if want := []string{"x", "y", "2 lines dropped"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A script's line is cut, and cannot pass for the engine's.
func TestLogbookScriptLine(t *testing.T) {
	m := &memory{}
	b, _ := newTestLogbook(t, m)
	b.script.Info(strings.Repeat("x", mostLine+1), EventKey, EventStep)
	line := m.recs[0].(journal.Logged)
	if !strings.HasSuffix(line.Message, "… 1 bytes more") || strings.Contains(string(line.Fields), EventKey) {
		t.Errorf("got %d bytes with the fields %s", len(line.Message), line.Fields)
	}
}

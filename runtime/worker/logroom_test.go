package worker

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/run"
)

// A child that does not keep the bounds of its run's log loses the lines beyond them,
// which its parent logs once; all else is written.
func TestParentBoundsTheLog(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	event := json.RawMessage(`{"` + journal.EventField + `":"step"}`)
	for name, tt := range map[string]struct {
		line  journal.Logged
		lines int // that it writes
		kept  int
	}{
		"many":            {journal.Logged{Message: "x"}, mostLogLines + 50, mostLogLines},
		"long":            {journal.Logged{Message: strings.Repeat("x", mostLogLine+1)}, 3, 0},
		"much":            {journal.Logged{Message: strings.Repeat("x", 100_000)}, 120, mostLogBytes / (100_000 + len("info"))},
		"much, as events": {journal.Logged{Message: strings.Repeat("x", 100_000), Fields: event}, 350, mostEventBytes / (100_000 + len("info") + len(event))},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCaptive(t, script(func(c *conn) {
				_ = c.send(loadedAs("p"))
				h := started(c)
				if h == nil {
					return
				}
				s := journal.Stamp{Run: h.Run.ID, Epoch: h.Run.Epoch, At: time.Now()}
				line := tt.line
				line.Stamp, line.Level = s, "info"
				w := &writing{}
				flush := func() {
					_ = c.send(&frame{Write: w})
					w = &writing{}
				}
				for range tt.lines {
					if w.Lazy = append(w.Lazy, line); len(w.Lazy)*len(line.Message) > 1<<20 || len(w.Lazy) == 1000 {
						flush()
					}
				}
				flush()
				// Synced ones are answered, whatever becomes of them.
				_ = c.send(&frame{Seq: 1, Write: &writing{Synced: []journal.Record{line}}})
				if f, err := c.receive(); err != nil || f.Answer == nil || f.Answer.Error != nil {
					t.Errorf("%+v, %v", f, err)
				}
				_ = c.send(&frame{Seq: 2, Write: &writing{Synced: []journal.Record{line, journal.RunEnded{Stamp: s, Outcome: journal.Done}}}})
				if f, err := c.receive(); err != nil || f.Answer == nil || f.Answer.Error != nil {
					t.Errorf("%+v, %v", f, err)
				}
				_ = c.send(&frame{Result: &Result{Outcome: &run.Outcome{Status: journal.Done}}})
			}))
			var id string
			out, err := c.Begin(t.Context(), c.job(), Ask{}, func(run string) { id = run })
			if err != nil || out.Status != journal.Done {
				t.Fatalf("%+v, %v", out, err)
			}
			logs, err := c.journal.Logs(t.Context(), id, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			warned := 0
			for _, l := range logs {
				if strings.Contains(l.Message, "lines dropped") {
					if warned++; l.Message != fmt.Sprintf("%d lines dropped", tt.lines+2-tt.kept) || l.Level != "warn" {
						t.Errorf("%+v", l)
					}
				}
			}
			if len(logs) != tt.kept+1 || warned != 1 {
				t.Errorf("%d lines, %d of them say that some were dropped; want %d", len(logs), warned, tt.kept+1)
			}
			h, _, _ := c.history(id)
			if h.Run.Status != journal.Done {
				t.Errorf("%+v", h.Run)
			}
		})
	}
}

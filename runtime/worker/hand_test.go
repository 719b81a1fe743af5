package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/run"
)

func text(n int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("x", n-2) + `"`) }

// A history of any length comes in small frames, and is what the journal has.
func TestHistoryComesInPieces(t *testing.T) {
	var got *journal.History
	frames, longest := 0, 0
	c := newCaptive(t, script(func(c *conn) {
		_ = c.send(loadedAs("p"))
		for history := (journal.Collector{}); ; {
			f, err := c.receive()
			if err != nil || f.Piece == nil {
				return
			}
			frames++
			longest = max(longest, len(f.Piece.Bytes))
			if err := history.Add(f.Piece.Bytes); err != nil {
				t.Error(err)
			}
			if f.Piece.Last {
				got, _ = history.History()
				break
			}
		}
		_ = c.send(&frame{Result: &Result{Outcome: &run.Outcome{Status: journal.Waiting}}})
	}))
	steps, fewest := 20, 1000
	if raceDetector { // it takes minutes over so many bytes
		steps, fewest = 2, 100
	}
	s := c.grown(steps, 3_900_000) // of an older version
	out, err := c.Resume(t.Context(), c.job(), s.Run)
	if err != nil || out.Status != journal.Waiting {
		t.Fatalf("%+v, %v", out, err)
	}
	want, _, _ := c.history(s.Run)
	for i := range want.Undos {
		want.Undos[i].Look, want.Undos[i].Progress, want.Undos[i].Result = nil, nil, nil
	}
	a, errA := json.Marshal(got)
	b, errB := json.Marshal(want)
	if err := errors.Join(errA, errB); err != nil || !bytes.Equal(a, b) || len(want.Steps) != steps+1 {
		t.Errorf("%v: it got %d bytes, and %d steps; the journal has %d bytes", err, len(a), len(got.Steps), len(b))
	}
	if longest > maxPiece || frames < fewest {
		t.Errorf("%d frames of at most %d bytes", frames, longest)
	}
}

// grown is a run of an older version, whose steps have long results and which has
// something to clean up.
func (c *captive) grown(steps, size int) journal.Stamp {
	c.t.Helper()
	ctx := c.t.Context()
	created, err := c.Control.Begin(ctx, control.Beginning{Playbook: "p", Bundle: "h-p", Sources: []journal.Source{{Path: "p.lua", Body: []byte("x")}}})
	if err != nil {
		c.t.Fatal(err)
	}
	s := journal.Stamp{Run: created.Run.ID, Epoch: created.Run.Epoch, At: time.Now()}
	recs := []journal.Record{
		journal.RunResumed{Stamp: s},
		journal.StepStarted{Stamp: s, Kind: "step", Name: "making", Attempt: 1},
		journal.EffectMarked{Stamp: s, Fn: "f", Args: json.RawMessage(`{"a":"<&>"}`), Look: json.RawMessage("1"), Undo: &journal.UndoSpec{Fn: "f", Args: json.RawMessage("1")}},
		journal.EffectDone{Stamp: s, Result: json.RawMessage("2")},
		journal.StepDone{Stamp: s, Result: json.RawMessage("3")},
	}
	for i := range steps {
		recs = append(recs, journal.StepStarted{Stamp: s, Step: i + 1, Kind: "step", Name: "reading", Key: fmt.Sprint(i), Attempt: 1},
			journal.StepDone{Stamp: s, Step: i + 1, Result: text(size)})
	}
	if err := c.journal.Write(ctx, recs...); err != nil {
		c.t.Fatal(err)
	}
	return s
}

// A child that breaks the bounds of what a run journals has died: its parent does not
// trust it to keep them.
func TestOversizedRecordsAreADeath(t *testing.T) {
	one := func(rec func(journal.Stamp) journal.Record) func(journal.Stamp) []journal.Record {
		return func(s journal.Stamp) []journal.Record { return []journal.Record{rec(s)} }
	}
	for name, tt := range map[string]struct {
		recs func(journal.Stamp) []journal.Record
		why  string
	}{
		"a result": {one(func(s journal.Stamp) journal.Record {
			return journal.StepDone{Stamp: s, Result: text(journal.MostValue + 1)}
		}), "(step_done: the result has 1048577 bytes, more than 1048576)"},
		"arguments": {one(func(s journal.Stamp) journal.Record {
			return journal.EffectMarked{Stamp: s, Fn: "f", Args: text(journal.MostValue)}
		}), "(effect_marked: the call with its arguments has 1048577 bytes, more than 1048576)"},
		"a name": {one(func(s journal.Stamp) journal.Record {
			return journal.StepStarted{Stamp: s, Step: 1, Kind: "step", Name: strings.Repeat("n", journal.MostName), Attempt: 1}
		}), "(step_started: the step's name with its key has 4100 bytes, more than 4096)"},
		"many records": {func(s journal.Stamp) (recs []journal.Record) {
			for i := range 50 {
				recs = append(recs, journal.Recorded{Stamp: s, Seq: i, Data: text(journal.MostValue)})
			}
			return recs
		}, "(recorded: the run's history has 4"},
	} {
		for _, lazy := range []bool{false, true} {
			if name == "many records" && (lazy || raceDetector) {
				continue // it takes long, and is counted alike
			}
			t.Run(fmt.Sprintf("%s, lazy %t", name, lazy), func(t *testing.T) {
				c := newCaptive(t, script(func(c *conn) {
					_ = c.send(loadedAs("p"))
					h := started(c)
					if h == nil {
						return
					}
					s := journal.Stamp{Run: h.Run.ID, Epoch: h.Run.Epoch, At: time.Now()}
					_ = c.send(&frame{Write: &writing{Lazy: []journal.Record{journal.StepStarted{Stamp: s, Kind: "step", Name: "one", Attempt: 1}}}})
					for _, rec := range tt.recs(s) {
						w := &writing{Synced: []journal.Record{rec}}
						if lazy {
							w = &writing{Lazy: []journal.Record{rec}}
						}
						if c.send(&frame{Write: w}) != nil {
							return
						}
						if !lazy {
							if _, err := c.receive(); err != nil {
								return
							}
						}
					}
				}))
				var id string
				out, err := c.Begin(t.Context(), c.job(), Ask{}, func(run string) { id = run })
				if err != nil || out.Status != journal.Parked || !strings.Contains(out.Reason, "it sent a record that breaks a bound "+tt.why) {
					t.Fatalf("%+v, %v", out, err)
				}
				h, _, all := c.history(id)
				if h.Run.Deaths != MaxDeaths || len(all) > 41<<20 {
					t.Errorf("%d deaths, %d bytes", h.Run.Deaths, len(all))
				}
			})
		}
	}
}

// What a child sends at once is bounded too.
func TestOversizedFrameIsADeath(t *testing.T) {
	c := newCaptive(t, script(func(c *conn) {
		_ = c.send(loadedAs("p"))
		if started(c) != nil {
			_, _ = c.rw.Write([]byte("\x00\x80\x00\x01w"))
		}
	}))
	out, err := c.Begin(t.Context(), c.job(), Ask{}, nil)
	if err != nil || out.Status != journal.Parked || !strings.Contains(out.Reason, "it "+malformed) {
		t.Errorf("%+v, %v", out, err)
	}
}

// deaf is a pair whose other side reads nothing until the deadline.
type deaf struct{ net.Conn }

func (deaf) Write([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

// A child that does not read its history is killed, and has died.
func TestHistoryIsNotRead(t *testing.T) {
	c := newCaptive(t, nil)
	stamp := c.grown(3, 500_000)
	near, far := net.Pipe()
	p := &puppet{near: near, far: far, ended: make(chan struct{})}
	close(p.ended)
	s := &session{parent: c.Parent, proc: p, conn: newConn(deaf{near}), step: -1}
	died, ok := errors.AsType[*deathError](s.sendHistory(t.Context(), stamp.Run))
	if !ok || !strings.Contains(died.how, "has not read its run's history within 1m0s") || !p.killed {
		t.Errorf("%+v", died)
	}
}

package worker

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// Bytes that are not a message are the child's death, at once.
func TestMalformedMessageIsADeath(t *testing.T) {
	for name, body := range map[string]string{
		"no length": "\xff\xff\xff\xff", "empty": "\x00\x00\x00\x00", "no form": "\x00\x00\x00\x02?!", "half JSON": "\x00\x00\x00\x02j{",
		"records that are none": "\x00\x00\x00\x05w\x01\x00\xff\xff", "null": "\x00\x00\x00\x05jnull",
	} {
		t.Run(name, func(t *testing.T) {
			c := newCaptive(t, script(func(c *conn) {
				_ = c.send(loadedAs("p"))
				if started(c) == nil {
					return
				}
				_, _ = c.rw.Write([]byte(body))
				if name == "null" { // it is empty, and the child sends nothing more
					_ = c.rw.Close()
				}
			}))
			var id string
			out, err := c.Begin(t.Context(), c.job(), Ask{}, func(run string) { id = run })
			if err != nil || out.Status != journal.Parked || name != "null" && !strings.Contains(out.Reason, "it sent a message that no such process sends") {
				t.Fatalf("%+v, %v", out, err)
			}
			if h, _, _ := c.history(id); h.Run.Deaths != MaxDeaths {
				t.Errorf("%+v", h.Run)
			}
		})
	}
}

// FuzzSession lets a child send anything, while it loads and when it runs: its parent
// comes to an end with it, and no other run is touched.
func FuzzSession(f *testing.F) {
	c := newCaptive(f, nil)
	c.Clock = clockwork.NewFakeClock()
	victim := c.victim()
	_, _, before := c.history(victim.Run)
	own := journal.Stamp{Run: "0123456789", Epoch: 1, At: time.Unix(1700000000, 0).UTC()}
	seeds := append(someFrames(), loadedAs("p"), &frame{Loaded: &Loaded{}},
		&frame{Result: &Result{}}, &frame{Result: &Result{Outcome: &run.Outcome{Status: journal.Done}}}, &frame{Result: &Result{Error: &problem.Error{}}},
		&frame{Seq: 1, Held: &heldBy{Values: []string{"a"}}},
		&frame{Write: &writing{Lazy: []journal.Record{journal.Logged{Stamp: victim}}}},
		&frame{Seq: 2, Write: &writing{Synced: []journal.Record{journal.StepDone{Stamp: own, Step: 7, Result: json.RawMessage("1")}}}},
	)
	var all []byte
	for _, fr := range seeds {
		body, err := fr.append(nil)
		if err != nil {
			f.Fatal(err)
		}
		framed := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
		f.Add(framed)
		all = append(all, framed...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, loading := range []bool{true, false} {
			near, far := net.Pipe()
			p := &puppet{near: near, far: far, ended: make(chan struct{})}
			go func() {
				defer close(p.ended)
				defer func() { _ = far.Close() }()
				heard := make(chan struct{})
				go func() { // the answers
					defer close(heard)
					for buf := make([]byte, 512); ; {
						if _, err := far.Read(buf); err != nil {
							return
						}
					}
				}()
				_, _ = far.Write(b)
				_ = far.Close()
				<-heard
			}()
			s := &session{parent: c.Parent, proc: p, conn: newConn(near), playbook: "p", step: -1}
			ctx, cancel := context.WithCancel(t.Context())
			if loading {
				loaded, err := s.loaded(ctx)
				if err == nil && (len(loaded.Playbooks) != 1 || loaded.Playbooks[0] == nil) {
					t.Errorf("%+v", loaded)
				}
			} else {
				s.run = own.Run
				if out, err := s.result(ctx); err == nil && out == nil {
					t.Error("neither an outcome nor an error")
				}
			}
			_ = s.end(nil)
			cancel()
		}
		if _, _, now := (&captive{c.Parent, t, c.journal}).history(victim.Run); now != before {
			t.Errorf("the other run was\n%s\nand is\n%s", before, now)
		}
	})
}

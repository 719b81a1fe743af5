package worker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/bundle"
	"moonseal/runtime/control"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/secret"
)

// script plays a child that was taken over: it has got its job, and sends what it likes.
type script func(c *conn)

// Start implements [Spawner].
func (s script) Start(_ context.Context, lock *journal.RunLock) (Process, error) {
	near, far := net.Pipe()
	p := &puppet{near: near, far: far, lock: lock, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		defer func() { _ = far.Close() }()
		c := newConn(far)
		if f, err := c.receive(); err != nil || f.Job == nil {
			return
		}
		s(c)
		_ = far.SetReadDeadline(time.Now().Add(5 * time.Second)) // a parent that took it all is waiting
		for {
			if _, err := c.receive(); err != nil {
				return
			}
		}
	}()
	return p, nil
}

// puppet is a child that is not a process.
type puppet struct {
	near, far net.Conn
	lock      *journal.RunLock
	ended     chan struct{}

	mu     sync.Mutex
	killed bool
}

func (p *puppet) Pair() Pair { return p.near }

func (p *puppet) Kill() {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	_ = p.far.Close()
}

func (p *puppet) Wait() string {
	<-p.ended
	if p.lock != nil {
		_ = p.lock.Release()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed {
		return "signal: killed"
	}
	return ""
}

func loadedAs(name string) *frame {
	return &frame{Loaded: &Loaded{Playbooks: []*bundle.Playbook{{Name: name, File: name + ".lua", Hash: "h-" + name, Needs: []string{name + ".lua"}}}}}
}

// started returns the history that starts the run, or nil.
func started(c *conn) *journal.History {
	for history := (journal.Collector{}); ; {
		f, err := c.receive()
		if err != nil || f.Piece == nil || history.Add(f.Piece.Bytes) != nil {
			return nil
		}
		if f.Piece.Last {
			h, _ := history.History()
			return h
		}
	}
}

// captive is a parent whose children are scripts of a test.
type captive struct {
	*Parent

	t       testing.TB
	journal *journal.Journal
}

func newCaptive(t testing.TB, s Spawner) *captive {
	t.Helper()
	j, err := journal.Open(t.Context(), t.TempDir(), journal.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	clock := clockwork.NewRealClock()
	return &captive{Parent: &Parent{Journal: j, Control: control.New(j, clock), Spawner: s, Secrets: secret.Map{}, Redactor: &secret.Redactor{}, Clock: clock}, t: t, journal: j}
}

func (c *captive) job() Job {
	return Job{Playbook: "p", Files: map[string]string{"p.lua": "x"}, State: c.journal.Dir()}
}

// history is a run with its log, as text.
func (c *captive) history(id string) (*journal.History, []journal.Log, string) {
	c.t.Helper()
	h, err := c.journal.History(c.t.Context(), id)
	logs, err2 := c.journal.Logs(c.t.Context(), id, 0, 0)
	text, err3 := json.Marshal([]any{h, logs})
	if err := errors.Join(err, err2, err3); err != nil {
		c.t.Fatal(err)
	}
	return h, logs, string(text)
}

// A child that writes what only its parent may, or about another run, has died: nothing
// of that frame is written, nor of what it sends afterwards.
func TestForgedRecordsAreADeath(t *testing.T) {
	const forgery = "forged"
	own := func(s, _ journal.Stamp) journal.Stamp { return s }
	other := func(_, victim journal.Stamp) journal.Stamp { return victim }
	for name, tt := range map[string]struct {
		stamp func(own, victim journal.Stamp) journal.Stamp
		rec   func(journal.Stamp) journal.Record
	}{
		"another run's log":    {other, func(s journal.Stamp) journal.Record { return journal.Logged{Stamp: s, Message: forgery} }},
		"another run's end":    {other, func(s journal.Stamp) journal.Record { return journal.RunEnded{Stamp: s, Outcome: journal.Done} }},
		"another run's effect": {other, func(s journal.Stamp) journal.Record { return journal.EffectNotDone{Stamp: s, VoidUndo: true} }},
		"a decision": {own, func(s journal.Stamp) journal.Record {
			return journal.Decided{Stamp: s, What: journal.DecidedApprove, By: forgery}
		}},
		"a decision about another": {other, func(s journal.Stamp) journal.Record {
			return journal.Decided{Stamp: s, What: journal.DecidedResume, By: forgery}
		}},
		"a decision about all": {func(_, _ journal.Stamp) journal.Stamp { return journal.Stamp{At: time.Now()} }, func(s journal.Stamp) journal.Record {
			return journal.Decided{Stamp: s, What: journal.DecidedPause, By: forgery}
		}},
		"a new run": {func(s, _ journal.Stamp) journal.Stamp { s.Run = "0123456789"; return s }, func(s journal.Stamp) journal.Record {
			return journal.RunCreated{Stamp: s, Playbook: forgery, Bundle: "h-p"}
		}},
		"its own run again": {own, func(s journal.Stamp) journal.Record {
			return journal.RunCreated{Stamp: s, Playbook: forgery, Bundle: "h-p"}
		}},
		"a death":                {own, func(s journal.Stamp) journal.Record { return journal.RunDied{Stamp: s, Step: 0} }},
		"an undo that is forgot": {own, func(s journal.Stamp) journal.Record { return journal.UndoForgotten{Stamp: s} }},
	} {
		for _, lazy := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", lazy", false: ""}[lazy], func(t *testing.T) {
				forgedIsADeath(t, lazy, tt.stamp, tt.rec)
			})
		}
	}
}

func forgedIsADeath(t *testing.T, lazy bool, stamp func(own, victim journal.Stamp) journal.Stamp, rec func(journal.Stamp) journal.Record) {
	t.Helper()
	var victim journal.Stamp
	c := newCaptive(t, script(func(c *conn) {
		_ = c.send(loadedAs("p"))
		h := started(c)
		if h == nil {
			return
		}
		r := h.Run
		s := journal.Stamp{Run: r.ID, Epoch: r.Epoch, At: time.Now()}
		// Some honest work first, and some in the frame that is forged.
		_ = c.send(&frame{Seq: 1, Write: &writing{
			Lazy:   []journal.Record{journal.StepStarted{Stamp: s, Kind: "step", Name: "one", Attempt: 1}},
			Synced: []journal.Record{journal.Logged{Stamp: s, Message: "honest"}},
		}})
		if f, err := c.receive(); err != nil || f.Answer == nil || f.Answer.Error != nil {
			return
		}
		beside := journal.Logged{Stamp: s, Message: "beside it"}
		w := &writing{Synced: []journal.Record{beside, rec(stamp(s, victim))}}
		if lazy {
			w = &writing{Lazy: []journal.Record{beside, rec(stamp(s, victim))}}
		}
		_ = c.send(&frame{Seq: 2, Write: w})
		_ = c.send(&frame{Seq: 3, Write: &writing{Synced: []journal.Record{journal.Logged{Stamp: s, Message: "after it"}}}})
	}))
	victim = c.victim()
	_, _, before := c.history(victim.Run)
	var id string
	out, err := c.Begin(t.Context(), c.job(), Ask{}, func(run string) { id = run })
	if err != nil || out.Status != journal.Parked || !strings.Contains(out.Reason, "died in step one: it sent a message that no such process sends") {
		t.Fatalf("%+v, %v", out, err)
	}
	if _, _, now := c.history(victim.Run); now != before {
		t.Errorf("the other run was\n%s\nand is\n%s", before, now)
	}
	h, logs, _ := c.history(id)
	if h.Run.Playbook != "p" || h.Run.Deaths != MaxDeaths || h.Steps[0].Deaths != MaxDeaths || len(h.Undos)+len(h.Effects) > 0 {
		t.Errorf("%+v", h)
	}
	honest := 0
	for _, l := range logs {
		switch l.Message {
		case "honest":
			honest++
		case "beside it", "after it", "forged":
			t.Errorf("it was written: %+v", l)
		}
	}
	if honest != MaxDeaths {
		t.Errorf("%d honest lines of %d processes", honest, MaxDeaths)
	}
	decisions, err := c.journal.Decisions(t.Context(), "")
	if err != nil || len(decisions) > 0 {
		t.Errorf("decisions: %+v, %v", decisions, err)
	}
	if runs, err := c.journal.Runs(t.Context(), journal.Filter{}); err != nil || len(runs) != 2 {
		t.Errorf("%d runs, %v", len(runs), err)
	}
}

// victim is another run, which is at work.
func (c *captive) victim() journal.Stamp {
	c.t.Helper()
	ctx := c.t.Context()
	created, err := c.Control.Begin(ctx, control.Beginning{Playbook: "victim", Bundle: "v"})
	if err != nil {
		c.t.Fatal(err)
	}
	s := journal.Stamp{Run: created.Run.ID, Epoch: created.Run.Epoch, At: time.Now()}
	if err := c.journal.Write(ctx, journal.RunResumed{Stamp: s}, journal.StepStarted{Stamp: s, Kind: "step", Name: "a", Attempt: 1},
		journal.EffectMarked{Stamp: s, Fn: "f", Undo: &journal.UndoSpec{Fn: "g"}}); err != nil {
		c.t.Fatal(err)
	}
	return s
}

// Before its run begins a child writes nothing at all.
func TestNoRecordsBeforeTheRun(t *testing.T) {
	var victim journal.Stamp
	c := newCaptive(t, script(func(c *conn) {
		_ = c.send(&frame{Seq: 1, Write: &writing{Synced: []journal.Record{journal.Logged{Stamp: victim, Message: "forged"}}}})
		_ = c.send(&frame{Loaded: &Loaded{}})
		_ = c.send(&frame{Seq: 2, Write: &writing{Lazy: []journal.Record{journal.Logged{Stamp: victim, Message: "forged"}}}})
	}))
	victim = c.victim()
	_, _, before := c.history(victim.Run)
	for name, do := range map[string]func() error{
		"load":    func() error { _, err := c.Load(t.Context(), Job{}); return err },
		"examine": func() error { _, err := c.Examine(t.Context(), c.job()); return err },
	} {
		if err := do(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, _, now := c.history(victim.Run); now != before {
		t.Errorf("the other run was\n%s\nand is\n%s", before, now)
	}
}

// A child that reports to have loaded nothing, or another playbook, has died: no run is
// created from its report.
func TestForgedLoadIsADeath(t *testing.T) {
	for name, f := range map[string]*frame{
		"nothing":          {Loaded: &Loaded{}},
		"null":             {Loaded: &Loaded{Playbooks: []*bundle.Playbook{nil}}},
		"another playbook": loadedAs("victim"),
		"two":              {Loaded: &Loaded{Playbooks: []*bundle.Playbook{{Name: "p"}, {Name: "victim"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCaptive(t, script(func(c *conn) { _ = c.send(f) }))
			out, err := c.Begin(t.Context(), c.job(), Ask{}, nil)
			if _, died := errors.AsType[*deathError](err); !died {
				t.Errorf("%+v, %v", out, err)
			}
			if runs, err := c.journal.Runs(t.Context(), journal.Filter{}); err != nil || len(runs) > 0 {
				t.Errorf("%+v, %v", runs, err)
			}
			// A run that is resumed.
			created, err := c.Control.Begin(t.Context(), control.Beginning{Playbook: "p", Bundle: "h"})
			if err != nil {
				t.Fatal(err)
			}
			if out, err := c.Resume(t.Context(), c.job(), created.Run.ID); err != nil || out.Status != journal.Parked {
				t.Errorf("resumed: %+v, %v", out, err)
			}
			if h, _, _ := c.history(created.Run.ID); h.Run.Deaths != MaxDeaths {
				t.Errorf("%+v", h.Run)
			}
		})
	}
	for name, f := range map[string]*frame{
		"a playbook": {Loaded: &Loaded{Playbooks: []*bundle.Playbook{nil}}}, "a problem": {Loaded: &Loaded{Problems: []*problem.Error{nil}}},
	} {
		c := newCaptive(t, script(func(c *conn) { _ = c.send(f); _ = c.send(&frame{Result: &Result{}}) }))
		if l, err := c.Load(t.Context(), Job{}); err == nil {
			t.Errorf("%s that is null: %+v", name, l)
		}
	}
}

// So has one whose result is empty.
func TestEmptyResultIsADeath(t *testing.T) {
	for name, r := range map[string]*Result{"empty": {}, "no run": {Findings: nil}} {
		c := newCaptive(t, script(func(c *conn) {
			_ = c.send(loadedAs("p"))
			if started(c) != nil {
				_ = c.send(&frame{Result: r})
			}
		}))
		var id string
		out, err := c.Begin(t.Context(), c.job(), Ask{}, func(run string) { id = run })
		if err != nil || out.Status != journal.Parked {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
		if h, _, _ := c.history(id); h.Run.Deaths != MaxDeaths {
			t.Errorf("%s: %+v", name, h.Run)
		}
	}
}

// Of two callers that resume one run at once, one waits for the other: its process would end
// the other's.
func TestOneOwnerPerRun(t *testing.T) {
	at, release := make(chan struct{}, 9), make(chan struct{})
	c := newCaptive(t, script(func(c *conn) {
		_ = c.send(loadedAs("p"))
		if started(c) == nil {
			return
		}
		at <- struct{}{}
		<-release
		_ = c.send(&frame{Result: &Result{Outcome: &run.Outcome{Status: journal.Done}}})
	}))
	created, err := c.Control.Begin(t.Context(), control.Beginning{Playbook: "p", Bundle: "h"})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	resume := func(p *Parent) {
		job := c.job()
		job.Mode = run.Cleanup
		_, err := p.Resume(t.Context(), job, created.Run.ID)
		ended <- err
	}
	go resume(c.Parent)
	<-at
	brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Resume(brief, c.job(), created.Run.ID); !errors.Is(err, context.DeadlineExceeded) || len(at) > 0 { // it does not come to the run's lock
		t.Errorf("while another works on it: %v, %d processes more", err, len(at))
	}
	go resume(c.With(c.Spawner, c.Secrets)) // after a change of the config
	close(release)
	if err := errors.Join(<-ended, <-ended); err != nil {
		t.Error(err)
	}
	if h, _, _ := c.history(created.Run.ID); h.Run.Deaths != 0 || len(at) != 1 {
		t.Errorf("%+v; %d processes more", h.Run, len(at))
	}
}

// The child of an honest script ends as it reports.
func TestHonestPuppet(t *testing.T) {
	c := newCaptive(t, script(func(c *conn) {
		_ = c.send(loadedAs("p"))
		h := started(c)
		if h == nil {
			return
		}
		r := h.Run
		_ = c.send(&frame{Seq: 1, Write: &writing{Synced: []journal.Record{journal.RunEnded{Stamp: journal.Stamp{Run: r.ID, Epoch: r.Epoch, At: time.Now()}, Outcome: journal.Done}}}})
		if _, err := c.receive(); err == nil {
			_ = c.send(&frame{Result: &Result{Outcome: &run.Outcome{Status: journal.Done}}})
		}
	}))
	if out, err := c.Begin(t.Context(), c.job(), Ask{}, nil); err != nil || out.Status != journal.Done {
		t.Errorf("%+v, %v", out, err)
	}
}

// What an undo may reach is what its playbook was granted when the change was made,
// whatever the child sends.
func TestForgedGrantOfAnUndo(t *testing.T) {
	c := newCaptive(t, script(func(c *conn) {
		_ = c.send(loadedAs("p"))
		h := started(c)
		if h == nil {
			return
		}
		s := journal.Stamp{Run: h.Run.ID, Epoch: h.Run.Epoch, At: time.Now()}
		_ = c.send(&frame{Seq: 1, Write: &writing{Synced: []journal.Record{
			journal.StepStarted{Stamp: s, Kind: "step", Name: "one", Attempt: 1},
			journal.EffectMarked{Stamp: s, Fn: "f", Undo: &journal.UndoSpec{Fn: "f", Granted: json.RawMessage("null")}},
			journal.UndoAdded{Stamp: s, Step: -1, Undo: journal.UndoSpec{N: 1, Fn: "g", Granted: json.RawMessage("null")}},
		}}})
	}))
	job := c.job()
	job.Grants = grant.Rules{"p": {Secrets: []string{"MINE"}}}
	var id string
	if _, err := c.Begin(t.Context(), job, Ask{}, func(run string) { id = run }); err != nil {
		t.Fatal(err)
	}
	h, _, _ := c.history(id)
	if got := string(h.Undos[0].Granted); got != `{"playbook":"p","secrets":["MINE"]}` || h.Undos[1].Granted != nil {
		t.Errorf("granted %s, %s", got, h.Undos[1].Granted)
	}
}

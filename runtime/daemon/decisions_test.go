package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

var noon = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

// startRun starts a run of the playbook and returns its id.
func (h *house) startRun(playbook string) string {
	h.t.Helper()
	r, err := h.daemon.Run(h.t.Context(), "alice", api.RunRequest{Playbook: playbook})
	h.check(err)
	return r.ID
}

func (h *house) run(id string) journal.Run {
	h.t.Helper()
	r, err := h.daemon.journal.Run(h.t.Context(), id)
	h.check(err)
	return r
}

// status waits until the run's status is the expected one.
func (h *house) status(id string, want journal.Status) {
	h.t.Helper()
	h.exec.await(h.t, id+" is "+string(want), func() bool { return h.run(id).Status == want })
	h.idle()
	if got := h.run(id); got.Status != want {
		h.t.Fatalf("run %s of %s is %s, want %s", id, got.Playbook, got.Status, want)
	}
}

func (h *house) restart() {
	h.t.Helper()
	h.stop()
	h.start()
}

// failed returns the error of a decision alone.
func failed[T any](_ T, err error) error { return err }

// kind checks an error's kind and message.
func kind(t *testing.T, err error, want problem.Kind, says string) {
	t.Helper()
	if e := problem.From(err); err == nil || e.Kind != want || !strings.Contains(e.Error(), says) {
		t.Errorf("got %v, want one of kind %s with %q", err, want, says)
	}
}

func TestApproval(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		approve bool
		state   journal.StepState
		end     journal.Status
	}{
		"approved": {true, journal.StepIsDone, journal.Done},
		"denied":   {false, journal.StepIsFailed, journal.Failed},
	} {
		h := newHouse(t, noon)
		h.script("a", script{Does: "approve"})
		h.start()
		id := h.startRun("a")
		h.status(id, journal.Waiting)
		h.clock.Advance(30 * 24 * time.Hour) // it waits as long as it takes
		h.restart()
		h.status(id, journal.Waiting)
		s, err := h.daemon.Status(t.Context())
		h.check(err)
		if r := s.Playbooks[0].Running; r == nil || r.WaitsFor != "approval: go?" || r.Until != nil || r.ID != id {
			t.Errorf("%s: it shows %+v", name, r)
		}
		answer := h.daemon.Deny
		if c.approve {
			answer = h.daemon.Approve
		}
		_, err = answer(t.Context(), id, "alice", api.Decision{Ticket: "CHG1", Reason: "tested"})
		h.check(err)
		h.status(id, c.end)
		hist, err := h.daemon.journal.History(t.Context(), id)
		h.check(err)
		step := hist.Steps[0]
		text := string(step.Result)
		if step.Error != nil {
			text = step.Error.Message
		}
		if step.State != c.state || !strings.Contains(text, "alice") || !strings.Contains(text, "tested") {
			t.Errorf("%s: %+v", name, step)
		}
		if c.approve && !strings.Contains(text, `"ticket":"CHG1"`) {
			t.Errorf("the ticket is not in %s", text)
		}
		kind(t, failed(h.daemon.Approve(t.Context(), id, "bob", api.Decision{})), problem.Conflict, "ended already")
		h.sound()
	}
}

func TestDecideWhatWaitsForNobody(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("waits", script{Does: "wait"})
	h.script("parks", script{Does: "park"})
	h.start()
	waits, parks := h.startRun("waits"), h.startRun("parks")
	h.status(waits, journal.Waiting)
	h.status(parks, journal.Parked)
	ctx := t.Context()
	epoch := h.run(parks).Epoch + h.run(waits).Epoch
	kind(t, failed(h.daemon.Approve(ctx, waits, "alice", api.Decision{})), problem.Conflict, "not waiting for approval")
	kind(t, failed(h.daemon.Approve(ctx, parks, "alice", api.Decision{})), problem.Conflict, "not waiting for approval")
	kind(t, failed(h.daemon.Approve(ctx, "0hawnb4r1y", "alice", api.Decision{})), problem.NotFound, "there is no run")
	kind(t, failed(h.daemon.Resume(ctx, waits, "alice", api.Decision{})), problem.Conflict, "not parked")
	kind(t, failed(h.daemon.Resume(ctx, parks, "alice", api.Decision{})), problem.Usage, "the decision must say whether cucm.Node:upload has happened")
	kind(t, failed(h.daemon.Resume(ctx, parks, "alice", api.Decision{As: "perhaps"})), problem.Usage, "the decision must say")
	if got := h.run(parks); got.Status != journal.Parked {
		t.Errorf("the run is %s", got.Status)
	}
	if h.run(parks).Epoch+h.run(waits).Epoch != epoch {
		t.Error("a refused decision takes a run away from its worker")
	}
	_, err := h.daemon.Run(ctx, "alice", api.RunRequest{Playbook: "wait"})
	kind(t, err, problem.Usage, `no playbook "wait"`)
	if hint := problem.From(err).Hint; !strings.Contains(hint, "waits") {
		t.Errorf("the hint is %q", hint)
	}
}

func TestResumeOfAParkedRun(t *testing.T) {
	t.Parallel()
	for as, want := range map[string]journal.EffectState{run.AsDone: journal.EffectIsDone, run.AsAgain: journal.EffectIsNotDone} {
		h := newHouse(t, noon)
		h.script("a", script{Does: "park"})
		h.start()
		id := h.startRun("a")
		h.status(id, journal.Parked)
		if reply, err := h.daemon.Run(t.Context(), "alice", api.RunRequest{Playbook: "a"}); err != nil || !reply.Resumed || reply.ID != id {
			t.Errorf("asked to run: %+v, %v", reply, err)
		}
		h.restart() // it stays parked: nothing but a person moves it
		h.clock.Advance(48 * time.Hour)
		h.idle()
		if n := len(h.exec.calls); n != 1 {
			t.Errorf("it was worked on %d times", n)
		}
		h.check(failed(h.daemon.Resume(t.Context(), id, "alice", api.Decision{As: as})))
		h.status(id, journal.Done)
		hist, err := h.daemon.journal.History(t.Context(), id)
		h.check(err)
		if hist.Effects[0].State != want {
			t.Errorf("as %s the effect is %s", as, hist.Effects[0].State)
		}
		logs, err := h.daemon.journal.Logs(t.Context(), id, 0, 0)
		h.check(err)
		if !slices.ContainsFunc(logs, func(l journal.Log) bool { return strings.Contains(l.Message, "resumed by alice "+as) }) {
			t.Errorf("who resumed it is not in its log: %v", logs)
		}
	}
}

// A person is quick: the answer comes before the worker has let go of the run.
func TestAnAnswerWhileTheWorkerLetsGo(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("parks", script{Does: "park"})
	h.script("asks", script{Does: "approve"})
	h.script("ends", script{})
	h.start()
	for range 3 {
		linger := make(chan struct{})
		h.exec.update(func() { h.exec.linger = linger })
		parks, asks := h.startRun("parks"), h.startRun("asks")
		h.exec.await(t, "both stop", func() bool {
			return h.run(parks).Status == journal.Parked && h.run(asks).Status == journal.Waiting
		})
		h.check(failed(h.daemon.Resume(t.Context(), parks, "alice", api.Decision{As: "done"})))
		h.check(failed(h.daemon.Approve(t.Context(), asks, "alice", api.Decision{})))
		h.exec.update(func() { h.exec.linger = nil })
		close(linger)
		h.status(parks, journal.Done)
		h.status(asks, journal.Done)
		// And the next run begins the moment that the one before has ended.
		linger = make(chan struct{})
		h.exec.update(func() { h.exec.linger = linger })
		first := h.startRun("ends")
		h.exec.await(t, "the first ends", func() bool { return h.run(first).Status == journal.Done })
		late := time.AfterFunc(10*time.Millisecond, func() {
			h.exec.update(func() { h.exec.linger = nil })
			close(linger)
		})
		second := h.startRun("ends")
		if second == first || late.Stop() {
			t.Fatal("the next run does not wait for the one before")
		}
		h.status(second, journal.Done)
	}
	h.sound()
}

// A person's answer takes the run from a process that has just started to work on it:
// the next one continues, at once.
func TestAnAnswerTakesTheRunAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("a", script{})
	h.start()
	h.exec.update(func() { h.exec.taken = true })
	id := h.startRun("a")
	h.status(id, journal.Done)
	if lines := h.log.of("run stopped"); len(lines) > 0 {
		t.Errorf("an error is logged: %v", lines)
	}
	h.sound()
}

func TestCancel(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	for _, does := range []string{"wait", "park", "approve"} {
		h.script(does, script{Does: does})
	}
	h.script("works", script{})
	h.start()
	release := h.exec.hold("works")
	defer release()
	works := h.startRun("works")
	for playbook, is := range map[string]journal.Status{"wait": journal.Waiting, "park": journal.Parked, "approve": journal.Waiting} {
		id := h.startRun(playbook)
		h.exec.await(t, playbook, func() bool { return h.run(id).Status == is })
		h.check(failed(h.daemon.Cancel(t.Context(), id, "alice", api.Decision{})))
		h.exec.await(t, playbook+" is cancelled", func() bool { return h.run(id).Status == journal.Cancelled })
		kind(t, failed(h.daemon.Cancel(t.Context(), id, "alice", api.Decision{})), problem.Conflict, "ended already: cancelled")
	}
	h.exec.await(t, "it works", func() bool { return h.exec.active["run "+works] })
	h.check(failed(h.daemon.Cancel(t.Context(), works, "alice", api.Decision{})))
	h.status(works, journal.Cancelled)
	h.sound()
}

// What was cancelled is cancelled, even if the daemon dies before it can be.
func TestCancelOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	for _, does := range []string{"wait", "park"} {
		h.script(does, script{Does: does})
	}
	h.start()
	wait, park := h.startRun("wait"), h.startRun("park")
	h.status(wait, journal.Waiting)
	h.status(park, journal.Parked)
	h.stop()
	h.check(os.WriteFile(filepath.Join(h.cfg.State, "cancelled.json"), []byte(`{"`+wait+`":true,"`+park+`":true}`), 0o600))
	h.start()
	h.status(wait, journal.Cancelled)
	h.status(park, journal.Cancelled)
}

func TestPauseOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("a", script{Schedule: "0 13 * * *"})
	h.script("b", script{Schedule: "0 13 * * *"})
	h.start()
	ctx := t.Context()
	kind(t, h.daemon.Pause(ctx, "alice", api.PauseRequest{Playbook: "c", Paused: true}), problem.Usage, "no playbook")
	h.check(h.daemon.Pause(ctx, "alice", api.PauseRequest{Playbook: "a", Paused: true}))
	h.restart()
	s, err := h.daemon.Status(ctx)
	h.check(err)
	if !s.Playbooks[0].Paused || s.Playbooks[0].NextRun != nil || s.Playbooks[1].Paused || s.Playbooks[1].NextRun == nil {
		t.Errorf("got %+v", s.Playbooks)
	}
	h.passes(24 * time.Hour)
	if runs := h.runs(); len(runs) != 1 || runs[0].Playbook != "b" {
		t.Errorf("these ran: %v", runs)
	}
	// Someone who asks for it runs it all the same.
	h.status(h.startRun("a"), journal.Done)
	h.check(h.daemon.Pause(ctx, "alice", api.PauseRequest{Paused: true}))
	h.restart()
	h.passes(24 * time.Hour)
	if n := len(h.runs()); n != 2 {
		t.Errorf("%d runs, want 2: all are paused", n)
	}
	h.check(h.daemon.Pause(ctx, "alice", api.PauseRequest{}))
	h.check(h.daemon.Pause(ctx, "alice", api.PauseRequest{Playbook: "a"}))
	h.passes(2 * time.Minute) // what was due meanwhile is caught up, once
	if n := len(h.runs()); n != 4 {
		t.Errorf("%d runs, want 4", n)
	}
	h.passes(24 * time.Hour)
	if n := len(h.runs()); n != 6 {
		t.Errorf("%d runs, want 6", n)
	}
}

// A run that waits for a decision is not resumed, even if the queue was synced with what
// the journal had just before the run stopped.
func TestAQueueThatIsBehind(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	stops := map[string]journal.Status{"park": journal.Parked, "approve": journal.Waiting}
	for does := range stops {
		h.script(does, script{Does: does})
	}
	h.start()
	for does, is := range stops {
		id := h.startRun(does)
		h.status(id, is)
		_, err := h.daemon.queue.Enqueue(h.daemon.runs.job(t.Context(), h.run(id)), h.clock.Now())
		h.check(err)
		h.status(id, is)
		h.calledOnce(id)
	}
}

// What the queue lacks is queued within a minute.
func TestARunThatWasNotQueued(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("a", script{})
	h.start()
	id := h.daemon.journal.NewRunID()
	h.check(h.daemon.journal.SaveBundle(t.Context(), "h", []journal.Source{{Path: "a.lua", Body: []byte(`{}`)}}))
	h.check(h.daemon.journal.Write(t.Context(), journal.RunCreated{Stamp: journal.Stamp{Run: id, Epoch: 1, At: h.clock.Now()}, Playbook: "a", Bundle: "h"}))
	h.check(h.clock.BlockUntilContext(t.Context(), 1))
	late := time.After(patience)
	for h.run(id).Status != journal.Done {
		h.clock.Advance(10 * time.Second)
		select {
		case <-time.After(5 * time.Millisecond):
		case <-late:
			t.Fatalf("the run is %s", h.run(id).Status)
		}
	}
}

// A window that can never open is an error of the script.
func TestWindowsThatNeverOpen(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.cfg.Blackouts = []string{"Sat,Sun"}
	h.script("never", script{Window: "Sat 10:00-12:00"})
	h.script("badly", script{Schedule: "61 * * * *"})
	h.script("well", script{Window: "Fri 10:00-12:00", Schedule: "0 13 * * *"})
	h.start()
	s, err := h.daemon.Status(t.Context())
	h.check(err)
	if len(s.Playbooks) != 3 || s.Playbooks[2].Name != "well" || s.Playbooks[2].Error != nil || len(s.Scripts) != 2 {
		t.Fatalf("got %+v", s)
	}
	for _, p := range s.Playbooks[:2] {
		if p.Error == nil || p.Bundle != "" || p.NextRun != nil {
			t.Errorf("%s: %+v", p.Name, p)
		}
	}
	if e := s.Scripts[1]; !strings.Contains(e.Error(), "never opens") || e.Place.File != "never.lua" {
		t.Errorf("got %v", e)
	}
}

func TestBrokenScript(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("a", script{Schedule: "0 13 * * *"})
	h.start()
	h.file("a.lua", "half a script")
	h.reload()
	h.reload()
	s, err := h.daemon.Status(t.Context())
	h.check(err)
	if p := s.Playbooks[0]; p.Error == nil || p.Error.Place.File != "a.lua" || p.NextRun == nil {
		t.Errorf("got %+v", p)
	}
	if n := len(h.log.of("a script is broken; its last good version runs")); n != 1 {
		t.Errorf("it was logged %d times", n)
	}
	h.passes(2 * time.Hour)
	if runs := h.runs(); len(runs) != 1 || runs[0].Status != journal.Done {
		t.Errorf("got %v", runs)
	}
	h.script("a", script{Schedule: "0 13 * * *"})
	h.reload()
	s, err = h.daemon.Status(t.Context())
	h.check(err)
	if p := s.Playbooks[0]; p.Error != nil || len(s.Scripts) != 0 {
		t.Errorf("got %+v", p)
	}
	text, err := json.Marshal(s.Playbooks[0])
	h.check(err)
	if !strings.Contains(string(text), `"error":null`) || !strings.Contains(string(text), `"running":null`) {
		t.Errorf("got %s", text)
	}
}

func TestScriptsFolderGone(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("a", script{Schedule: "0 13 * * *"})
	h.start()
	gone := h.cfg.Scripts + " moved"
	h.check(os.Rename(h.cfg.Scripts, gone))
	if _, err := h.daemon.Reload(t.Context()); err == nil {
		t.Error("a missing folder is not an error")
	}
	s, err := h.daemon.Status(t.Context())
	h.check(err)
	if len(s.Playbooks) != 1 || len(s.Scripts) != 1 {
		t.Errorf("got %+v", s)
	}
	h.passes(2 * time.Hour)
	if runs := h.runs(); len(runs) != 1 || runs[0].Status != journal.Done {
		t.Errorf("got %v", runs)
	}
	h.check(os.Rename(gone, h.cfg.Scripts))
	h.reload()
	if n := len(h.daemon.reload.Current().Problems); n != 0 {
		t.Errorf("%d problems are left", n)
	}
}

// The clock of a machine without battery: wrong by a year, then right.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]time.Duration{"ahead": 365 * 24 * time.Hour, "back": -365 * 24 * time.Hour} {
		h := newHouse(t, noon)
		h.script("a", script{Schedule: "0 13 * * *"})
		h.script("waits", script{Does: "wait"})
		h.start()
		h.passes(2 * time.Hour)
		waits := h.startRun("waits")
		h.status(waits, journal.Waiting)
		for _, jump := range []time.Duration{by, -by} {
			h.clock.set(jump)
			before := len(h.runs())
			h.drifts(26*time.Hour, func() bool { return len(h.runs()) > before })
			h.passes(20 * time.Hour)
			if n := len(h.runs()) - before; n > 2 { // one is caught up, one is due
				t.Errorf("%s: %d runs in less than two days after the clock was set by %s", name, n, jump)
			}
		}
		h.clock.Advance(8 * 24 * time.Hour)
		h.drifts(time.Hour, func() bool { return h.run(waits).Status == journal.Done })
		h.sound()
	}
}

// A playbook for several nodes is as urgent as the one that expires first.
func TestTheFirstToExpireCounts(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.script("a", script{})
	h.start()
	id := h.startRun("a")
	h.status(id, journal.Done)
	if at := h.daemon.runs.expires(t.Context(), "a"); !at.IsZero() {
		t.Errorf("nothing was recorded, and it expires at %s", at)
	}
	id = h.daemon.journal.NewRunID()
	stamp := journal.Stamp{Run: id, Epoch: 1, At: h.clock.Now()}
	h.check(h.daemon.journal.SaveBundle(t.Context(), "h", nil))
	recs := []journal.Record{journal.RunCreated{Stamp: stamp, Playbook: "a", Bundle: "h"}}
	for i, data := range []string{
		`{"subject":"one","served":{"sha256":"x","not_after":1000}}`, `{"subject":"two","served":{"sha256":"x","not_after":3000}}`,
		`{"subject":"one","served":{"sha256":"y","not_after":4000}}`, `{"subject":"note"}`,
	} {
		recs = append(recs, journal.Recorded{Stamp: stamp, Seq: i, Data: json.RawMessage(data)})
	}
	h.check(h.daemon.journal.Write(t.Context(), append(recs, journal.RunEnded{Stamp: stamp, Outcome: journal.Done})...))
	if at := h.daemon.runs.expires(t.Context(), "a"); !at.Equal(time.Unix(3000, 0)) {
		t.Errorf("it expires at %s", at)
	}
}

// Who follows a run sees its end, or what it waits for, not what it was before.
func TestFollow(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.cfg.Concurrency = 1
	h.script("first", script{})
	h.script("works", script{})
	h.script("asks", script{Does: "approve"})
	h.start()
	followed := func(id string) <-chan *journal.Run {
		end := make(chan *journal.Run, 1)
		go func() {
			r, err := h.daemon.Follow(t.Context(), id, func(journal.Record) error { return nil })
			if err != nil {
				t.Error(err)
			}
			end <- r
		}()
		return end
	}
	wait := func(end <-chan *journal.Run, want journal.Status) {
		t.Helper()
		late := time.After(patience)
		for {
			select {
			case r := <-end:
				if r == nil || r.Status != want {
					t.Errorf("followed to %+v, want %s", r, want)
				}
				return
			case <-time.After(time.Millisecond):
				h.clock.Advance(time.Second)
			case <-late:
				t.Fatal("it is followed for ever")
			}
		}
	}
	release := h.exec.hold("first")
	defer release()
	first := h.startRun("first")
	h.exec.await(t, "the first works", func() bool { return h.exec.active["run "+first] })
	id := h.startRun("works")
	end := followed(id)
	h.drifts(time.Minute, func() bool {
		h.daemon.hub.mu.Lock()
		defer h.daemon.hub.mu.Unlock()
		return len(h.daemon.hub.subs[id]) > 0
	})
	// The child has sent that it resumes, and that is on its way to the disk.
	h.daemon.hub.publish(journal.RunResumed{Stamp: journal.Stamp{Run: id}})
	for range 5 {
		h.clock.Advance(time.Second)
		select {
		case r := <-end:
			t.Fatalf("a run that continues ended as %s", r.Status)
		case <-time.After(5 * time.Millisecond):
		}
	}
	release()
	wait(end, journal.Done)
	wait(followed(id), journal.Done) // it has ended long ago
	id = h.startRun("asks")
	wait(followed(id), journal.Waiting)
	wait(followed(id), journal.Waiting)
}

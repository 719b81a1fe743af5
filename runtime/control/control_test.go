package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

var t0 = time.Date(2026, 11, 2, 3, 4, 5, 0, time.UTC)

// desk is where a test decides: a control, its journal and its clock.
type desk struct {
	*Control

	t     *testing.T
	clock *clockwork.FakeClock
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	clock := clockwork.NewFakeClockAt(t0)
	j, err := journal.Open(t.Context(), t.TempDir(), journal.Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return &desk{New(j, clock), t, clock}
}

func (d *desk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// begin creates a run of a playbook.
func (d *desk) begin(playbook string, locks ...string) journal.Stamp {
	d.t.Helper()
	b, err := d.Begin(d.t.Context(), Beginning{Playbook: playbook, Bundle: "hash", Locks: locks})
	if err != nil || b.Unfinished {
		d.t.Fatal(b, err)
	}
	return journal.Stamp{Run: b.Run.ID, Epoch: 1, At: t0}
}

func (d *desk) write(recs ...journal.Record) {
	d.t.Helper()
	d.must(d.journal.Write(d.t.Context(), recs...))
}

func (d *desk) history(run string) *journal.History {
	d.t.Helper()
	h, err := d.journal.History(d.t.Context(), run)
	d.must(err)
	return h
}

func (d *desk) decisions(run string) []journal.Decided {
	d.t.Helper()
	all, err := d.journal.Decisions(d.t.Context(), run)
	d.must(err)
	return all
}

// all is what the journal has of a run, and what is paused, as text.
func (d *desk) all(run string) string {
	d.t.Helper()
	ctx := d.t.Context()
	logs, err := d.journal.Logs(ctx, run, 0, 0)
	locks, err2 := d.journal.Locks(ctx)
	paused, err3 := d.journal.Paused(ctx)
	text, err4 := json.MarshalIndent([]any{d.history(run), d.decisions(run), logs, locks, paused}, "", " ")
	d.must(errors.Join(err, err2, err3, err4))
	return string(text)
}

func TestBegin(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	b := Beginning{
		Run: d.journal.NewRunID(), Playbook: "dfw/renew", Bundle: "h1", Sources: []journal.Source{{Path: "a.lua", Body: []byte("return 1")}},
		Locks: []string{"sub", "site", "pub", "sub"}, Shared: []string{"site"}, Force: true, By: "alice",
	}
	created, err := d.Begin(ctx, b)
	if err != nil || created.Unfinished || created.Run.ID != b.Run {
		t.Fatalf("%+v, %v", created, err)
	}
	h := d.history(b.Run)
	told, err := json.Marshal(created.Run)
	d.must(err)
	if kept, err := json.Marshal(h.Run); err != nil || string(told) != string(kept) {
		t.Errorf("told %s, kept %s, %v", told, kept, err)
	}
	if r := h.Run; r.Status != journal.Created || !r.Force || r.Bundle != "h1" || !slices.Equal(r.Locks, []string{"dfw/pub", "dfw/sub", "site"}) || !r.Created.Equal(t0) {
		t.Errorf("%+v", r)
	}
	if s, err := d.journal.Sources(ctx, "h1"); err != nil || len(s) != 1 || string(s[0].Body) != "return 1" {
		t.Errorf("%v, %v", s, err)
	}
	if all := d.decisions(b.Run); len(all) != 1 || all[0].What != journal.DecidedBegin || all[0].By != "alice" || all[0].Playbook != "dfw/renew" {
		t.Errorf("decisions: %+v", all)
	}
	if locks, err := d.journal.Locks(ctx); err != nil || len(locks) > 0 {
		t.Errorf("a new run holds %v, %v", locks, err)
	}

	before := d.all(b.Run)
	again := b
	again.Run, again.By, again.Bundle = "", "bob", "h2"
	if got, err := d.Begin(ctx, again); err != nil || !got.Unfinished || got.Run.ID != b.Run {
		t.Errorf("one is unfinished: %+v, %v", got, err)
	}
	if now := d.all(b.Run); now != before {
		t.Errorf("it was\n%s\nand is\n%s", before, now)
	}
	if _, err := d.journal.Sources(ctx, "h2"); problem.From(err).Kind != problem.NotFound {
		t.Errorf("a bundle of no run was kept: %v", err)
	}
	other := d.begin("ams/renew") // another playbook is not in its way
	if all := d.decisions(other.Run); len(all) > 0 {
		t.Errorf("the schedule's run was decided: %+v", all)
	}
	d.write(journal.RunEnded{Stamp: journal.Stamp{Run: b.Run, Epoch: 1, At: t0}, Outcome: journal.Done})
	if got, err := d.Begin(ctx, again); err != nil || got.Unfinished || got.Run.ID == b.Run || got.Run.ID == "" {
		t.Errorf("after its end: %+v, %v", got, err)
	}
}

func TestLockNames(t *testing.T) {
	for _, tt := range []struct {
		playbook            string
		locks, shared, want []string
	}{
		{"renew", []string{"b", "a"}, nil, []string{"a", "b"}},
		{"renew", []string{"a"}, []string{"a"}, []string{"a"}},
		{"dfw/renew", []string{"a", "b"}, []string{"b", "c"}, []string{"b", "dfw/a"}},
		{"dfw/deep/renew", []string{"a", "a"}, nil, []string{"dfw/a"}},
		{"dfw/renew", nil, []string{"a"}, nil},
	} {
		if got := lockNames(Beginning{Playbook: tt.playbook, Locks: tt.locks, Shared: tt.shared}); !slices.Equal(got, tt.want) {
			t.Errorf("%s, %v, shared %v: got %v, want %v", tt.playbook, tt.locks, tt.shared, got, tt.want)
		}
	}
}

func TestManyBeginOneRun(t *testing.T) {
	d := newDesk(t)
	const callers = 32
	var wg sync.WaitGroup
	got := make([]Started, callers)
	for i := range callers {
		wg.Go(func() {
			var err error
			if got[i], err = d.Begin(t.Context(), Beginning{Playbook: "p", Bundle: fmt.Sprint(i), By: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	created := 0
	for _, b := range got {
		if b.Run.ID != got[0].Run.ID {
			t.Errorf("%s and %s", b.Run.ID, got[0].Run.ID)
		}
		if !b.Unfinished {
			created++
		}
	}
	runs, err := d.journal.Runs(t.Context(), journal.Filter{})
	if err != nil || created != 1 || len(runs) != 1 || len(d.decisions("")) != 1 {
		t.Errorf("%d have created one, there are %d, %v", created, len(runs), err)
	}
}

// A purge removes bundles that no run needs: not one whose run is about to be created.
func TestBeginBesideAPurge(t *testing.T) {
	d := newDesk(t)
	ctx, stop := context.WithCancel(t.Context())
	purged := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			_, err := d.journal.Purge(t.Context(), journal.Keep{Runs: time.Hour, Begin: d.Beginning()})
			if err != nil {
				purged <- err
				return
			}
		}
		purged <- nil
	}()
	for i := range 100 {
		if _, err := d.Begin(t.Context(), Beginning{Playbook: fmt.Sprint(i), Bundle: fmt.Sprint(i)}); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	stop()
	d.must(<-purged)
}

// The states that a run can be decided in. Each holds its lock, but for the first.
func states() map[string]func(d *desk, s journal.Stamp) {
	mark := func(d *desk, s journal.Stamp) {
		d.write(journal.RunResumed{Stamp: s}, journal.StepStarted{Stamp: s, Kind: "step", Name: "a", Attempt: 1},
			journal.EffectMarked{Stamp: s, Fn: "f", Undo: &journal.UndoSpec{Fn: "g"}, Disruptive: true})
	}
	busy := func(d *desk, s journal.Stamp) {
		mark(d, s)
		d.write(journal.EffectDone{Stamp: s})
	}
	after := func(do func(*desk, journal.Stamp), recs func(journal.Stamp) []journal.Record) func(*desk, journal.Stamp) {
		return func(d *desk, s journal.Stamp) { do(d, s); d.write(recs(s)...) }
	}
	return map[string]func(*desk, journal.Stamp){
		"created": func(*desk, journal.Stamp) {},
		"running": busy,
		"asks": after(busy, func(s journal.Stamp) []journal.Record {
			return []journal.Record{journal.StepStarted{Stamp: s, Step: 1, Kind: "approve", Name: "approve", Key: "go?", Attempt: 1}, journal.RunWaiting{Stamp: s, For: run.WaitApproval + ": go?"}}
		}),
		"asks, works": after(busy, func(s journal.Stamp) []journal.Record {
			return []journal.Record{journal.StepStarted{Stamp: s, Step: 1, Kind: "approve", Name: "approve", Key: "go?", Attempt: 1}}
		}),
		"retries": after(busy, func(s journal.Stamp) []journal.Record {
			return []journal.Record{journal.RunWaiting{Stamp: s, For: "retry", Until: t0.Add(time.Hour), Failure: true, Error: &problem.Error{Kind: problem.Unavailable, Message: "answered 503"}}}
		}),
		"waits for a lock": after(busy, func(s journal.Stamp) []journal.Record {
			return []journal.Record{journal.RunWaiting{Stamp: s, For: run.WaitLock + "x"}}
		}),
		"parked": after(busy, func(s journal.Stamp) []journal.Record {
			return []journal.Record{journal.RunParked{Stamp: s, Reason: "why"}}
		}),
		"unclear": after(mark, func(s journal.Stamp) []journal.Record {
			return []journal.Record{journal.RunParked{Stamp: s, Reason: "why"}}
		}),
		"ending": after(busy, func(s journal.Stamp) []journal.Record {
			return []journal.Record{journal.RunEnding{Stamp: s, Outcome: journal.Failed}}
		}),
		"ended, dirty": after(busy, func(s journal.Stamp) []journal.Record {
			return []journal.Record{journal.RunEnded{Stamp: s, Outcome: journal.Failed}}
		}),
		"ended": after(busy, func(s journal.Stamp) []journal.Record {
			return []journal.Record{journal.UndoDone{Stamp: s}, journal.RunEnded{Stamp: s, Outcome: journal.Done}}
		}),
	}
}

const (
	ok     = "ok"
	due    = "due"     // and nothing is written
	notDue = "not due" //
)

// What each decision comes to in each state: ok, or the code of a refusal, which
// changes nothing.
func TestDecisionsByState(t *testing.T) {
	d := newDesk(t)
	alice := Decision{By: "alice", Ticket: "CHG1", Reason: "because"}
	decide := []struct {
		name string
		do   func(ctx context.Context, id string) (string, error)
	}{
		{journal.DecidedApprove, func(ctx context.Context, id string) (string, error) {
			_, err := d.Approve(ctx, id, alice)
			return ok, err
		}},
		{journal.DecidedDeny, func(ctx context.Context, id string) (string, error) { _, err := d.Deny(ctx, id, alice); return ok, err }},
		{journal.DecidedResume, func(ctx context.Context, id string) (string, error) {
			_, err := d.Resume(ctx, id, alice)
			return ok, err
		}},
		{journal.DecidedRetry, func(ctx context.Context, id string) (string, error) {
			before := d.all(id)
			_, is, err := d.Retry(ctx, id, alice)
			switch {
			case err != nil || d.all(id) != before:
				return ok, err
			case is:
				return due, nil
			}
			return notDue, nil
		}},
		{journal.DecidedCancel, func(ctx context.Context, id string) (string, error) {
			_, err := d.Cancel(ctx, id, alice)
			return ok, err
		}},
		{journal.DecidedCleanup, func(ctx context.Context, id string) (string, error) {
			_, err := d.Cleanup(ctx, id, alice)
			return ok, err
		}},
		{journal.DecidedForget, func(ctx context.Context, id string) (string, error) {
			_, err := d.Forget(ctx, id, alice)
			return ok, err
		}},
		{journal.DecidedUnlock, func(ctx context.Context, id string) (string, error) {
			_, err := d.Unlock(ctx, id, alice)
			return ok, err
		}},
	}
	const (
		notAsked, notParked, unended = string(problem.NotAsked), string(problem.NotParked), string(problem.RunUnended)
		over, left, none, works      = string(problem.RunEnded), string(problem.NothingLeft), string(problem.HoldsNone), string(problem.RunWorking)
		unclear                      = string(problem.Unclear)
	)
	want := map[string][]string{ // approve, deny, resume, retry, cancel, cleanup, forget, unlock
		"created":          {notAsked, notAsked, notParked, due, ok, unended, unended, none},
		"running":          {notAsked, notAsked, notParked, due, ok, unended, unended, works},
		"asks":             {ok, ok, notParked, notDue, ok, unended, unended, ok},
		"asks, works":      {notAsked, notAsked, notParked, due, ok, unended, unended, works},
		"retries":          {notAsked, notAsked, notParked, ok, ok, unended, unended, ok},
		"waits for a lock": {notAsked, notAsked, notParked, notDue, ok, unended, unended, ok},
		"parked":           {notAsked, notAsked, ok, notDue, ok, unended, unended, ok},
		"unclear":          {notAsked, notAsked, unclear, notDue, ok, unended, unended, ok},
		"ending":           {notAsked, notAsked, notParked, due, ok, unended, unended, works},
		"ended, dirty":     {over, over, over, over, over, ok, ok, over},
		"ended":            {over, over, over, over, over, left, left, over},
	}
	bring := states()
	for state, row := range want {
		for i, what := range decide {
			playbook := state + ", " + what.name
			s := d.begin(playbook, playbook)
			bring[state](d, s)
			before, decided := d.all(s.Run), len(d.decisions(s.Run))
			got, err := what.do(t.Context(), s.Run)
			if err != nil {
				got = string(problem.From(err).Code)
			}
			if got != row[i] {
				t.Errorf("%s: got %s, %v, want %s", playbook, got, err, row[i])
			}
			if got != ok {
				if now := d.all(s.Run); now != before {
					t.Errorf("%s: refused, but it was\n%s\nand is\n%s", playbook, before, now)
				}
				continue
			}
			all := d.decisions(s.Run)
			if len(all) != decided+1 {
				t.Errorf("%s: %+v", playbook, all)
				continue
			}
			if last := all[decided]; last.What != what.name || last.By != "alice" || last.Ticket != "CHG1" || last.Reason != "because" || last.Playbook != playbook || !last.At.Equal(t0) {
				t.Errorf("%s: decided %+v", playbook, last)
			}
		}
	}
	for _, what := range decide[:3] {
		if _, err := what.do(t.Context(), "0123456789"); !problem.HasCode(err, problem.NoRun) {
			t.Errorf("%s of no run: %v", what.name, err)
		}
	}
	for _, what := range decide[4:] {
		if _, err := what.do(t.Context(), "0123456789"); !problem.HasCode(err, problem.NoRun) {
			t.Errorf("%s of no run: %v", what.name, err)
		}
	}
	if _, _, err := d.Retry(t.Context(), "0123456789", alice); !problem.HasCode(err, problem.NoRun) {
		t.Errorf("retry of no run: %v", err)
	}
}

// in brings a new run into a state.
func (d *desk) in(state string) journal.Stamp {
	d.t.Helper()
	s := d.begin(state, state)
	states()[state](d, s)
	return s
}

func TestApproveAndDeny(t *testing.T) {
	for what, tt := range map[string]struct {
		do    func(*desk, string) (journal.Run, error)
		state journal.StepState
		line  string
	}{
		"approve": {func(d *desk, id string) (journal.Run, error) {
			return d.Approve(d.t.Context(), id, Decision{By: "alice", Ticket: "CHG1"})
		}, journal.StepIsDone, "approved by alice"},
		"deny": {func(d *desk, id string) (journal.Run, error) {
			return d.Deny(d.t.Context(), id, Decision{By: "alice", Ticket: "CHG1"})
		}, journal.StepIsFailed, "denied by alice"},
	} {
		t.Run(what, func(t *testing.T) {
			d := newDesk(t)
			s := d.in("asks")
			d.clock.Advance(time.Hour)
			r, err := tt.do(d, s.Run)
			if err != nil || r.Status != journal.Waiting || r.WaitFor != WaitWorker || !r.WakeAt.Equal(t0.Add(time.Hour)) || r.Epoch != 2 {
				t.Errorf("%+v, %v", r, err)
			}
			if step := d.history(s.Run).Steps[1]; step.State != tt.state || !step.Ended.Equal(t0.Add(time.Hour)) {
				t.Errorf("%+v", step)
			}
			if logs, err := d.journal.Logs(t.Context(), s.Run, 0, 0); err != nil || len(logs) != 1 || logs[0].Message != tt.line || !strings.Contains(string(logs[0].Fields), "CHG1") {
				t.Errorf("%+v, %v", logs, err)
			}
			before := d.all(s.Run)
			if _, err := tt.do(d, s.Run); !problem.HasCode(err, problem.NotAsked) {
				t.Errorf("a second time: %v", err)
			}
			if d.all(s.Run) != before {
				t.Error("a second time changed something")
			}
		})
	}
}

// A second approval that read before the first one wrote takes the run from no child
// that works on it already.
func TestALateApprovalDoesNotTakeTheRun(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	s := d.in("asks")
	read := d.history(s.Run)
	_, err := d.Approve(ctx, s.Run, Decision{By: "alice"})
	d.must(err)
	late := func(when string) {
		t.Helper()
		before := d.all(s.Run)
		_, err := d.decide(ctx, read, journal.DecidedApprove, Decision{By: "bob"}, func(s journal.Stamp) ([]journal.Record, error) {
			rec, _, err := run.DecideApproval(read, s, true, run.Approval{By: "bob", At: s.At})
			return []journal.Record{rec}, err
		})
		if !problem.HasCode(err, problem.StaleEpoch) {
			t.Errorf("%s: %v", when, err)
		}
		if now := d.all(s.Run); now != before {
			t.Errorf("%s: it was\n%s\nand is\n%s", when, before, now)
		}
	}
	late("before the child")
	child := s
	child.Epoch, err = d.journal.Adopt(ctx, s.Run)
	d.must(err)
	late("adopted by the child")
	d.write(journal.RunResumed{Stamp: child})
	late("the child works")
	d.write(journal.StepStarted{Stamp: child, Step: 2, Kind: "step", Name: "b", Attempt: 1}) // it continues
}

func TestOneOfManyAnswers(t *testing.T) {
	d := newDesk(t)
	s := d.in("asks")
	const answers = 16
	errs := make([]error, answers)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			if i%2 == 0 {
				_, errs[i] = d.Approve(t.Context(), s.Run, Decision{By: fmt.Sprint(i)})
			} else {
				_, errs[i] = d.Deny(t.Context(), s.Run, Decision{By: fmt.Sprint(i)})
			}
		})
	}
	wg.Wait()
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won < 0:
			won = i
		case !problem.HasCode(err, problem.StaleEpoch) && !problem.HasCode(err, problem.NotAsked):
			t.Errorf("%d after %d: %v", i, won, err)
		}
	}
	if all := d.decisions(s.Run); won < 0 || len(all) != 1 || all[0].By != fmt.Sprint(won) || d.history(s.Run).Run.Epoch != 2 {
		t.Errorf("%d has won: %+v", won, all)
	}
}

func TestResume(t *testing.T) {
	for as, want := range map[string]journal.EffectState{run.AsDone: journal.EffectIsDone, run.AsAgain: journal.EffectIsNotDone, run.AsLook: journal.EffectOpen} {
		d := newDesk(t)
		s := d.in("unclear")
		r, err := d.Resume(t.Context(), s.Run, Decision{By: "alice", Verdicts: run.Verdicts{"": {As: as}}})
		if err != nil || r.Status != journal.Waiting || r.WaitFor != WaitWorker || r.Epoch != 2 || r.WakeAt.IsZero() {
			t.Errorf("%s: %+v, %v", as, r, err)
		}
		if e := d.history(s.Run).Effects[0]; e.State != want {
			t.Errorf("%s: %+v", as, e)
		}
		if all := d.decisions(s.Run); len(all) != 1 || all[0].Verdict != as {
			t.Errorf("%s: %+v", as, all)
		}
		if _, err := d.Resume(t.Context(), s.Run, Decision{By: "bob", Verdicts: run.Verdicts{"": {As: as}}}); !problem.HasCode(err, problem.NotParked) {
			t.Errorf("%s, a second time: %v", as, err)
		}
	}
}

func TestResumeWithAVerdictThatIsNone(t *testing.T) {
	d := newDesk(t)
	s := d.in("parked")
	_, err := d.Resume(t.Context(), s.Run, Decision{By: "alice", Verdicts: run.Verdicts{"": {As: "perhaps"}}})
	if !problem.HasCode(err, problem.Unclear) || !strings.Contains(err.Error(), `not "perhaps"`) {
		t.Errorf("got %v", err)
	}
}

func TestRetryKeepsWhatTheRunWaitsFor(t *testing.T) {
	d := newDesk(t)
	s := d.in("retries")
	was := d.history(s.Run).Run
	d.clock.Advance(time.Minute)
	r, is, err := d.Retry(t.Context(), s.Run, Decision{By: "alice"})
	if err != nil || !is || r.Epoch != 2 || !r.WakeAt.Equal(t0.Add(time.Minute)) {
		t.Errorf("%+v, %t, %v", r, is, err)
	}
	if r.WaitFor != "retry" || r.Error == nil || r.Error.Message != "answered 503" || r.Failures != was.Failures || !r.FailingSince.Equal(was.FailingSince) || r.Status != journal.Waiting {
		t.Errorf("it was %+v and is %+v", was, r)
	}
}

func TestCancelTwice(t *testing.T) {
	d := newDesk(t)
	s := d.in("running")
	r, err := d.Cancel(t.Context(), s.Run, Decision{By: "alice"})
	if err != nil || !r.CancelAsked.Equal(t0) || r.Epoch != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	before := d.all(s.Run)
	d.clock.Advance(time.Hour)
	if _, err := d.Cancel(t.Context(), s.Run, Decision{By: "bob"}); err != nil || d.all(s.Run) != before {
		t.Errorf("a second time: %v", err)
	}
	d.write(journal.RunEnded{Stamp: s, Outcome: journal.Cancelled}) // its process writes on
}

func TestForgetReturnsWhatIsGivenUp(t *testing.T) {
	d := newDesk(t)
	s := d.in("ended, dirty")
	left, err := d.Forget(t.Context(), s.Run, Decision{By: "alice"})
	if err != nil || len(left) != 1 || left[0].Run != s.Run || left[0].Fn != "g" {
		t.Errorf("%+v, %v", left, err)
	}
	if u := d.history(s.Run).Undos; u[0].State != journal.UndoIsForgotten {
		t.Errorf("%+v", u)
	}
	for name, do := range map[string]func() error{
		"forget":  func() error { _, err := d.Forget(t.Context(), s.Run, Decision{}); return err },
		"cleanup": func() error { _, err := d.Cleanup(t.Context(), s.Run, Decision{}); return err },
	} {
		if err := do(); !problem.HasCode(err, problem.NothingLeft) {
			t.Errorf("%s, after it: %v", name, err)
		}
	}
}

func TestUnlockReturnsTheNames(t *testing.T) {
	d := newDesk(t)
	s := d.begin("dfw/renew", "b", "a")
	states()["waits for a lock"](d, s)
	names, err := d.Unlock(t.Context(), s.Run, Decision{By: "alice"})
	if err != nil || !slices.Equal(names, []string{"dfw/a", "dfw/b"}) {
		t.Errorf("%v, %v", names, err)
	}
	if h, err := d.journal.Holders(t.Context()); err != nil || len(h) > 0 {
		t.Errorf("held: %v, %v", h, err)
	}
	if r := d.history(s.Run).Run; r.Epoch != 1 {
		t.Errorf("it was taken: %+v", r)
	}
}

func TestPause(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	paused := func(want ...string) {
		t.Helper()
		p, err := d.journal.Paused(ctx)
		var got []string
		for name := range p {
			got = append(got, name)
		}
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("paused are %q, want %q, %v", got, want, err)
		}
	}
	alice := Decision{By: "alice", Ticket: "CHG1", Reason: "because"}
	d.must(d.Pause(ctx, "dfw", alice))
	d.must(d.Pause(ctx, "", alice))
	paused("", "dfw")
	d.must(d.Unpause(ctx, "", alice))
	paused("dfw")
	d.must(d.Unpause(ctx, "dfw", alice))
	paused()
	all := d.decisions("")
	if len(all) != 4 || all[0].What != journal.DecidedPause || all[0].Playbook != "dfw" || all[0].By != "alice" || all[0].Ticket != "CHG1" || all[0].Reason != "because" || !all[0].At.Equal(t0) ||
		all[3].What != journal.DecidedUnpause {
		t.Errorf("%+v", all)
	}
}

// What is decided is decided whole, even if whoever asked has gone.
func TestDecisionOfACallerThatIsGone(t *testing.T) {
	d := newDesk(t)
	ctx, gone := context.WithCancel(t.Context())
	gone()
	d.must(d.Pause(ctx, "p", Decision{By: "alice"}))
	if _, err := d.Begin(ctx, Beginning{Playbook: "p", Bundle: "h"}); !errors.Is(err, context.Canceled) {
		t.Errorf("created: %v", err)
	}
	if runs, err := d.journal.Runs(t.Context(), journal.Filter{}); err != nil || len(runs) > 0 {
		t.Errorf("%+v, %v", runs, err)
	}
}

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"moonseal/runtime/problem"
)

func by(s Stamp, what, who string) Decided {
	return Decided{Stamp: s, What: what, By: who, Ticket: "CHG1", Reason: "because"}
}

// about is a decision about a run, which needs no epoch.
func about(run, what string) Decided { return by(Stamp{Run: run, At: t0}, what, "alice") }

func TestSettle(t *testing.T) {
	j := openTest(t, t.TempDir())
	ctx := t.Context()
	old := newRun(t, j, "p")
	must(t, j.Write(ctx, starts(old, 0), waiting(old)))
	read := history(t, j, old.Run).Run
	must(t, j.DecideRun(ctx, read, func(s Stamp) ([]Record, error) {
		if s.Run != old.Run || s.Epoch != 2 || s.At.IsZero() {
			t.Errorf("the stamp is %+v", s)
		}
		return []Record{by(s, DecidedRetry, "alice"), StepDone{Stamp: s}, RunWaiting{Stamp: s, For: "a free worker", Until: t0}}, nil
	}))
	h := history(t, j, old.Run)
	all, err := j.Decisions(ctx, old.Run)
	if err != nil || h.Run.Epoch != 2 || h.Run.WaitFor != "a free worker" || h.Steps[0].State != StepIsDone || len(all) != 1 {
		t.Errorf("%+v, %+v, %v", h, all, err)
	}
	if d := all[0]; d.Run != old.Run || d.Playbook != "p" || d.By != "alice" || d.Ticket != "CHG1" || d.Reason != "because" || d.What != DecidedRetry {
		t.Errorf("the decision is %+v", d)
	}
	if err := j.Write(ctx, Logged{Stamp: old, Message: "old"}); !errors.Is(err, ErrStaleEpoch) || !problem.HasCode(err, problem.StaleEpoch) {
		t.Errorf("the old epoch writes: %v", err)
	}
	now := old
	now.Epoch = 2
	must(t, j.Write(ctx, RunResumed{now}))
	if all, err := j.Decisions(ctx, ""); err != nil || len(all) != 1 {
		t.Errorf("all decisions: %+v, %v", all, err)
	}
}

func TestRefusedSettleChangesNothing(t *testing.T) {
	refusal := errors.New("no")
	fine := func(s Stamp) ([]Record, error) {
		return []Record{by(s, DecidedRetry, "alice"), Logged{Stamp: s, Message: "must not stay"}, RunWaiting{Stamp: s, For: "x", Until: t0}}, nil
	}
	for name, tt := range map[string]struct {
		since  func(t *testing.T, j *Journal, s Stamp) // what happens after the run was read
		decide func(Stamp) ([]Record, error)
		want   func(error) bool
	}{
		"adopted since": {
			since:  func(t *testing.T, j *Journal, s Stamp) { _, err := j.Adopt(t.Context(), s.Run); must(t, err) },
			decide: fine, want: isStale,
		},
		"resumed since": {
			since:  func(t *testing.T, j *Journal, s Stamp) { must(t, j.Write(t.Context(), RunResumed{s})) },
			decide: fine, want: isStale,
		},
		"ended since": {
			since: func(t *testing.T, j *Journal, s Stamp) {
				must(t, j.Write(t.Context(), RunEnded{Stamp: s, Outcome: Done}))
			},
			decide: fine, want: isStale,
		},
		"decide refuses": {
			decide: func(s Stamp) ([]Record, error) { recs, _ := fine(s); return recs, refusal },
			want:   func(err error) bool { return errors.Is(err, refusal) },
		},
		"a record that does not fit": {
			decide: func(s Stamp) ([]Record, error) {
				recs, _ := fine(s)
				return append(recs, StepDone{Stamp: s, Step: 7}), nil
			},
			want: func(err error) bool { return errors.Is(err, ErrMisuse) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := openTest(t, t.TempDir())
			s := newRun(t, j, "p")
			must(t, j.Write(t.Context(), waiting(s)))
			read := history(t, j, s.Run).Run
			if tt.since != nil {
				tt.since(t, j, s)
			}
			before := everything(t, j)
			if err := j.DecideRun(t.Context(), read, tt.decide); !tt.want(err) {
				t.Errorf("got %v", err)
			}
			same(t, j, before)
			s.Epoch = history(t, j, s.Run).Run.Epoch
			must(t, j.Write(t.Context(), Logged{Stamp: s, Message: "it continues"}))
		})
	}
	j := openTest(t, t.TempDir())
	if err := j.DecideRun(t.Context(), Run{ID: "0123456789"}, fine); !problem.HasCode(err, problem.NoRun) {
		t.Errorf("no run: %v", err)
	}
}

func isStale(err error) bool {
	return errors.Is(err, ErrStaleEpoch) && problem.HasCode(err, problem.StaleEpoch)
}

func TestOneOfManySettles(t *testing.T) {
	j := openTest(t, t.TempDir())
	for range 5 {
		s := newRun(t, j, "p")
		must(t, j.Write(t.Context(), waiting(s)))
		read := history(t, j, s.Run).Run
		const answers = 16
		errs := make([]error, answers)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range answers {
			wg.Go(func() {
				<-start
				errs[i] = j.DecideRun(t.Context(), read, func(s Stamp) ([]Record, error) {
					return []Record{by(s, DecidedRetry, fmt.Sprint(i)), RunWaiting{Stamp: s, For: fmt.Sprint(i), Until: t0}}, nil
				})
			})
		}
		close(start)
		wg.Wait()
		won := -1
		for i, err := range errs {
			switch {
			case err == nil && won < 0:
				won = i
			case !isStale(err):
				t.Errorf("%d after %d: %v", i, won, err)
			}
		}
		all, err := j.Decisions(t.Context(), s.Run)
		r := history(t, j, s.Run).Run
		if err != nil || won < 0 || len(all) != 1 || all[0].By != fmt.Sprint(won) || r.WaitFor != fmt.Sprint(won) || r.Epoch != 2 {
			t.Errorf("%d has won: %+v, %+v, %v", won, all, r, err)
		}
	}
}

func TestAskCancel(t *testing.T) {
	j := openTest(t, t.TempDir())
	ctx := t.Context()
	s := newRun(t, j, "p")
	must(t, j.AskCancel(ctx, about(s.Run, DecidedCancel)))
	r := history(t, j, s.Run).Run
	if !r.CancelAsked.Equal(t0) || r.Epoch != 1 || r.Status != Running {
		t.Errorf("%+v", r)
	}
	before := everything(t, j)
	again := about(s.Run, DecidedCancel)
	again.At, again.By = t0.Add(time.Hour), "bob"
	must(t, j.AskCancel(ctx, again))
	same(t, j, before)
	must(t, j.Write(ctx, RunEnded{Stamp: s, Outcome: Cancelled})) // its process was not disturbed
	before = everything(t, j)
	if err := j.AskCancel(ctx, again); !problem.HasCode(err, problem.RunEnded) {
		t.Errorf("ended: %v", err)
	}
	if err := j.AskCancel(ctx, about("0123456789", DecidedCancel)); !problem.HasCode(err, problem.NoRun) {
		t.Errorf("no run: %v", err)
	}
	same(t, j, before)
	if all, err := j.Decisions(ctx, s.Run); err != nil || len(all) != 1 || all[0].By != "alice" {
		t.Errorf("decisions: %+v, %v", all, err)
	}
}

func TestForget(t *testing.T) {
	j := openTest(t, t.TempDir())
	ctx := t.Context()
	s, other := needing(t, j, "p"), needing(t, j, "other")
	must(t, j.Write(ctx, disrupt(s, 0), disrupt(s, 1), UndoDone{Stamp: s, N: 0}, RunEnded{Stamp: s, Outcome: Failed}))
	must(t, j.Write(ctx, disrupt(other, 0)))
	read := history(t, j, s.Run).Run
	must(t, j.Forget(ctx, read, about(s.Run, DecidedForget)))
	if u := history(t, j, s.Run).Undos; u[0].State != UndoIsDone || u[1].State != UndoIsForgotten {
		t.Errorf("undos: %+v", u)
	}
	if u := history(t, j, other.Run).Undos; u[0].State != UndoPending {
		t.Errorf("another run's: %+v", u)
	}
	before := everything(t, j)
	if err := j.Forget(ctx, read, about(s.Run, DecidedForget)); !isStale(err) {
		t.Errorf("as it was read before: %v", err)
	}
	same(t, j, before)
}

func TestPaused(t *testing.T) {
	j := openTest(t, t.TempDir())
	for _, tt := range []struct {
		what, playbook string
		want           map[string]bool // which of these begin no runs
	}{
		{DecidedPause, "dfw", map[string]bool{"dfw": true, "ams": false, "": false}},
		{DecidedPause, "", map[string]bool{"dfw": true, "ams": true, "": true}},
		{DecidedUnpause, "ams", map[string]bool{"dfw": true, "ams": true, "": true}},
		{DecidedUnpause, "", map[string]bool{"dfw": true, "ams": false, "": false}},
		{DecidedUnpause, "dfw", map[string]bool{"dfw": false, "ams": false, "": false}},
	} {
		d := about("", tt.what)
		d.Playbook = tt.playbook
		must(t, j.Pause(t.Context(), d))
		p, err := j.Paused(t.Context())
		must(t, err)
		for playbook, want := range tt.want {
			if got := p.Has(playbook); got != want {
				t.Errorf("%s %q: %q is paused: %t", tt.what, tt.playbook, playbook, got)
			}
		}
	}
	all, err := j.Decisions(t.Context(), "")
	if err != nil || len(all) != 5 || all[0].What != DecidedPause || all[0].Playbook != "dfw" || all[0].Run != "" || all[1].Playbook != "" {
		t.Errorf("decisions: %+v, %v", all, err)
	}
	if Paused(nil).Has("dfw") {
		t.Error("nothing is paused")
	}
	// It stays paused since it was first.
	d := about("", DecidedPause)
	must(t, j.Pause(t.Context(), d))
	d.At = t0.Add(time.Hour)
	must(t, j.Pause(t.Context(), d))
	if p, err := j.Paused(t.Context()); err != nil || !p[""].Equal(t0) {
		t.Errorf("paused %v, %v", p, err)
	}
}

func TestSchedules(t *testing.T) {
	j := openTest(t, t.TempDir())
	ctx := t.Context()
	one, two := Scheduled{"daily", t0}, Scheduled{"weekly", t0.Add(time.Hour)}
	must(t, j.SetSchedules(ctx, map[string]Scheduled{"a": one, "b": one, "c": one}, nil))
	must(t, j.SetSchedules(ctx, map[string]Scheduled{"b": two}, []string{"c", "unknown"}))
	before := j.Stats().Commits
	must(t, j.SetSchedules(ctx, nil, nil))
	if j.Stats().Commits != before {
		t.Error("nothing was written, with a commit")
	}
	if got, err := j.Schedules(ctx); err != nil || !reflect.DeepEqual(got, map[string]Scheduled{"a": one, "b": two}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestInherit(t *testing.T) {
	j := openTest(t, t.TempDir())
	ctx := t.Context()
	open, ended, left := newRun(t, j, "p"), newRun(t, j, "p"), newRun(t, j, "p")
	must(t, j.Write(ctx, RunEnded{Stamp: ended, Outcome: Done}))
	must(t, j.AskCancel(ctx, about(left.Run, DecidedCancel)))
	in := Inherited{
		Paused:    map[string]bool{"": true, "dfw": true, "not": false},
		Cancelled: map[string]bool{open.Run: true, ended.Run: true, left.Run: true, "0123456789": true},
		Schedules: map[string]Scheduled{"p": {"daily", t0}},
	}
	must(t, j.Inherit(ctx, in))
	once := everything(t, j)
	must(t, j.Inherit(ctx, in))
	same(t, j, once)
	if p, err := j.Paused(ctx); err != nil || len(p) != 2 || !p.Has("dfw") {
		t.Errorf("paused: %v, %v", p, err)
	}
	if s, err := j.Schedules(ctx); err != nil || !reflect.DeepEqual(s, in.Schedules) {
		t.Errorf("schedules: %v, %v", s, err)
	}
	if r := history(t, j, open.Run).Run; r.CancelAsked.IsZero() || r.Epoch != 1 {
		t.Errorf("open: %+v", r)
	}
	if r := history(t, j, ended.Run).Run; !r.CancelAsked.IsZero() {
		t.Errorf("ended: %+v", r)
	}
	if r := history(t, j, left.Run).Run; !r.CancelAsked.Equal(t0) {
		t.Errorf("asked before: %+v", r)
	}
	must(t, j.Inherit(ctx, Inherited{Cancelled: map[string]bool{newRun(t, j, "p").Run: false}}))
	if runs, err := j.Unfinished(ctx, "p"); err != nil || len(runs) != 3 || !runs[2].CancelAsked.IsZero() {
		t.Errorf("a run that was not cancelled: %+v, %v", runs, err)
	}
}

// A copy has all that people have decided, and what follows from it.
func TestBackupKeepsDecisions(t *testing.T) {
	j := openTest(t, t.TempDir())
	ctx := t.Context()
	s := needing(t, j, "p", "x", "y")
	must(t, j.Write(ctx, disrupt(s, 0)))
	must(t, j.AskCancel(ctx, about(s.Run, DecidedCancel)))
	d := about("", DecidedPause)
	d.Playbook = "dfw"
	must(t, j.Pause(ctx, d))
	must(t, j.SetSchedules(ctx, map[string]Scheduled{"p": {"daily", t0}}, nil))
	var copied bytes.Buffer
	must(t, j.Backup(ctx, &copied))
	from := filepath.Join(t.TempDir(), "copy")
	must(t, os.WriteFile(from, copied.Bytes(), 0o600))
	dir := t.TempDir()
	must(t, Restore(ctx, dir, from))
	restored := openTest(t, dir)
	same(t, restored, everything(t, j))
	holds(t, restored, "restored", "x "+s.Run, "y "+s.Run)
}

func TestReadOnlyDecidesNothing(t *testing.T) {
	dir := t.TempDir()
	s := newRun(t, openTest(t, dir), "p")
	j, err := OpenReadOnly(t.Context(), dir)
	must(t, err)
	defer func() { _ = j.Close() }()
	ctx := t.Context()
	d := about(s.Run, DecidedCancel)
	_, unlock := j.Unlock(ctx, d)
	for name, err := range map[string]error{
		"cancel": j.AskCancel(ctx, d), "decide": j.Decide(ctx, d), "pause": j.Pause(ctx, d), "unlock": unlock, "forget": j.Forget(ctx, Run{ID: s.Run}, d),
		"settle":    j.DecideRun(ctx, Run{ID: s.Run, Epoch: 1, Status: Running}, func(Stamp) ([]Record, error) { return nil, nil }),
		"schedules": j.SetSchedules(ctx, nil, []string{"p"}), "inherit": j.Inherit(ctx, Inherited{}),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

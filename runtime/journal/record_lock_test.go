package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"moonseal/runtime/problem"
)

// needing makes a run that needs locks, and is in step 0.
func needing(t testing.TB, j *Journal, playbook string, locks ...string) Stamp {
	t.Helper()
	must(t, j.SaveBundle(t.Context(), "hash", nil))
	s := Stamp{Run: j.NewRunID(), Epoch: 1, At: t0}
	must(t, j.Write(t.Context(), RunCreated{Stamp: s, Playbook: playbook, Bundle: "hash", Locks: locks}, RunResumed{s}, starts(s, 0)))
	return s
}

func starts(s Stamp, n int) StepStarted {
	return StepStarted{Stamp: s, Step: n, Kind: "step", Name: "a", Attempt: 1}
}

// disrupt is the mark of the n-th disruptive effect in step 0.
func disrupt(s Stamp, n int) EffectMarked {
	return EffectMarked{Stamp: s, N: n, Fn: "f", Undo: &UndoSpec{N: n, Fn: "g"}, Disruptive: true}
}

// holds fails unless the locks are held as want says: "name run", by name.
func holds(t testing.TB, j *Journal, when string, want ...string) {
	t.Helper()
	locks, err := j.Locks(t.Context())
	must(t, err)
	got := []string{}
	for _, l := range locks {
		got = append(got, l.Name+" "+l.Run)
	}
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("%s: the locks are %v, want %v", when, got, want)
	}
}

func wantHeld(t testing.TB, err error, name, run, playbook string) {
	t.Helper()
	if !errors.Is(err, ErrLockHeld) || !problem.HasCode(err, problem.LockHeld) {
		t.Errorf("got %v, want that %s is held", err, name)
		return
	}
	e := problem.From(err)
	if e.Target != "lock "+name || !strings.Contains(e.Message, run) || !strings.Contains(e.Message, playbook) || !e.Kind.Retryable() || e.Happened() != problem.NotDone {
		t.Errorf("the refusal is %+v, want lock %s, run %s, playbook %s", e, name, run, playbook)
	}
	var over problem.Error // the wire keeps the code, not the cause
	text, err := json.Marshal(e)
	must(t, errors.Join(err, json.Unmarshal(text, &over)))
	if !problem.HasCode(&over, problem.LockHeld) {
		t.Errorf("over the wire: %s", text)
	}
}

func TestLocksAreTakenByTheFirstDisruptiveEffect(t *testing.T) {
	dir := t.TempDir()
	j := openTest(t, dir)
	ctx := t.Context()
	a, b := needing(t, j, "first", "x", "y"), needing(t, j, "second", "z", "y")
	holds(t, j, "starting")
	must(t, j.Write(ctx, EffectMarked{Stamp: a, N: 0, Fn: "harmless"}))
	holds(t, j, "after a harmless effect")
	must(t, j.Write(ctx, disrupt(a, 1)))
	held := []string{"x " + a.Run, "y " + a.Run}
	holds(t, j, "after a disruptive effect", held...)
	must(t, j.Write(ctx, disrupt(a.after(time.Hour), 2)))
	if locks, err := j.Locks(ctx); err != nil || !locks[0].Taken.Equal(t0) || locks[0].Playbook != "first" {
		t.Errorf("a second effect acquired them again: %+v, %v", locks, err)
	}

	err := j.WriteAfter(ctx, []Record{starts(b, 1), Logged{Stamp: b, Message: "lazy"}}, []Record{Logged{Stamp: b, Message: "synced"}, disrupt(b, 0)})
	wantHeld(t, err, "y", a.Run, "first")
	holds(t, j, "after a refusal", held...)
	h := history(t, j, b.Run)
	logs, err := j.Logs(ctx, b.Run, 0, 0)
	if err != nil || len(h.Steps) != 2 || len(h.Effects)+len(h.Undos) > 0 || len(logs) != 1 || logs[0].Message != "lazy" {
		t.Errorf("refused: %+v, %v, %v", h, logs, err)
	}

	for _, rec := range []Record{
		RunWaiting{Stamp: a, For: "retry", Until: t0.Add(time.Hour)},
		RunParked{Stamp: a, Reason: "cannot tell"},
		RunEnding{Stamp: a, Outcome: Failed},
	} {
		if rec.Type() == "run_ending" {
			must(t, j.Write(ctx, RunResumed{a}))
		}
		must(t, j.Write(ctx, rec))
		holds(t, j, rec.Type(), held...)
		wantHeld(t, j.Write(ctx, disrupt(b, 0)), "y", a.Run, "first")
	}
	must(t, j.Close())
	j = openTest(t, dir)
	holds(t, j, "opened again", held...)
	wantHeld(t, j.Write(ctx, disrupt(b, 0)), "y", a.Run, "first")

	before := j.Stats().Commits
	must(t, j.Write(ctx, RunEnded{Stamp: a}))
	if n := j.Stats().Commits - before; n != 1 {
		t.Errorf("the end took %d commits", n)
	}
	holds(t, j, "ended")
	must(t, j.Write(ctx, disrupt(b, 0)))
	holds(t, j, "the other's", "y "+b.Run, "z "+b.Run)
}

// An end that is refused releases nothing.
func TestLocksStayWithARunThatDoesNotEnd(t *testing.T) {
	j := openTest(t, t.TempDir())
	s := needing(t, j, "p", "x")
	must(t, j.Write(t.Context(), disrupt(s, 0)))
	if err := j.Write(t.Context(), RunEnded{Stamp: s, Outcome: Done}, StepDone{Stamp: s, Step: 7}); !errors.Is(err, ErrMisuse) {
		t.Errorf("got %v", err)
	}
	if err := j.Write(t.Context(), RunEnded{Stamp: s}); !errors.Is(err, ErrMisuse) {
		t.Errorf("without an outcome: %v", err)
	}
	holds(t, j, "refused", "x "+s.Run)
}

// However many mark at once, one has all of its locks, and no other has any.
func TestLocksHaveOneHolder(t *testing.T) {
	j := openTest(t, t.TempDir())
	ctx := t.Context()
	sets := [][]string{{"x", "y"}, {"y", "x"}, {"y", "z", "x"}, {"x"}}
	left := map[Stamp][]string{}
	for i := range 64 {
		locks := sets[i%len(sets)]
		left[needing(t, j, fmt.Sprint("p", i), locks...)] = locks
	}
	for round := range 8 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var winners []Stamp
		start := make(chan struct{})
		for s := range left {
			wg.Go(func() {
				<-start
				err := j.Write(ctx, disrupt(s, 0))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					winners = append(winners, s)
				case !errors.Is(err, ErrLockHeld):
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("round %d: %d have the lock", round, len(winners))
		}
		won := winners[0]
		var want []string
		for _, name := range left[won] {
			want = append(want, name+" "+won.Run)
		}
		holds(t, j, fmt.Sprint("round ", round), want...)
		delete(left, won)
		for s := range left {
			if h := history(t, j, s.Run); len(h.Effects)+len(h.Undos) > 0 {
				t.Fatalf("round %d: what was refused left %+v", round, h)
			}
		}
		must(t, j.Write(ctx, RunEnded{Stamp: won, Outcome: Done}))
		holds(t, j, "ended")
	}
}

// In a commit of several runs the one that is refused does not harm the others.
func TestRefusedLockHarmsNoOtherRun(t *testing.T) {
	j := openTest(t, t.TempDir())
	ctx := t.Context()
	runs := []Stamp{needing(t, j, "a", "x"), needing(t, j, "b", "x"), needing(t, j, "c", "y"), needing(t, j, "d")}
	release := hold(t, j)
	errs := make([]error, len(runs))
	var wg sync.WaitGroup
	for i, s := range runs {
		must(t, j.WriteLazy(ctx, Logged{Stamp: s, Message: "lazy"}))
		wg.Go(func() { errs[i] = j.Write(ctx, Logged{Stamp: s, Message: "synced"}, disrupt(s, 0)) })
		queued(j, i+1)
	}
	release()
	wg.Wait()
	wantHeld(t, errs[1], "x", runs[0].Run, "a")
	if err := errors.Join(errs[0], errs[2], errs[3]); err != nil {
		t.Error(err)
	}
	holds(t, j, "committed", "x "+runs[0].Run, "y "+runs[2].Run)
	for i, want := range []int{2, 1, 2, 2} {
		if logs, err := j.Logs(ctx, runs[i].Run, 0, 0); err != nil || len(logs) != want {
			t.Errorf("run %d has the lines %v, %v", i, logs, err)
		}
	}
}

// The clean-up of a run that has ended would keep a lock for ever: it takes none, and
// changes nothing while another run holds one.
func TestLocksAndTheCleanUpOfAnEndedRun(t *testing.T) {
	j := openTest(t, t.TempDir())
	ctx := t.Context()
	ended, other := needing(t, j, "ended", "x", "y"), needing(t, j, "other", "y")
	must(t, j.Write(ctx, disrupt(ended, 0), RunEnded{Stamp: ended, Outcome: Failed}))
	var err error
	ended.Epoch, err = j.Adopt(ctx, ended.Run)
	must(t, err)
	must(t, j.Write(ctx, starts(ended, 1<<20)))
	mark := EffectMarked{Stamp: ended, Step: 1 << 20, Fn: "f", Disruptive: true}
	must(t, j.Write(ctx, disrupt(other, 0)))
	wantHeld(t, j.Write(ctx, mark), "y", other.Run, "other")
	must(t, j.Write(ctx, RunEnded{Stamp: other, Outcome: Done}))
	must(t, j.Write(ctx, mark))
	holds(t, j, "cleaned up")
}

func TestUnlock(t *testing.T) {
	for name, tt := range map[string]struct {
		to   []func(Stamp) Record // what becomes of a run that holds a lock
		want problem.Code         // "": it is unlocked
	}{
		"running": {nil, problem.RunWorking},
		"waiting": {[]func(Stamp) Record{waiting}, ""},
		"parked":  {[]func(Stamp) Record{func(s Stamp) Record { return RunParked{Stamp: s} }}, ""},
		"resumed": {[]func(Stamp) Record{waiting, func(s Stamp) Record { return RunResumed{s} }}, problem.RunWorking},
		"ending":  {[]func(Stamp) Record{func(s Stamp) Record { return RunEnding{Stamp: s, Outcome: Failed} }, waiting}, problem.RunWorking},
		"ended":   {[]func(Stamp) Record{func(s Stamp) Record { return RunEnded{Stamp: s, Outcome: Done} }}, problem.RunEnded},
	} {
		t.Run(name, func(t *testing.T) {
			j := openTest(t, t.TempDir())
			s, other := needing(t, j, "p", "y", "x"), needing(t, j, "other", "o")
			must(t, j.Write(t.Context(), disrupt(s, 0)))
			must(t, j.Write(t.Context(), disrupt(other, 0)))
			for _, rec := range tt.to {
				must(t, j.Write(t.Context(), rec(s)))
			}
			before := everything(t, j)
			d := Decided{Stamp: Stamp{Run: s.Run, At: t0}, What: DecidedUnlock, By: "alice"}
			names, err := j.Unlock(t.Context(), d)
			if tt.want != "" {
				if len(names) > 0 || !problem.HasCode(err, tt.want) {
					t.Errorf("got %v, %v, want %s", names, err, tt.want)
				}
				same(t, j, before)
				return
			}
			if err != nil || !slices.Equal(names, []string{"x", "y"}) {
				t.Errorf("got %v, %v", names, err)
			}
			holds(t, j, "unlocked", "o "+other.Run)
			if all, err := j.Decisions(t.Context(), s.Run); err != nil || len(all) != 1 || all[0].What != DecidedUnlock {
				t.Errorf("decisions: %+v, %v", all, err)
			}
			before = everything(t, j)
			if names, err := j.Unlock(t.Context(), d); len(names) > 0 || !problem.HasCode(err, problem.HoldsNone) {
				t.Errorf("a second time: %v, %v", names, err)
			}
			same(t, j, before)
			must(t, j.Write(t.Context(), RunResumed{s}, disrupt(s, 1))) // it takes them again
			holds(t, j, "taken again", "o "+other.Run, "x "+s.Run, "y "+s.Run)
		})
	}
	if _, err := openTest(t, t.TempDir()).Unlock(t.Context(), Decided{Stamp: Stamp{Run: "0123456789", At: t0}}); !problem.HasCode(err, problem.NoRun) {
		t.Errorf("no run: %v", err)
	}
}

func waiting(s Stamp) Record { return RunWaiting{Stamp: s, For: "retry", Until: t0.Add(time.Hour)} }

// everything is all that the journal has, as text.
func everything(t testing.TB, j *Journal) string {
	t.Helper()
	ctx := t.Context()
	runs, err := j.Runs(ctx, Filter{})
	must(t, err)
	all := map[string]any{}
	for _, r := range runs {
		all[r.ID] = history(t, j, r.ID)
		logs, err := j.Logs(ctx, r.ID, 0, 0)
		must(t, err)
		all[r.ID+" logs"] = logs
	}
	var errs [4]error
	all["locks"], errs[0] = j.Locks(ctx)
	all["paused"], errs[1] = j.Paused(ctx)
	all["schedules"], errs[2] = j.Schedules(ctx)
	all["decisions"], errs[3] = j.Decisions(ctx, "")
	must(t, errors.Join(errs[:]...))
	text, err := json.MarshalIndent(all, "", " ")
	must(t, err)
	return string(text)
}

// same fails unless the journal has what it had.
func same(t testing.TB, j *Journal, before string) {
	t.Helper()
	if now := everything(t, j); now != before {
		t.Errorf("the journal was\n%s\nand is\n%s", before, now)
	}
}

func TestPurgeRemovesDecisions(t *testing.T) {
	k := keeping(t)
	old := k.run("a")
	decide := func(run string) Decided {
		return Decided{Stamp: Stamp{Run: run, At: k.clock.Now()}, What: DecidedCleanup, Playbook: "a", By: "alice"}
	}
	must(t, k.Decide(t.Context(), decide(old)))
	must(t, k.Decide(t.Context(), decide("")))
	k.clock.Advance(500 * day)
	young := k.run("a")
	must(t, k.Decide(t.Context(), decide(young)))
	if r := k.purge(Keep{Runs: 400 * day}); r.Runs != 1 {
		t.Errorf("removed %+v", r)
	}
	all, err := k.Decisions(t.Context(), "")
	must(t, err)
	if len(all) != 2 || all[0].Run != "" || all[1].Run != young {
		t.Errorf("the decisions that are left: %+v", all)
	}
}

// oldJournal is a journal of version 3, the last without locks.
func oldJournal(t *testing.T, dir string, runs []oldRun) {
	t.Helper()
	steps, err := migrations()
	must(t, err)
	j, err := open(t.Context(), dir, Options{}, steps[:3])
	must(t, err)
	must(t, j.w.do(t.Context(), &request{fn: func(w *conn) error {
		if _, err := w.exec(`INSERT INTO bundles (hash, created_at) VALUES ('h', 1)`); err != nil {
			return err
		}
		for _, r := range runs {
			if err := r.insert(w); err != nil {
				return err
			}
		}
		return nil
	}}))
	must(t, j.Close())
}

type oldRun struct {
	id, playbook string
	locks        any
	ended        any
	effects      []string // function and state
	marked       int64    // the first of them

	want  string // locks of the run afterwards
	holds []string
}

func (r oldRun) insert(w *conn) error {
	_, err := w.exec(`INSERT INTO runs (id, playbook, bundle, status, epoch, force, created_at, updated_at, ended_at, locks)
		VALUES ($1, $2, 'h', 'waiting', 1, 0, 1, 1, $3, $4)`, r.id, r.playbook, r.ended, r.locks)
	if err == nil {
		_, err = w.exec(`INSERT INTO steps (run, step, kind, name, key, state, attempt, started_at, attempt_at) VALUES ($1, 0, 'step', 'a', '', 'started', 1, 1, 1)`, r.id)
	}
	for n, e := range r.effects {
		fn, state, _ := strings.Cut(e, " ")
		if err == nil {
			_, err = w.exec(`INSERT INTO effects (run, step, n, fn, state, marked_at) VALUES ($1, 0, $2, $3, $4, $5)`, r.id, n, fn, state, r.marked+int64(n))
		}
	}
	return err
}

func TestMigrationOfLocks(t *testing.T) {
	const upload, restart, other = "cucm.Node:upload", "cucm.Node:restart", "dns.Zone:present"
	runs := []oldRun{
		{id: "0000000001", playbook: "top", locks: `["pub"]`, effects: []string{other + " done", upload + " done", restart + " open"}, marked: 10, want: `["pub"]`, holds: []string{"pub"}},
		{id: "0000000002", playbook: "dfw/renew", locks: `["pub","su\"b"]`, effects: []string{upload + " open"}, marked: 50, want: `["dfw/pub","dfw/su\"b"]`, holds: []string{"dfw/pub", `dfw/su"b`}},
		{id: "0000000003", playbook: "dfw/younger", locks: `["pub","more"]`, effects: []string{upload + " done"}, marked: 40, want: `["dfw/pub","dfw/more"]`, holds: []string{"dfw/more"}},
		{id: "0000000004", playbook: "ams/renew", locks: `["pub"]`, effects: []string{restart + " done"}, marked: 60, want: `["ams/pub"]`, holds: []string{"ams/pub"}},
		{id: "0000000005", playbook: "ams/idle", locks: `["idle"]`, want: `["ams/idle"]`},
		{id: "0000000006", playbook: "ams/refused", locks: `["refused"]`, effects: []string{upload + " not_done"}, want: `["ams/refused"]`},
		{id: "0000000007", playbook: "ams/dns", locks: `["dns"]`, effects: []string{other + " done"}, want: `["ams/dns"]`},
		{id: "0000000008", playbook: "ams/none", effects: []string{upload + " done"}, want: `null`},
		{id: "0000000009", playbook: "dfw/ended", locks: `["pub","e"]`, ended: 9, effects: []string{upload + " done"}, want: `["pub","e"]`},
		{id: "000000000a", playbook: "top2", locks: `["pub","own"]`, want: `["pub","own"]`},
	}
	dir := t.TempDir()
	oldJournal(t, dir, runs)
	j := openTest(t, dir)
	var want []string
	for _, r := range runs {
		got, err := json.Marshal(history(t, j, r.id).Run.Locks)
		if err != nil || string(got) != r.want {
			t.Errorf("%s needs %s, want %s, %v", r.playbook, got, r.want, err)
		}
		for _, name := range r.holds {
			want = append(want, name+" "+r.id)
		}
	}
	holds(t, j, "migrated", want...)
	locks, err := j.Locks(t.Context())
	must(t, err)
	taken := map[string]int64{}
	for _, l := range locks {
		taken[l.Name] = l.Taken.UnixNano()
	}
	if want := map[string]int64{"pub": 11, "dfw/pub": 50, `dfw/su"b`: 50, "dfw/more": 40, "ams/pub": 60}; !maps.Equal(taken, want) {
		t.Errorf("taken %v, want %v", taken, want)
	}
	// They continue as runs of today do.
	mark := func(r oldRun) EffectMarked {
		return EffectMarked{Stamp: Stamp{Run: r.id, Epoch: 1, At: t0}, N: 9, Fn: upload, Disruptive: true}
	}
	wantHeld(t, j.Write(t.Context(), mark(runs[2])), "dfw/pub", runs[1].id, "dfw/renew")
	must(t, j.Write(t.Context(), mark(runs[1]), RunEnded{Stamp: Stamp{Run: runs[1].id, Epoch: 1, At: t0}, Outcome: Done}))
	must(t, j.Write(t.Context(), mark(runs[2])))
	if h, err := j.Holders(t.Context()); err != nil || h["dfw/pub"] != runs[2].id || h["dfw/more"] != runs[2].id || h[`dfw/su"b`] != "" {
		t.Errorf("holders: %v, %v", h, err)
	}
}

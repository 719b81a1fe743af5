package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/problem"
)

var t0 = time.Date(2026, 11, 2, 3, 4, 5, 678, time.UTC)

func openTest(t testing.TB, dir string) *Journal {
	t.Helper()
	j, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// newRun makes a run that its test may write with epoch 1.
func newRun(t testing.TB, j *Journal, playbook string) Stamp {
	t.Helper()
	ctx := t.Context()
	must(t, j.SaveBundle(ctx, "hash", []Source{{"a.lua", []byte("return 1")}, {"lib/empty.lua", nil}}))
	s := Stamp{Run: j.NewRunID(), Epoch: 1, At: t0}
	must(t, j.Write(ctx, RunCreated{Stamp: s, Playbook: playbook, Bundle: "hash"}, RunResumed{s}))
	return s
}

func (s Stamp) after(d time.Duration) Stamp {
	s.At = s.At.Add(d)
	return s
}

func (s Stamp) working(d time.Duration) Stamp {
	s.Worked = d
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func history(t testing.TB, j *Journal, run string) *History {
	t.Helper()
	h, err := j.History(t.Context(), run)
	must(t, err)
	return h
}

func TestARunFromBeginningToEnd(t *testing.T) {
	dir := t.TempDir()
	j := openTest(t, dir)
	ctx := t.Context()
	s := newRun(t, j, "dfw")
	refused := &problem.Error{Kind: problem.Unavailable, Call: "dns.present", Message: "answered 503", RetryAfter: t0.Add(time.Hour)}

	must(t, j.Write(ctx, StepStarted{Stamp: s, Step: 0, Kind: "step", Name: "creating_dns_challenge", Key: "k", Attempt: 1, Deadline: t0.Add(time.Minute)}))
	must(t, j.Write(ctx,
		EffectMarked{
			Stamp: s, Step: 0, N: 0, Fn: "dns.present", Args: json.RawMessage(`{"z":1,"a":[]}`), Look: json.RawMessage(`[]`),
			Undo: &UndoSpec{N: 0, Fn: "dns.remove", Args: json.RawMessage(`{"z":1}`), Holds: []string{"txt1", "txt2"}},
		},
		EffectProgress{Stamp: s, Step: 0, N: 0, Progress: json.RawMessage(`{"first":true}`)}))
	must(t, j.Write(ctx, EffectNotDone{Stamp: s, Step: 0, N: 0, Error: refused}, StepFailed{Stamp: s, Step: 0, Attempt: 1, Error: refused, NextAt: t0.Add(time.Second)}))
	must(t, j.Write(ctx, RunWaiting{Stamp: s.after(10 * time.Second).working(10 * time.Second), For: "retry", Until: t0.Add(time.Minute), Failure: true, Error: refused}))

	h := history(t, j, s.Run)
	if r := h.Run; r.Status != Waiting || r.WaitFor != "retry" || !r.WakeAt.Equal(t0.Add(time.Minute)) || r.Failures != 1 ||
		!r.FailingSince.Equal(t0.Add(10*time.Second)) || r.Worked != 10*time.Second || !r.Resumed.IsZero() || !reflect.DeepEqual(r.Error, refused) {
		t.Errorf("waiting: %+v", r)
	}
	if st := h.Steps[0]; st.State != StepRetrying || !st.NextAt.Equal(t0.Add(time.Second)) || !reflect.DeepEqual(st.Error, refused) {
		t.Errorf("retrying: %+v", st)
	}

	late := s.after(time.Minute)
	must(t, j.Write(ctx, RunResumed{late}, StepStarted{Stamp: late, Step: 0, Kind: "step", Name: "creating_dns_challenge", Key: "k", Attempt: 2, Deadline: t0.Add(time.Hour)}))
	must(t, j.Write(ctx, EffectMarked{Stamp: late, Step: 0, N: 1, Fn: "dns.present", Undo: &UndoSpec{N: 1, Fn: "dns.remove"}}))
	must(t, j.Write(ctx, EffectDone{Stamp: late, Step: 0, N: 1, Result: json.RawMessage(`{"id":7}`)}, StepDone{Stamp: late, Step: 0, Result: json.RawMessage(`{"b":1,"a":2}`)}))
	must(t, j.Write(ctx, UndoAdded{Stamp: late, Step: 0, Undo: UndoSpec{N: 2, Fn: "notify", Args: json.RawMessage(`"x"`)}},
		Recorded{Stamp: late, Seq: 0, Data: json.RawMessage(`{"subject":"old"}`)}, Recorded{Stamp: late, Seq: 1, Data: json.RawMessage(`{"subject":"s"}`)},
		HookRan{Stamp: late, Key: "start"}, Logged{Stamp: late, Level: "info", Step: "creating_dns_challenge", Message: "hello", Fields: json.RawMessage(`{"n":1}`)}))
	must(t, j.Write(ctx, RunEnding{Stamp: late, Outcome: Failed, Reason: "enough", Error: refused}))
	must(t, j.Write(ctx, UndoDone{Stamp: late, N: 2}, UndoFailed{Stamp: late, N: 1, Error: refused, NextAt: t0.Add(time.Hour)}, UndoForgotten{Stamp: late, N: 0}))
	must(t, j.Write(ctx, RunEnded{Stamp: s.after(61 * time.Second).working(time.Second)}))

	must(t, j.Close())
	checkEnded(t, openTest(t, dir), s.Run, refused)
}

func checkEnded(t *testing.T, j *Journal, run string, refused *problem.Error) {
	t.Helper()
	h := history(t, j, run)
	if r := h.Run; r.Status != Failed || r.Outcome != Failed || r.Reason != "enough" || r.Failures != 0 || r.Worked != 11*time.Second ||
		!r.Created.Equal(t0) || !r.Started.Equal(t0) || !r.Ended.Equal(t0.Add(61*time.Second)) || !reflect.DeepEqual(r.Error, refused) {
		t.Errorf("run: %+v", r)
	}
	if st := h.Steps[0]; st.State != StepIsDone || st.Attempt != 2 || string(st.Result) != `{"b":1,"a":2}` || st.Error != nil ||
		!st.Deadline.Equal(t0.Add(time.Minute)) || !st.Started.Equal(t0) || !st.AttemptAt.Equal(t0.Add(time.Minute)) || st.Kind != "step" || st.Key != "k" {
		t.Errorf("step: %+v", st)
	}
	if e := h.Effects; len(e) != 2 || e[0].State != EffectIsNotDone || string(e[0].Progress) != `{"first":true}` || string(e[0].Args) != `{"z":1,"a":[]}` ||
		!reflect.DeepEqual(e[0].Error, refused) || e[1].State != EffectIsDone || string(e[1].Result) != `{"id":7}` {
		t.Errorf("effects: %+v", e)
	}
	u := h.Undos
	if len(u) != 3 || u[0].State != UndoIsForgotten || string(u[0].Progress) != `{"first":true}` || u[0].Happened != EffectIsNotDone ||
		u[1].State != UndoPending || u[1].Attempts != 1 || string(u[1].Result) != `{"id":7}` || !u[1].NextAt.Equal(t0.Add(time.Hour)) ||
		u[2].State != UndoIsDone || u[2].Effect != -1 || string(u[2].Args) != `"x"` || !reflect.DeepEqual(u[0].Holds, []string{"txt1", "txt2"}) {
		t.Errorf("undos: %+v", u)
	}
	if len(h.Records) != 2 || len(h.Hooks) != 1 || h.Hooks[0].Key != "start" {
		t.Errorf("records %+v, hooks %+v", h.Records, h.Hooks)
	}
	ctx := t.Context()
	if last, err := j.LastRecords(ctx, "dfw"); err != nil || !reflect.DeepEqual(last, h.Records) || last[1].Run != run {
		t.Errorf("last records: %+v, %v", last, err)
	}
	if last, err := j.LastRecords(ctx, "other"); len(last) > 0 || err != nil {
		t.Errorf("last records of another: %+v, %v", last, err)
	}
	logs, err := j.Logs(ctx, run, 0, 0)
	if err != nil || len(logs) != 1 || logs[0].Message != "hello" || string(logs[0].Fields) != `{"n":1}` || !logs[0].At.Equal(t0.Add(time.Minute)) {
		t.Errorf("logs: %+v, %v", logs, err)
	}
	if more, err := j.Logs(ctx, run, logs[0].Seq, 0); len(more) != 0 || err != nil {
		t.Errorf("logs after the last: %+v, %v", more, err)
	}
	if pending, err := j.Undos(ctx, UndoPending); err != nil || len(pending) != 1 || pending[0].N != 1 || pending[0].Run != run {
		t.Errorf("pending undos: %+v, %v", pending, err)
	}
	src, err := j.Sources(ctx, "hash")
	if err != nil || len(src) != 2 || string(src[0].Body) != "return 1" || src[1].Path != "lib/empty.lua" || len(src[1].Body) != 0 {
		t.Errorf("sources: %+v, %v", src, err)
	}
	// A history goes over the wire and comes back the same.
	b, err := json.Marshal(h)
	must(t, err)
	var again History
	must(t, json.Unmarshal(b, &again))
	if !reflect.DeepEqual(*h, again) {
		t.Errorf("over the wire:\n%+v\n%+v", *h, again)
	}
}

func TestWhatCannotBeIsRefusedAlone(t *testing.T) {
	j := openTest(t, t.TempDir())
	s := newRun(t, j, "p")
	must(t, j.Write(t.Context(), StepStarted{Stamp: s, Step: 0, Kind: "step", Name: "a", Attempt: 1}, StepDone{Stamp: s, Step: 0},
		StepStarted{Stamp: s, Step: 1, Kind: "step", Name: "b", Attempt: 1}, HookRan{s, "start"}))
	stamp := func(run string, epoch int64) Stamp { return Stamp{Run: run, Epoch: epoch, At: t0} }
	for name, r := range map[string]Record{
		"a done step again":                StepStarted{Stamp: s, Step: 0, Kind: "step", Name: "a", Attempt: 2},
		"another name":                     StepStarted{Stamp: s, Step: 1, Kind: "step", Name: "c", Attempt: 2},
		"another kind":                     StepStarted{Stamp: s, Step: 1, Kind: "poll", Name: "b", Attempt: 2},
		"done twice":                       StepDone{Stamp: s, Step: 0},
		"failed after done":                StepFailed{Stamp: s, Step: 0, Final: true},
		"done without start":               StepDone{Stamp: s, Step: 7},
		"an effect of a step that is done": EffectMarked{Stamp: s, Step: 0, Fn: "f"},
		"an effect of no step":             EffectMarked{Stamp: s, Step: 7, Fn: "f"},
		"done without mark":                EffectDone{Stamp: s, Step: 1, N: 0},
		"undo done without undo":           UndoDone{Stamp: s, N: 0},
		"a hook twice":                     HookRan{s, "start"},
		"the run again":                    RunCreated{Stamp: s, Playbook: "p", Bundle: "hash"},
		"no bundle":                        RunCreated{Stamp: stamp("0123456789", 1), Playbook: "p", Bundle: "none"},
		"epoch 0":                          RunCreated{Stamp: stamp("0123456789", 0), Playbook: "p", Bundle: "hash"},
		"no id":                            RunCreated{Stamp: stamp("../x", 1), Playbook: "p", Bundle: "hash"},
		"no run":                           Logged{Stamp: stamp("0123456789", 1)},
		"an epoch to come":                 Logged{Stamp: stamp(s.Run, 2)},
		"no time":                          Logged{Stamp: Stamp{Run: s.Run, Epoch: 1}},
		"no outcome":                       RunEnded{Stamp: s},
		"a wrong outcome":                  RunEnding{Stamp: s, Outcome: Parked},
	} {
		// What stands before it in the same write is not written either.
		err := j.Write(t.Context(), Logged{Stamp: r.Stamped(), Message: "must not stay"}, r)
		if _, created := r.(RunCreated); created {
			err = j.Write(t.Context(), r)
		}
		if !errors.Is(err, ErrMisuse) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if logs, err := j.Logs(t.Context(), s.Run, 0, 0); len(logs) != 0 || err != nil {
		t.Errorf("%v, %v", logs, err)
	}
	other := s
	other.Epoch = 2
	if err := j.Write(t.Context(), Logged{Stamp: s}, Logged{Stamp: other}); !errors.Is(err, ErrMisuse) {
		t.Errorf("two epochs in one write: %v", err)
	}
}

func TestVoidUndo(t *testing.T) {
	j := openTest(t, t.TempDir())
	s := newRun(t, j, "p")
	must(t, j.Write(t.Context(), StepStarted{Stamp: s, Kind: "step", Name: "a", Attempt: 1}, EffectMarked{Stamp: s, Fn: "f", Undo: &UndoSpec{Fn: "g"}},
		EffectNotDone{Stamp: s, VoidUndo: true}))
	if u := history(t, j, s.Run).Undos; len(u) != 1 || u[0].State != UndoVoid {
		t.Errorf("%+v", u)
	}
}

func TestStaleEpoch(t *testing.T) {
	j := openTest(t, t.TempDir())
	ctx := t.Context()
	old := newRun(t, j, "p")
	must(t, j.Write(ctx, Logged{Stamp: old, Message: "alive"}, StepStarted{Stamp: old.after(5 * time.Second), Kind: "step", Name: "a", Attempt: 1}))
	epoch, err := j.Adopt(ctx, old.Run)
	if epoch != 2 || err != nil {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	if h := history(t, j, old.Run); h.Run.Worked != 5*time.Second || !h.Run.Resumed.IsZero() || h.Run.Status != Running || h.Run.Epoch != 2 {
		t.Errorf("adopted: %+v", h.Run)
	}
	now := old
	now.Epoch = epoch
	must(t, j.Write(ctx, RunDied{now, -1}, Logged{Stamp: now, Message: "new"}))
	if err := j.Write(ctx, Logged{Stamp: old, Message: "stale"}); !errors.Is(err, ErrStaleEpoch) || problem.From(err).Kind != problem.Conflict {
		t.Errorf("stale: %v", err)
	}
	must(t, j.WriteLazy(ctx, Logged{Stamp: old, Message: "stale and lazy"}))
	must(t, j.Write(ctx, Logged{Stamp: now, Message: "newer"}))
	logs, err := j.Logs(ctx, old.Run, 0, 0)
	must(t, err)
	var messages []string
	for _, l := range logs {
		messages = append(messages, l.Message)
	}
	if got := strings.Join(messages, ","); got != "alive,new,newer" {
		t.Errorf("logs: %s", got)
	}
	if _, err := j.Adopt(ctx, "0123456789"); problem.From(err).Kind != problem.NotFound {
		t.Errorf("adopt nothing: %v", err)
	}
}

func TestDeaths(t *testing.T) {
	j := openTest(t, t.TempDir())
	s := newRun(t, j, "p")
	must(t, j.Write(t.Context(), StepStarted{Stamp: s, Kind: "step", Name: "a", Attempt: 1}, RunDied{s, 0}, RunDied{s, 0}, RunDied{s, -1}))
	h := history(t, j, s.Run)
	if h.Run.Deaths != 3 || h.Steps[0].Deaths != 2 {
		t.Errorf("%+v", h)
	}
}

func TestRunsAndUnfinished(t *testing.T) {
	j := openTest(t, t.TempDir())
	ctx := t.Context()
	a, b, c := newRun(t, j, "x"), newRun(t, j, "y"), newRun(t, j, "x")
	must(t, j.Write(ctx, RunEnded{Stamp: a, Outcome: Done}))
	must(t, j.Write(ctx, RunParked{Stamp: b, Reason: "cannot tell"}))
	ids := func(runs []Run, err error) string {
		must(t, err)
		var out []string
		for _, r := range runs {
			out = append(out, map[string]string{a.Run: "a", b.Run: "b", c.Run: "c"}[r.ID])
		}
		return strings.Join(out, "")
	}
	for _, tt := range []struct{ got, want string }{
		{ids(j.Runs(ctx, Filter{})), "cba"},
		{ids(j.Runs(ctx, Filter{Playbook: "x"})), "ca"},
		{ids(j.Runs(ctx, Filter{Playbook: "x", Status: Done})), "a"},
		{ids(j.Runs(ctx, Filter{Limit: 2})), "cb"},
		{ids(j.Unfinished(ctx, "x")), "c"},
		{ids(j.Unfinished(ctx, "")), "bc"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
	if r, err := j.Run(ctx, strings.ToUpper(b.Run)); err != nil || r.Status != Parked || r.Reason != "cannot tell" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := j.Run(ctx, "0123456789"); problem.From(err).Kind != problem.NotFound {
		t.Errorf("%v", err)
	}
	if _, err := j.Run(ctx, "nonsense!"); problem.From(err).Kind != problem.Usage {
		t.Errorf("%v", err)
	}
}

func TestHeldBy(t *testing.T) {
	j := openTest(t, t.TempDir())
	ctx := t.Context()
	hold := func(values ...string) Stamp {
		s := newRun(t, j, "p")
		must(t, j.Write(ctx, UndoAdded{Stamp: s, Undo: UndoSpec{Fn: "f", Holds: values}}))
		return s
	}
	mine, other, ended, undone := hold("a", "b"), hold("b", "c"), hold("d"), hold("e")
	must(t, j.Write(ctx, RunEnded{Stamp: ended, Outcome: Failed}))
	must(t, j.Write(ctx, UndoDone{Stamp: undone}))
	held, err := j.HeldBy(ctx, []string{"a", "b", "d", "e"}, mine.Run)
	if want := map[string]string{"b": other.Run}; err != nil || !reflect.DeepEqual(held, want) {
		t.Errorf("%v, %v", held, err)
	}
}

func TestRunIDs(t *testing.T) {
	dir := t.TempDir()
	clock := clockwork.NewFakeClockAt(t0)
	j, err := Open(t.Context(), dir, Options{Clock: clock})
	must(t, err)
	seen := map[string]bool{}
	last := ""
	for range 2000 {
		id := j.NewRunID()
		if parsed, err := ParseRunID(id); seen[id] || id <= last || parsed != id || err != nil {
			t.Fatalf("%s after %s, %v", id, last, err)
		}
		seen[id], last = true, id
	}
	must(t, j.SaveBundle(t.Context(), "h", nil))
	must(t, j.Write(t.Context(), RunCreated{Stamp: Stamp{Run: last, Epoch: 1, At: t0}, Playbook: "p", Bundle: "h"}))
	must(t, j.Close())
	// Also after a restart at the same instant, and with the clock set back.
	j, err = Open(t.Context(), dir, Options{Clock: clockwork.NewFakeClockAt(time.Unix(0, 0))})
	must(t, err)
	defer func() { _ = j.Close() }()
	if id := j.NewRunID(); id <= last {
		t.Errorf("%s after %s", id, last)
	}
	if got, err := ParseRunID(" OIL3456789"); got != "0113456789" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
}

func TestEveryRecordGoesOverTheWire(t *testing.T) {
	s := Stamp{Run: "0123456789", Epoch: 3, At: t0}
	e := &problem.Error{Kind: problem.Auth, Message: "no", Place: &problem.Place{File: "a.lua", Line: 3}}
	r := json.RawMessage(`{"b":1,"a":2}`)
	u := UndoSpec{1, "f", r, []string{"x"}, r}
	all := []Record{
		RunCreated{s, "p", "h", true, []string{"l"}},
		RunResumed{s},
		RunWaiting{s, "poll", t0, true, e},
		RunParked{s, "r", e},
		RunDied{s, -1},
		RunEnding{s, Done, "r", e, []string{"l"}},
		RunEnded{s, Done, "r", e},
		StepStarted{s, 1, "step", "n", "k", 2, t0},
		StepDone{s, 1, r},
		StepFailed{s, 1, 2, e, t0, true},
		DeadlineSet{s, 1, t0},
		EffectMarked{s, 1, 2, "f", r, r, &u, true},
		EffectProgress{s, 1, 2, r},
		EffectDone{s, 1, 2, r},
		EffectNotDone{s, 1, 2, e, true},
		UndoAdded{s, 1, u},
		UndoDone{s, 1},
		UndoFailed{s, 1, e, t0},
		UndoForgotten{s, 1},
		Decided{s, "resume", "p", "alice", "CHG1", "because", "done"},
		Logged{s, "info", "n", "m", r},
		Recorded{s, 1, r},
		HookRan{s, "k"},
	}
	if len(all) != len(types) {
		t.Errorf("%d records, %d types", len(all), len(types))
	}
	var packed []byte
	for _, rec := range all {
		b, err := Encode(rec)
		must(t, err)
		if got, err := Decode(b); err != nil || !reflect.DeepEqual(got, rec) {
			t.Errorf("%s\n%+v\n%+v, %v", b, rec, got, err)
		}
		packed, err = Pack(packed, rec)
		must(t, err)
	}
	for _, rec := range all {
		got, rest, err := Unpack(packed)
		if err != nil || !reflect.DeepEqual(got, rec) {
			t.Fatalf("%+v\n%+v, %v", rec, got, err)
		}
		packed = rest
	}
	for _, bad := range []string{``, `{}`, `null`, `{"type":"x","record":{}}`, `{"type":"step_done","record":{"stepp":1}}`, `{"type":"step_done","record":{"step":"1"}}`, `{"type":"hook_ran","record":{}} x`} {
		if _, err := Decode([]byte(bad)); !errors.Is(err, ErrMisuse) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, err := Encode(StepDone{Stamp{Run: "0123456789", Epoch: 1, At: t0}, 1, json.RawMessage(`1`)})
	must(f, err)
	f.Add(b)
	f.Add([]byte(`{"type":"effect_marked","record":{"undo":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Encode(r)
		if err != nil {
			t.Fatalf("%+v cannot be encoded: %v", r, err)
		}
		if _, err := Decode(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}

func FuzzUnpack(f *testing.F) {
	b, err := Pack(nil, StepDone{Stamp{Run: "0123456789", Epoch: 1, At: t0}, 1, json.RawMessage(`1`)})
	must(f, err)
	f.Add(b)
	f.Add(append(b, b...))
	f.Add(b[:len(b)-1])
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\x7fstep_done"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			r, rest, err := Unpack(b)
			if err != nil {
				if !errors.Is(err, ErrMisuse) {
					t.Fatal(err)
				}
				return
			}
			again, err := Pack(nil, r)
			if err != nil {
				t.Fatalf("%+v cannot be packed: %v", r, err)
			}
			if same, left, err := Unpack(again); err != nil || len(left) > 0 || same.Type() != r.Type() {
				t.Fatalf("%s: %+v, %v", again, same, err)
			}
			b = rest
		}
	})
}

func ExampleJournal_Write() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "moonseal")
	defer func() { _ = os.RemoveAll(dir) }()
	j, err := Open(ctx, dir, Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = j.Close() }()
	_ = j.SaveBundle(ctx, "sha256:1234", []Source{{Path: "dfw.lua", Body: []byte("return {}")}})
	s := Stamp{Run: j.NewRunID(), Epoch: 1, At: time.Now()}
	_ = j.Write(ctx, RunCreated{Stamp: s, Playbook: "dfw", Bundle: "sha256:1234"})
	_ = j.WriteLazy(ctx, StepStarted{Stamp: s, Kind: "step", Name: "generating_csr", Attempt: 1})
	_ = j.Write(ctx, StepDone{Stamp: s, Result: json.RawMessage(`{"csr":"…"}`)})

	h, _ := j.History(ctx, s.Run)
	fmt.Println(h.Steps[0].Name, h.Steps[0].State)
	// Output: generating_csr done
}

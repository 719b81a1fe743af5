package journal

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/problem"
)

func text64(n int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("x", n-2) + `"`) }

// Each value has a bound of its own.
func TestQuotaOfAValue(t *testing.T) {
	long := text64(MostValue + 1)
	e := &problem.Error{Message: string(long)}
	for _, r := range []Record{
		StepStarted{Kind: "step", Name: string(long[:MostName])},
		StepDone{Result: long},
		StepFailed{Error: e},
		EffectMarked{Args: long},
		EffectMarked{Look: long},
		EffectMarked{Undo: &UndoSpec{Args: long}},
		EffectMarked{Undo: &UndoSpec{Holds: []string{string(long)}}},
		EffectProgress{Progress: long},
		EffectDone{Result: long},
		EffectNotDone{Error: e},
		UndoAdded{Undo: UndoSpec{Args: long}},
		UndoFailed{Error: e},
		Recorded{Data: long},
		HookRan{Key: string(long)},
		RunWaiting{For: string(long)},
		RunParked{Error: e},
		RunEnding{Reason: string(long)},
		RunEnded{Error: e},
	} {
		var q Quota
		over, ok := errors.AsType[*OverError](q.Check(ToKeep, r))
		if !ok || over.Run || over.Size <= over.Most {
			t.Errorf("%s: %+v", r.Type(), over)
		}
	}
	for _, r := range []Record{
		StepDone{Result: text64(MostValue)},
		EffectMarked{Args: text64(MostValue), Look: text64(MostValue), Undo: &UndoSpec{Args: text64(MostValue)}},
		Logged{Message: string(long)},
		RunResumed{},
		DeadlineSet{},
	} {
		var q Quota
		if err := q.Check(ToBegin, r); err != nil {
			t.Errorf("%s: %v", r.Type(), err)
		}
	}
}

// What replaces another value counts once; what has happened has room that what begins
// has not.
func TestQuotaOfAHistory(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	var q Quota
	big := text64(MostValue)
	full := func(p Purpose) (n int) {
		for q.Check(p, StepDone{Step: n, Result: big}) == nil {
			q.Add(StepDone{Step: n, Result: big})
			n++
		}
		return n
	}
	if n := full(ToBegin); n != MostHistory/MostValue {
		t.Errorf("%d", n)
	}
	over, ok := errors.AsType[*OverError](q.Check(ToBegin, HookRan{Key: "k"}))
	if !ok || !over.Run || over.Most != MostHistory || over.Size <= MostHistory {
		t.Errorf("%+v", over)
	}
	if err := q.Check(ToBegin, StepDone{Step: 1, Result: big}); err != nil {
		t.Errorf("again: %v", err)
	}
	for range 100 {
		if err := q.Check(ToKeep, EffectProgress{Progress: big}); err != nil {
			t.Fatal(err)
		}
		q.Add(EffectProgress{Progress: big})
	}
	if full(ToEnd); q.used > MostHistory+int64(ToEnd) || q.Check(ToKeep, StepDone{Step: 1000, Result: big}) != nil {
		t.Errorf("%d", q.used)
	}
	if full(ToKeep); q.used > MostHistory+reserve {
		t.Errorf("%d", q.used)
	}

	// One that only an older version can have made.
	old := &History{}
	for i := range 70 {
		old.Steps = append(old.Steps, Step{Step: i, Result: text64(MostValue)})
	}
	of := QuotaOf(old)
	if err := of.Check(ToBegin, StepDone{Step: 1000, Result: big}); err != nil {
		t.Error(err)
	}
	// No process of this version makes one, whatever it sends.
	q = *QuotaOf(&History{Steps: []Step{{Result: text64(MostHistory + reserve - rowWeight)}}})
	if q.used != MostHistory+reserve || q.Check(ToKeep, HookRan{Key: "k"}) == nil {
		t.Errorf("%d", q.used)
	}
}

// What a process counts as it goes is what the next one finds.
func TestQuotaIsThatOfTheJournal(t *testing.T) {
	j := openTest(t, t.TempDir())
	s := newRun(t, j, "p")
	e := &problem.Error{Kind: problem.Refused, Message: "no", Hint: "h"}
	recs := []Record{
		RunResumed{Stamp: s},
		StepStarted{Stamp: s, Kind: "step", Name: "n", Key: "k", Attempt: 1},
		EffectMarked{Stamp: s, Fn: "f", Args: text64(100), Look: text64(50), Undo: &UndoSpec{Fn: "f", Args: text64(100), Holds: []string{"h"}}},
		EffectProgress{Stamp: s, Progress: text64(500)},
		EffectProgress{Stamp: s, Progress: text64(70)},
		EffectDone{Stamp: s, Result: text64(30)},
		StepFailed{Stamp: s, Attempt: 1, Error: e, NextAt: time.Now()},
		StepStarted{Stamp: s, Kind: "step", Name: "n", Key: "k", Attempt: 2},
		EffectMarked{Stamp: s, N: 1, Fn: "f"},
		EffectNotDone{Stamp: s, N: 1, Error: e},
		StepFailed{Stamp: s, Attempt: 2, Error: e, Final: true},
		UndoAdded{Stamp: s, Step: -1, Undo: UndoSpec{N: 1, Fn: "d", Args: text64(20)}},
		UndoFailed{Stamp: s, N: 1, Error: e},
		Recorded{Stamp: s, Data: text64(40)},
		HookRan{Stamp: s, Key: "start"},
		Logged{Stamp: s, Level: "info", Message: strings.Repeat("x", 1000)},
		RunWaiting{Stamp: s, For: "a retry", Error: e},
	}
	var q Quota
	for _, r := range recs {
		must(t, q.Check(ToBegin, r))
		q.Add(r)
		must(t, j.Write(t.Context(), r))
	}
	h, err := j.History(t.Context(), s.Run)
	must(t, err)
	found := QuotaOf(h)
	if found.used != q.used || !reflect.DeepEqual(found.sizes, q.sizes) {
		t.Errorf("%d\n%v\nfound %d\n%v", q.used, q.sizes, found.used, found.sizes)
	}
	for _, r := range recs {
		if _, logged := r.(Logged); !logged && len(parts(nil, r)) > 0 && Size(r) == 0 {
			t.Errorf("%s has no size", r.Type())
		}
	}
}

func someHistory() *History {
	at := time.Unix(1700000000, 5).UTC()
	return &History{
		Run:       Run{ID: "0123456789", Playbook: "p", Status: Running, Epoch: 2, Created: at},
		Steps:     []Step{{Step: 0, Kind: "step", Name: "n", State: StepIsDone, Result: json.RawMessage(`{"b":1,"a":"<&>"}`)}, {Step: 1, Error: &problem.Error{Message: "m"}}},
		Effects:   []Effect{{N: 1, Fn: "f", Args: json.RawMessage(`[1]`), State: EffectOpen, Marked: at}},
		Undos:     []Undo{{N: 0, Fn: "f", Holds: []string{"h"}, State: UndoPending}},
		Records:   []RecordedRow{{Seq: 0, Data: json.RawMessage(`{}`), At: at}},
		Hooks:     []HookRow{{Key: "k", At: at}},
		Decisions: []Decided{{Stamp: Stamp{At: at}, What: DecidedCancel, By: "alice"}},
		LogSize:   LogSize{Lines: 3, Bytes: 4, EventLines: 5, EventBytes: 6},
	}
}

func packed(t testing.TB, h *History) (b []byte) {
	t.Helper()
	h.rows(func(row Row) {
		var err error
		if b, err = AppendRow(b, row); err != nil {
			t.Fatal(err)
		}
	})
	return b
}

// A history comes as it was sent, in whatever pieces.
func TestCollector(t *testing.T) {
	want := someHistory()
	b := packed(t, want)
	for _, size := range []int{1, 2, 7, 100, len(b)} {
		var c Collector
		for rest := b; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			must(t, c.Add(rest[:min(size, len(rest))]))
		}
		got, err := c.History()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("in pieces of %d: %v\n%+v\nwant %+v", size, err, got, want)
		}
	}
	var c Collector
	must(t, c.Add(b[:len(b)-1]))
	if h, err := c.History(); err == nil {
		t.Errorf("half of it: %+v", h)
	}
	for _, bad := range []string{"?", "s\x02{]", "s\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "l\x04null\x00"} {
		var c Collector
		if err := c.Add([]byte(bad)); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func FuzzCollector(f *testing.F) {
	b := packed(f, someHistory())
	f.Add(b, 10)
	f.Add(b[:len(b)-1], 1)
	f.Add([]byte("s\xff\xff\xff\xff\x0f{"), 3)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		size = max(1, size)
		var whole, pieces Collector
		err := whole.Add(b)
		var inPieces error
		for rest := b; len(rest) > 0 && inPieces == nil; rest = rest[min(size, len(rest)):] {
			inPieces = pieces.Add(rest[:min(size, len(rest))])
		}
		if (err == nil) != (inPieces == nil) {
			t.Fatalf("whole: %v, in pieces of %d: %v", err, size, inPieces)
		}
		if err != nil {
			return
		}
		h, err := whole.History()
		if err != nil {
			return
		}
		if again, err := pieces.History(); err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("%v\n%+v\nwant %+v", err, again, h)
		}
		var c Collector
		if err := c.Add(packed(t, h)); err != nil {
			t.Fatal(err)
		}
	})
}

package run_test

import (
	"strings"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

func TestParkedRunGoesOnAsAPersonSays(t *testing.T) {
	for as, want := range map[string]int{run.AsDone: 0, run.AsAgain: 1} {
		l := newLab(t, script(`ctx:step("one", function() return world.thing { name = "a" }:blindly() end)`))
		l.killAt(run.AfterMark, "world.Thing:blindly", 1)
		_, _ = l.process(t.Context())
		l.trace = nil
		if out := l.must(l.process(t.Context())); out.Status != journal.Parked {
			t.Fatalf("%+v", out)
		}
		epoch, err := l.journal.Adopt(t.Context(), l.id)
		if err != nil {
			t.Fatal(err)
		}
		stamp := journal.Stamp{Run: l.id, Epoch: epoch, At: time.Now()}
		for _, bad := range []string{"", "dnoe"} {
			if _, err := run.DecideCalls(l.history(), stamp, nil, verdict(bad, "")); err == nil || problem.From(err).Kind != problem.Usage {
				t.Errorf("as %q: %v", bad, err)
			}
		}
		result := ""
		if as == run.AsDone {
			result = `{"id":1}`
		}
		recs, err := run.DecideCalls(l.history(), stamp, l.registry(), verdict(as, result))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.journal.Write(t.Context(), recs...); err != nil {
			t.Fatal(err)
		}
		if out := l.must(l.process(t.Context())); out.Status != journal.Done || len(l.world.made) != want {
			t.Errorf("as %s: %+v, made %v", as, out, l.world.made)
		}
	}
}

func TestParkedRunAsksOnceMore(t *testing.T) {
	l := newLab(t, script(`ctx:step("one", function() return world.thing { name = "a" }:make() end)`))
	l.killAt(run.AfterAnswer, "world.Thing:make", 1)
	_, _ = l.process(t.Context())
	l.trace = nil
	l.world.out = true
	if out := l.must(l.process(t.Context())); out.Status != journal.Parked {
		t.Fatalf("%+v", out)
	}
	l.world.out = false
	if recs, err := run.DecideCalls(l.history(), journal.Stamp{}, nil, verdict(run.AsLook, "")); err != nil || len(recs) > 0 {
		t.Fatalf("look says %v, %v", recs, err)
	}
	if out := l.must(l.process(t.Context())); out.Status != journal.Done || len(l.world.made) != 1 {
		t.Errorf("%+v, made %v", out, l.world.made)
	}
}

// An error that says so parks the run, whatever its kind; once resumed, the run attempts
// the step again.
func TestErrorThatParks(t *testing.T) {
	for _, tt := range []struct {
		kind problem.Kind
		body string
	}{
		{problem.Conflict, `ctx:step("one", function() return world.thing { name = "a" }:make() end)`},
		{problem.Unavailable, `ctx:step("one", { retry = 5 }, function() return world.thing { name = "a" }:make() end)`},
		{problem.Unavailable, `ctx:poll("one", function() return world.thing { name = "a" }:there() end) ctx:step("two", function() return world.thing { name = "a" }:make() end)`},
		{problem.Conflict, `pcall(function() ctx:step("one", function() return world.thing { name = "a" }:make() end) end)`},
	} {
		l := newLab(t, script(tt.body))
		stuck := &problem.Error{Kind: tt.kind, Work: problem.NotDone, Park: true, Message: "the old one is served"}
		for range 2 {
			l.world.fail["a"], l.world.fail["there a"], l.world.there["a"] = stuck, stuck, true
			out := l.must(l.process(t.Context()))
			if out.Status != journal.Parked || !strings.HasPrefix(out.Reason, "step one: ") || !strings.Contains(out.Reason, "the old one is served") || out.Error == nil {
				t.Fatalf("%s: %+v", tt.body, out)
			}
			if h := l.history(); h.Run.Status != journal.Parked || h.Run.Error == nil || h.Run.Error.Step != "one" || len(run.Unclear(h)) > 0 {
				t.Fatalf("%s: journaled %+v", tt.body, h.Run)
			}
		}
		clear(l.world.fail)
		if out := l.must(l.process(t.Context())); out.Status != journal.Done || len(l.world.made) != 1 {
			t.Errorf("%s: %+v, made %v", tt.body, out, l.world.made)
		}
	}
}

package run_test

import (
	"strings"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// decide answers the approval that the lab's run waits for.
func (l *lab) decide(approve bool) {
	l.t.Helper()
	epoch, err := l.journal.Adopt(l.t.Context(), l.id)
	if err != nil {
		l.t.Fatal(err)
	}
	stamp := journal.Stamp{Run: l.id, Epoch: epoch, At: time.Now()}
	rec, waits, err := run.DecideApproval(l.history(), stamp, approve, run.Approval{By: "alice", Ticket: "CHG1", Reason: "ok so", At: time.Now()})
	if err != nil || !waits {
		l.t.Fatalf("%v, %v", waits, err)
	}
	if err := l.journal.Write(l.t.Context(), rec); err != nil {
		l.t.Fatal(err)
	}
}

func TestApprove(t *testing.T) {
	src := script(`local who = ctx:approve "really?"
		ctx:step("one", function() return world.thing { name = "a" }:make() end)
		ctx:record { subject = "x", data = { by = who.by, ticket = who.ticket } }`)
	for _, approve := range []bool{true, false} {
		l := newLab(t, src)
		for range 2 {
			out := l.must(l.process(t.Context()))
			if out.Status != journal.Waiting || out.Reason != "approval: really?" || len(l.world.made) != 0 {
				t.Fatalf("%+v", out)
			}
		}
		l.decide(approve)
		out := l.must(l.process(t.Context()))
		if approve && (out.Status != journal.Done || len(l.world.made) != 1 || string(l.history().Records[0].Data) != `{"subject":"x","data":{"by":"alice","ticket":"CHG1"}}`) {
			t.Errorf("approved: %+v, made %v", out, l.world.made)
		}
		if !approve && (out.Status != journal.Failed || out.Error.Kind != problem.Refused || out.Error.Message != "denied by alice: ok so" || len(l.world.made) != 0) {
			t.Errorf("denied: %+v", out)
		}
	}
}

func TestModes(t *testing.T) {
	source := func(mode string) string {
		return `return { mode = "` + mode + `", run = function(ctx)
			ctx:step("look", function() local there = world.thing { name = "a" }:there() return there end)
			ctx:step("one", function() return world.thing { name = "a" }:make() end)
			ctx:step("two", function() return world.thing { name = "b" }:make() end)
		end }`
	}
	l := newLab(t, source("watch"))
	if out := l.must(l.process(t.Context())); out.Status != journal.Skipped || !strings.Contains(out.Reason, "world.Thing:make") || len(l.world.made) != 0 || l.world.asks != 1 {
		t.Errorf("watch: %+v, made %v", out, l.world.made)
	}
	l = newLab(t, source("ask"))
	if out := l.must(l.process(t.Context())); out.Status != journal.Waiting || out.Reason != "approval: the first change, world.Thing:make" || len(l.world.made) != 0 {
		t.Fatalf("ask: %+v", out)
	}
	l.decide(true)
	if out := l.must(l.process(t.Context())); out.Status != journal.Done || len(l.world.made) != 2 {
		t.Errorf("ask, approved once: %+v, made %v", out, l.world.made)
	}
}

// hours is open for an hour from its instant on.
type hours struct{ from time.Time }

func (h hours) Open(t time.Time) bool { return !t.Before(h.from) && t.Before(h.from.Add(time.Hour)) }

func (h hours) Next(t time.Time) (opens, closes time.Time) {
	if h.Open(t) {
		return t, h.from.Add(time.Hour)
	}
	return h.from, h.from.Add(time.Hour)
}

func TestNothingIsChangedOutsideOfTheWindow(t *testing.T) {
	l := newLab(t, script(`ctx:step("free", function() return world.thing { name = "a" }:make() end)
		ctx:step("guarded", function() return world.thing { name = "b" }:guarded() end)`))
	opens := l.clock.Now().Add(5 * time.Hour)
	l.window = hours{opens}
	for range 2 {
		out := l.must(l.process(t.Context()))
		if out.Status != journal.Waiting || out.Reason != "window" || !out.Until.Equal(opens) || strings.Join(l.world.made, "") != "a" {
			t.Fatalf("%+v, made %v", out, l.world.made)
		}
	}
	l.clock.offset += 5 * time.Hour
	if out := l.must(l.process(t.Context())); out.Status != journal.Done || strings.Join(l.world.made, "") != "ab" {
		t.Errorf("%+v, made %v", out, l.world.made)
	}
}

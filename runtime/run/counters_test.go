package run_test

import (
	"strings"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// A step that recovers after days, or fails for good and is caught, leaves nothing of its
// failing to the next: that one waits a minute after its first failure.
func TestFailuresAreTheStepsOwn(t *testing.T) {
	for _, fails := range []*problem.Error{nil, {Kind: problem.Refused, Message: "no"}} {
		for _, killed := range []bool{false, true} {
			l := newLab(t, script(`pcall(function() ctx:step("one", { retry = 1 }, function() return world.thing { name = "a" }:make() end) end)
				ctx:step("two", { retry = 1 }, function() return world.thing { name = "b" }:make() end)`))
			for l.clock.offset < 8*24*time.Hour && l.history().Run.Failures < 9 {
				if l.history().Run.Failures == 8 {
					break
				}
				l.world.fail["a"] = &problem.Error{Kind: problem.Unavailable, Message: "down", Work: problem.NotDone}
				out := l.must(l.process(t.Context()))
				if out.Status != journal.Waiting {
					t.Fatalf("%+v", out)
				}
				l.clock.offset += out.Until.Sub(l.clock.Now())
			}
			if fails != nil {
				l.world.fail["a"] = fails
			} else {
				delete(l.world.fail, "a")
			}
			if killed && fails == nil {
				l.killAt(run.AfterStep, "one", 1)
				_, _ = l.process(t.Context())
				l.trace = nil
			}
			l.world.fail["b"] = &problem.Error{Kind: problem.Unavailable, Message: "busy", Work: problem.NotDone}
			out := l.must(l.process(t.Context()))
			if wait := out.Until.Sub(l.clock.Now()); out.Status != journal.Waiting || out.Reason != "retry of two" || wait > time.Minute || l.history().Run.Failures != 1 {
				t.Errorf("failing %v, killed %v: %+v in %s, %d failures", fails, killed, out, wait, l.history().Run.Failures)
			}
		}
	}
}

// Each wait is told to the hook once, and without an end if it has none.
func TestEachWaitHasItsHook(t *testing.T) {
	l := newLab(t, `return { run = function(ctx)
		ctx:approve "first"
		ctx:approve "second"
	end, on = { wait = function(ctx, e) world.say { name = e.reason .. " " .. tostring(e["until"]) } end } }`)
	for range 2 {
		for range 2 {
			if out := l.must(l.process(t.Context())); out.Status != journal.Waiting {
				t.Fatalf("%+v", out)
			}
		}
		l.decide(true)
	}
	if out := l.must(l.process(t.Context())); out.Status != journal.Done {
		t.Fatalf("%+v", out)
	}
	logs, err := l.journal.Logs(t.Context(), l.id, 0, 0)
	var said []string
	for _, line := range logs {
		if strings.HasPrefix(line.Message, "approval: ") {
			said = append(said, line.Message)
		}
	}
	if err != nil || strings.Join(said, ", ") != "approval: first nil, approval: second nil" {
		t.Errorf("%q, %v", said, err)
	}
}

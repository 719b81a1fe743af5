package run_test

import (
	"strings"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// A replay that ends before the last step that the journal has parks, however it ends,
// and keeps its undos; cancel ends it and cleans up.
func TestReplayThatEndsEarlyParks(t *testing.T) {
	const steps = `
		ctx:step("one", function() return world.thing { name = "a" }:make() end)
		ctx:step("two", function() return world.thing { name = "b" }:make() end)
		ctx:step("three", function() return 3 end)`
	for _, tc := range []struct{ name, then, line string }{
		{"returns", `ctx:step("one", function() end) return`, "2"},
		{"skips", "ctx:step(\"one\", function() end)\n ctx:skip \"not due\"", "3"},
		{"raises", "ctx:step(\"one\", function() end)\n\n error \"oops\"", "4"},
		{"raises a module's error", "ctx:step(\"one\", function() end)\n ctx:step(\"two\", 1)", "3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t, script(steps))
			l.killAt(run.AfterStep, "two", 1)
			_, _ = l.process(t.Context())
			l.trace, l.source = nil, script(tc.then)
			for range 2 {
				out := l.must(l.process(t.Context()))
				if out.Status != journal.Parked || !strings.Contains(out.Reason, `step "two"`) || !strings.Contains(out.Reason, "p.lua:"+tc.line+",") {
					t.Fatalf("%+v", out)
				}
			}
			if undos, err := l.journal.Undos(t.Context(), journal.UndoPending); err != nil || len(undos) != 2 || len(l.world.there) != 2 {
				t.Errorf("left to undo: %+v, %v", undos, err)
			}
			l.mode = run.Cancel
			if out := l.must(l.process(t.Context())); out.Status != journal.Cancelled || len(l.world.there) != 0 {
				t.Errorf("cancelled: %+v, there %v", out, l.world.there)
			}
		})
	}
}

// One that is cancelled has not diverged; and a script that does not end is not waited
// for.
func TestCancelNeedsNoScript(t *testing.T) {
	for _, body := range []string{`return`, `error "oops"`, `while true do end`} {
		l := newLab(t, script(makeTwo))
		l.killAt(run.AfterStep, "two", 1)
		_, _ = l.process(t.Context())
		l.trace, l.source, l.mode, l.gracePeriod = nil, script(body), run.Cancel, 20*time.Millisecond
		if out := l.must(l.process(t.Context())); out.Status != journal.Cancelled || len(l.world.there) != 0 {
			t.Errorf("%s: %+v, there %v", body, out, l.world.there)
		}
	}
}

// A step that is refused inside pcall has no number.
func TestRefusedStepLeavesNoGap(t *testing.T) {
	l := newLab(t, script(`
		local n = 0
		pcall(function() ctx:step("bad", function() n = 1 end) end)
		pcall(function() ctx:step("bad\255", function() end) end)
		pcall(function() ctx:step("bad", { key = "\255" }, function() end) end)
		ctx:step("bad", function() return world.thing { name = "a" }:make() end)
		ctx:step("two", function() return world.thing { name = "b" }:make() end)`))
	l.killAt(run.AfterStep, "bad", 1)
	_, _ = l.process(t.Context())
	l.trace = nil
	if out := l.must(l.process(t.Context())); out.Status != journal.Done || strings.Join(l.world.made, " ") != "a b" {
		t.Errorf("%+v, made %v", out, l.world.made)
	}
	if steps := l.history().Steps; len(steps) != 2 || steps[1].Step != 1 {
		t.Errorf("%+v", steps)
	}
}

func TestStepsAreNamedInUTF8(t *testing.T) {
	for _, body := range []string{`ctx:step("a\255", function() end)`, `ctx:step("a", { key = "\255" }, function() end)`, `ctx:approve "\255"`} {
		l := newLab(t, script(body))
		out := l.must(l.process(t.Context()))
		if out.Status != journal.Failed || out.Error.Kind != problem.Usage || !strings.Contains(out.Error.Message, "UTF-8") || out.Error.Place == nil || out.Error.Place.Line != 2 {
			t.Errorf("%s: %+v", body, out)
		}
	}
}

// ctx:defer with other data than the journal has parks, naming both.
func TestDeferWithOtherDataParks(t *testing.T) {
	source := func(data string) string {
		return script(`ctx:defer(function(d) world.thing { name = d.name }:make() end, ` + data + `)
			ctx:step("one", function() return 1 end)
			ctx:step("two", function() return 2 end)`)
	}
	l := newLab(t, source(`{ name = "R&D", n = 1 }`))
	l.killAt(run.AfterStep, "one", 1)
	_, _ = l.process(t.Context())
	l.trace, l.source = nil, source(`{ name = "other", n = 1 }`)
	if out := l.must(l.process(t.Context())); out.Status != journal.Parked || !strings.Contains(out.Reason, `R&D`) || !strings.Contains(out.Reason, "other") {
		t.Fatalf("%+v", out)
	}
	l.source = source(`{ n = 1, name = "R&D" }`)
	if out := l.must(l.process(t.Context())); out.Status != journal.Done || strings.Join(l.world.made, "") != "R&D" {
		t.Errorf("%+v, made %v", out, l.world.made)
	}
}

package run_test

import (
	"encoding/json"
	"strings"
	"testing"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// openEffects names the run's calls that are open in a step that is done.
func (l *lab) openEffects() (out []string) {
	h := l.history()
	for _, e := range h.Effects {
		if s := h.Steps[e.Step]; e.State == journal.EffectOpen && s.State == journal.StepIsDone {
			out = append(out, e.Fn+string(e.Args))
		}
	}
	return out
}

// No step is done, and no second call of a function is marked, while one is open: the
// answer about a is lost, whatever the script does then.
func TestOpenCallIsSettledFirst(t *testing.T) {
	const guard = `local function try(f) return pcall(f) end `
	for _, tc := range []struct {
		name, body string
		want       journal.Status
		made       string
	}{
		{"other arguments", `local a = world.thing { name = "a" } if a:there() then return world.thing { name = "b" }:make() end return a:make()`, journal.Done, "a b"},
		{"other arguments, no probe", `local a = world.thing { name = "a" } if a:there() then return world.thing { name = "b" }:blindly() end return a:blindly()`, journal.Parked, "a"},
		{"a loop", guard + `for _ = 1, 3 do local ok, r = try(function() return world.thing { name = "a" }:make() end) if ok then return r end end`, journal.Done, "a"},
		{"a loop, no probe", guard + `for _ = 1, 3 do if try(function() return world.thing { name = "a" }:blindly() end) then return end end`, journal.Parked, "a"},
		{"a loop, repeatable", guard + `for _ = 1, 3 do if try(function() return world.thing { name = "a" }:again() end) then return end end`, journal.Done, "a a"},
		{"caught", guard + `try(function() world.thing { name = "a" }:make() end)`, journal.Done, "a"},
		{"caught, no probe", guard + `try(function() world.thing { name = "a" }:blindly() end)`, journal.Parked, "a"},
		{"caught, repeatable", guard + `try(function() world.thing { name = "a" }:again() end)`, journal.Done, "a"},
		{"nodes", guard + `for _, n in ipairs { "a", "b", "c" } do try(function() world.thing { name = n }:make() end) end`, journal.Done, "a b c"},
		{"nodes, no probe", guard + `for _, n in ipairs { "a", "b", "c" } do try(function() world.thing { name = n }:blindly() end) end`, journal.Parked, "a"},
		{"nodes, repeatable", guard + `for _, n in ipairs { "a", "b", "c" } do try(function() world.thing { name = n }:again() end) end`, journal.Done, "a b c"},
		{"another function", guard + `try(function() world.thing { name = "a" }:make() end) world.thing { name = "b" }:again()`, journal.Done, "a b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t, script(`ctx:step("one", function() `+tc.body+` end)`))
			l.world.lost["a"] = true
			out := l.must(l.process(t.Context()))
			if out.Status != tc.want || strings.Join(l.world.made, " ") != tc.made || len(l.openEffects()) > 0 {
				t.Errorf("%+v, made %v, open in a step that is done %v", out, l.world.made, l.openEffects())
			}
		})
	}
}

// While the probe cannot tell yet the step fails, which no pcall catches, and the next
// call of the function is not made.
func TestOpenCallThatNobodyCanTellYet(t *testing.T) {
	l := newLab(t, script(`ctx:step("one", { retry = 2 }, function()
		for _, n in ipairs { "a", "b" } do pcall(function() world.thing { name = n }:make() end) end
	end)`))
	l.world.lost["a"], l.world.blind["a"] = true, true
	out := l.must(l.process(t.Context()))
	if out.Status != journal.Waiting || out.Reason != "retry of one" || strings.Join(l.world.made, " ") != "a" {
		t.Fatalf("%+v, made %v", out, l.world.made)
	}
	l.world.blind["a"] = false
	if out := l.must(l.process(t.Context())); out.Status != journal.Done || strings.Join(l.world.made, " ") != "a b" {
		t.Errorf("%+v, made %v", out, l.world.made)
	}
	l = newLab(t, script(`ctx:step("one", function() pcall(function() world.thing { name = "a" }:make() end) end)`))
	l.world.lost["a"], l.world.out = true, true
	if out := l.must(l.process(t.Context())); out.Status != journal.Parked || len(l.world.made) != 1 {
		t.Errorf("%+v, made %v", out, l.world.made)
	}
}

// What may have been done counts as not done where it may be done twice, and is undone
// all the same.
func TestRepeatableCallKeepsItsUndo(t *testing.T) {
	l := newLab(t, script(`ctx:step("one", function() pcall(function() world.thing { name = "a" }:renew() end) end)`))
	l.world.lost["a"] = true
	if out := l.must(l.process(t.Context())); out.Status != journal.Done || len(l.world.made) != 1 || l.world.there["a"] {
		t.Errorf("%+v, made %v, there %v", out, l.world.made, l.world.there)
	}
	if e := l.history().Effects; len(e) != 1 || e[0].State != journal.EffectIsNotDone {
		t.Errorf("%+v", e)
	}
}

// A step's own probe is asked where it has one, also by whoever gives up.
func TestStepsOwnProbeSettles(t *testing.T) {
	for _, tc := range []struct {
		answer string
		want   journal.Status
	}{{"{ id = 9 }", journal.Done}, {"false", journal.Done}, {"nil", journal.Parked}} {
		l := newLab(t, script(`ctx:step("one", { probe = function() return `+tc.answer+` end }, function()
			pcall(function() world.thing { name = "a" }:blindly() end)
		end)`))
		l.world.lost["a"] = true
		if out := l.must(l.process(t.Context())); out.Status != tc.want || len(l.world.made) != 1 {
			t.Errorf("probe %s: %+v, made %v", tc.answer, out, l.world.made)
		}
		l = newLab(t, strings.Replace(script(`ctx:step("one", { retry = 1, probe = function() return `+tc.answer+` end }, function()
			return world.thing { name = "a" }:blindly()
		end)`), "run =", "give_up = 0, run =", 1))
		l.world.fail["a"] = &problem.Error{Kind: problem.Unavailable, Message: "reset"}
		want := tc.want
		if tc.answer == "false" {
			want = journal.Failed
		}
		if out := l.must(l.process(t.Context())); out.Status != want || len(l.world.made) != 0 {
			t.Errorf("giving up, probe %s: %+v, made %v", tc.answer, out, l.world.made)
		}
	}
}

func TestProbeChangesNothing(t *testing.T) {
	l := newLab(t, script(`ctx:step("one", { probe = function() return world.thing { name = "b" }:make() end }, function()
		return world.thing { name = "a" }:blindly()
	end)`))
	l.world.lost["a"] = true
	if out := l.must(l.process(t.Context())); strings.Join(l.world.made, " ") != "a" || !strings.Contains(out.Reason+out.Error.Error(), "called inside a probe") {
		t.Errorf("%+v, made %v", out, l.world.made)
	}
}

// The same holds for what a run cleans up by its script's own functions.
func TestDeferredCallIsSettled(t *testing.T) {
	for call, kept := range map[string]int{"make": 0, "blindly": 1, "again": 0} {
		l := newLab(t, script(`ctx:defer(function() pcall(function() world.thing { name = "a" }:`+call+`() end) end)`))
		l.world.lost["a"] = true
		out := l.must(l.process(t.Context()))
		undos, err := l.journal.Undos(t.Context(), journal.UndoPending)
		if err != nil || out.Status != journal.Done || len(l.world.made) != 1 || len(undos) != kept {
			t.Errorf("%s: %+v, made %v, kept %+v, %v", call, out, l.world.made, undos, err)
		}
	}
}

// verdict is that of a person about the one call that is unclear.
func verdict(as, result string) run.Verdicts {
	if as == "" && result == "" {
		return nil
	}
	return run.Verdicts{"": {As: as, Result: json.RawMessage(result)}}
}

// resumeAs resumes the parked run with a verdict.
func (l *lab) resumeAs(as, result string) {
	l.t.Helper()
	epoch, err := l.journal.Adopt(l.t.Context(), l.id)
	if err != nil {
		l.t.Fatal(err)
	}
	recs, err := run.DecideCalls(l.history(), journal.Stamp{Run: l.id, Epoch: epoch, At: l.clock.Now()}, l.registry(), verdict(as, result))
	if err == nil && len(recs) > 0 {
		err = l.journal.Write(l.t.Context(), recs...)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// A call that counts as done, as a person says, has the result that its probe knows, or
// that the person tells; the script never gets nil for it.
func TestResumeAsDoneHasAResult(t *testing.T) {
	body := func(call string) string {
		return script(`local got = ctx:step("one", function() return world.thing { name = "a" }:` + call + `() end)
			ctx:step("two", function() return world.thing { name = "b" }:make() end)
			ctx:record { subject = "x", data = { id = got.id } }`)
	}
	park := func(call string) *lab {
		l := newLab(t, body(call))
		l.killAt(run.AfterAnswer, "world.Thing:"+call, 1)
		_, _ = l.process(t.Context())
		l.trace = nil
		l.world.out = true
		if out := l.must(l.process(t.Context())); out.Status != journal.Parked {
			t.Fatalf("%+v", out)
		}
		return l
	}
	done := func(l *lab, data string) {
		t.Helper()
		out := l.must(l.process(t.Context()))
		if h := l.history(); out.Status != journal.Done || strings.Join(l.world.made, " ") != "a b" || string(h.Records[0].Data) != `{"subject":"x","data":{"id":`+data+`}}` {
			t.Errorf("%+v, made %v, %+v", out, l.world.made, h.Records)
		}
	}
	l := park("make")
	l.world.out = false
	l.resumeAs(run.AsDone, "")
	done(l, `"probed"`)

	l = park("blindly")
	l.resumeAs(run.AsDone, `{"id":9}`)
	done(l, "9")

	l = park("blindly")
	l.resumeAs(run.AsDone, "")
	if out := l.must(l.process(t.Context())); out.Status != journal.Parked || !strings.Contains(out.Reason, "--result") || len(run.Unclear(l.history())) != 1 {
		t.Fatalf("as done without a result: %+v", out)
	}
	l.resumeAs(run.AsDone, `{"id":9}`)
	done(l, "9")

	l = park("blindly")
	if _, err := run.DecideCalls(l.history(), journal.Stamp{}, l.registry(), verdict(run.AsAgain, "1")); err == nil {
		t.Error("a result of what is to be done again is taken")
	}
}

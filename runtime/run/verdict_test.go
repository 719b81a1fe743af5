package run_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// severalUnclear is a run of which three calls are unclear; "again" may be repeated.
func severalUnclear(t *testing.T) *lab {
	t.Helper()
	l := newLab(t, script(`local got = ctx:step("one", { retry = 1 }, function()
			local out = {}
			for _, name in ipairs { "a", "b" } do
				local ok, v = pcall(function() return world.thing { name = name }[name == "a" and "blindly" or "again"](world.thing { name = name }) end)
				out[name] = ok and v.id
			end
			return out
		end)
		ctx:record { subject = "x", data = got }`))
	l.world.lost["a"], l.world.lost["b"] = true, true
	if out := l.must(l.process(t.Context())); out.Status != journal.Parked {
		t.Fatalf("%+v", out)
	}
	return l
}

// effects are three unclear calls, of which the last may be repeated.
func unclearHistory() *journal.History {
	h := &journal.History{Steps: []journal.Step{{Step: 2, State: journal.StepRunning}}}
	for n, fn := range []string{"world.Thing:blindly", "world.Thing:make", "world.Thing:again"} {
		h.Effects = append(h.Effects, journal.Effect{Step: 2, N: n, Fn: fn, State: journal.EffectOpen})
	}
	return h
}

// Each unclear call has a verdict of its own; one that may be repeated needs none.
func TestVerdicts(t *testing.T) {
	known := newLab(t, "").registry()
	done := run.Verdict{As: run.AsDone, Result: json.RawMessage(`{"id":1}`)}
	again, look := run.Verdict{As: run.AsAgain}, run.Verdict{As: run.AsLook}
	large := run.Verdict{As: run.AsDone, Result: json.RawMessage(`"` + strings.Repeat("x", 64<<10) + `"`)}
	for name, c := range map[string]struct {
		verdicts run.Verdicts
		want     string // what is journaled, or of the error
	}{
		"each":                     {run.Verdicts{"3.1": done, "3.2": again}, `2.0 {"id":1};2.1 again`},
		"the repeatable one too":   {run.Verdicts{"3.1": done, "3.2": again, "3.3": done}, `2.0 {"id":1};2.1 again;2.2 {"id":1}`},
		"one, and the others":      {run.Verdicts{"3.1": done, "": look}, `2.0 {"id":1}`},
		"the last one in question": {run.Verdicts{"3.1": look, "": done}, `2.1 {"id":1}`},
		"all again":                {run.Verdicts{"": again}, `2.0 again;2.1 again;2.2 again`},
		"look at all":              {run.Verdicts{"": look}, ``},
		"nothing":                  {nil, `the decision must say of each call whether it has happened: 3.1 world.Thing:blindly, 3.2 world.Thing:make`},
		"one of two":               {run.Verdicts{"3.1": done}, `must say of each call whether it has happened: 3.2 world.Thing:make`},
		"done without a name":      {run.Verdicts{"": {As: run.AsDone}}, `must say of each call whether it has happened: 3.1 world.Thing:blindly, 3.2 world.Thing:make`},
		"a result without a name":  {run.Verdicts{"": done}, `a result is of one call that is done; 2 are unclear`},
		"another call":             {run.Verdicts{"4.1": done, "": look}, `no call "4.1" of this run is unclear`},
		"no verdict":               {run.Verdicts{"3.1": {As: "dnoe"}, "": look}, `--as 3.1 must be done, again or look, not "dnoe"`},
		"a result of again":        {run.Verdicts{"3.1": {As: run.AsAgain, Result: json.RawMessage("1")}, "": look}, `a result is of a call that is done`},
		"no JSON":                  {run.Verdicts{"3.1": {As: run.AsDone, Result: json.RawMessage(`{"id":`)}, "": look}, `the result of world.Thing:blindly, call 3.1, is not valid JSON`},
		"another result":           {run.Verdicts{"3.1": {As: run.AsDone, Result: json.RawMessage(`[1]`)}, "": look}, `the result of world.Thing:blindly, call 3.1, does not fit: `},
		"too large a result":       {run.Verdicts{"3.1": large, "": look}, `the result of world.Thing:blindly, call 3.1, is larger than 65536 bytes`},
	} {
		t.Run(name, func(t *testing.T) {
			recs, err := run.DecideCalls(unclearHistory(), journal.Stamp{}, known, c.verdicts)
			var got []string
			for _, rec := range recs {
				switch rec := rec.(type) {
				case journal.EffectDone:
					got = append(got, fmt.Sprintf("%d.%d %s", rec.Step, rec.N, rec.Result))
				case journal.EffectNotDone:
					got = append(got, fmt.Sprintf("%d.%d again", rec.Step, rec.N))
				}
			}
			switch {
			case err == nil && strings.Join(got, ";") != c.want:
				t.Errorf("journaled %v", got)
			case err != nil && (problem.From(err).Kind != problem.Usage || !problem.HasCode(err, problem.Unclear) || c.want == "" || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v", err)
			}
		})
	}
}

// Of several calls one has happened and returned what the person says: the script has it.
func TestVerdictsOfSeveralCalls(t *testing.T) {
	l := severalUnclear(t)
	unclear := run.Unclear(l.history())
	if len(unclear) != 2 || run.CallName(unclear[0]) != "1.1" {
		t.Fatalf("%+v", unclear)
	}
	l.resumeAs(run.AsDone, `{"id":7}`)
	out := l.must(l.process(t.Context()))
	if h := l.history(); out.Status != journal.Done || string(h.Records[0].Data) != `{"subject":"x","data":{"a":7,"b":3}}` || strings.Join(l.world.made, " ") != "a b b" {
		t.Errorf("%+v, made %v, %+v", out, l.world.made, h.Records)
	}
}

package control

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// onlyTrue are functions that return true.
type onlyTrue struct{}

func (onlyTrue) Repeatable(string) bool { return false }

func (onlyTrue) GivenResult(full string, given json.RawMessage) (json.RawMessage, error) {
	if string(given) != "true" {
		return nil, fmt.Errorf("%s returns true", full)
	}
	return given, nil
}

// A result that a person writes down is checked before it is journaled, and the journal
// has of which call it was.
func TestResumeChecksTheResult(t *testing.T) {
	d := newDesk(t)
	s := d.in("unclear")
	e := run.Unclear(d.history(s.Run))[0]
	name := run.CallName(e)
	with := func(result string) Decision {
		return Decision{By: "alice", Verdicts: run.Verdicts{name: {As: run.AsDone, Result: json.RawMessage(result)}}}
	}
	if _, err := d.Resume(t.Context(), s.Run, with("true")); !problem.HasCode(err, problem.Unclear) || !strings.Contains(err.Error(), "cannot be checked") {
		t.Errorf("by whoever knows no functions: %v", err)
	}
	d.Knowing(onlyTrue{})
	for _, bad := range []string{"false", "{", strings.Repeat(" ", 64<<10) + "true"} {
		if _, err := d.Resume(t.Context(), s.Run, with(bad)); !problem.HasCode(err, problem.Unclear) || !strings.Contains(err.Error(), "the result of "+e.Fn) {
			t.Errorf("%.10q: %v", bad, err)
		}
	}
	if h := d.history(s.Run); h.Run.Status != journal.Parked || h.Effects[0].State != journal.EffectOpen || len(d.decisions(s.Run)) > 0 {
		t.Errorf("what was refused has changed %+v", h)
	}
	_, err := d.Resume(t.Context(), s.Run, with("true"))
	d.must(err)
	if h := d.history(s.Run); string(h.Effects[0].Result) != "true" || d.decisions(s.Run)[0].Verdict != name+"=done" {
		t.Errorf("%+v", h.Effects)
	}
}

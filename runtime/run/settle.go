package run

import (
	"encoding/json"
	"fmt"
	"strings"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// How a person settles what nobody can tell.
const (
	AsDone  = "done"  // it has happened
	AsAgain = "again" // it has not: do it again
	AsLook  = "look"  // ask the outside world once more, now that it may answer
)

// Settle gives the records with which a person lets a parked run go on. Calls of
// which nobody can tell whether they have happened count as made, or as not made,
// as the person says; or they stay open, and the run asks about them again. as may
// be "" where there are none. result is what the one call that has happened returned,
// as the journal has results; if it is empty the call's probe is asked for it.
func Settle(h *journal.History, stamp journal.Stamp, as string, result json.RawMessage) ([]journal.Record, error) {
	unclear := Unclear(h)
	if len(result) > 0 && (as != AsDone || len(unclear) != 1) {
		return nil, &problem.Error{
			Kind: problem.Usage, Code: problem.Unclear, Call: "resume", Work: problem.NotDone,
			Message: fmt.Sprintf("a result is of the one call that is done; %d are unclear", len(unclear)), Hint: "--result belongs to --as done",
		}
	}
	if as == AsLook {
		return nil, nil
	}
	var names []string
	for _, e := range unclear {
		if e.State == journal.EffectOpen {
			names = append(names, e.Fn)
		}
	}
	switch {
	case as == "" && len(names) == 0:
		return nil, nil
	case as != AsDone && as != AsAgain && len(names) == 0:
		return nil, &problem.Error{
			Kind: problem.Usage, Code: problem.Unclear, Call: "resume", Work: problem.NotDone,
			Message: fmt.Sprintf("--as is done, again or look, not %q", as), Hint: "no call of this run is unclear: leave --as out",
		}
	}
	if as != AsDone && as != AsAgain {
		return nil, &problem.Error{
			Kind: problem.Usage, Code: problem.Unclear, Call: "resume", Work: problem.NotDone,
			Message: "the decision must say whether " + strings.Join(names, ", ") + " has happened",
			Hint:    "look at the appliance, then give --as done or --as again; --as look asks it once more",
		}
	}
	var recs []journal.Record
	for _, e := range unclear {
		if as == AsDone {
			recs = append(recs, journal.EffectDone{Stamp: stamp, Step: e.Step, N: e.N, Result: result})
			continue
		}
		recs = append(recs, journal.EffectNotDone{Stamp: stamp, Step: e.Step, N: e.N})
	}
	return recs, nil
}

// Unclear gives the calls of a run of which nobody can tell whether they have happened,
// or what they returned: marked, without an answer, in a step that has not ended.
func Unclear(h *journal.History) []journal.Effect {
	ended := map[int]bool{}
	for _, s := range h.Steps {
		ended[s.Step] = s.State == journal.StepIsDone || s.State == journal.StepIsFailed
	}
	var out []journal.Effect
	for _, e := range h.Effects {
		unanswered := e.State == journal.EffectIsDone && len(e.Result) == 0
		if (e.State == journal.EffectOpen || unanswered) && !ended[e.Step] {
			out = append(out, e)
		}
	}
	return out
}

package run

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// How a person decides about a call of which it is unknown whether it has happened.
const (
	AsDone  = "done"  // it has happened
	AsAgain = "again" // it has not: do it again
	AsLook  = "look"  // ask the outside world once more, now that it may answer
)

// mostResult bounds a result that is stated by hand.
const mostResult = 64 << 10

// Verdict is a person's decision about a call of which it is unknown whether it has happened.
type Verdict struct {
	As     string          `json:"as"`               // AsDone, AsAgain or AsLook
	Result json.RawMessage `json:"result,omitempty"` // with AsDone: what it returned; if empty its probe is asked
}

// Verdicts are by [CallName]; that of "" is for the calls that are not named.
type Verdicts map[string]Verdict

// Functions is what a decision has to know of the functions that a run has called.
type Functions interface {
	// Repeatable reports whether it does no harm to call the function twice.
	Repeatable(full string) bool
	// GivenResult checks a result of the function that was stated by hand, and returns it as
	// the journal has it.
	GivenResult(full string, given json.RawMessage) (json.RawMessage, error)
}

// CallName names a call within its run, such as "3.1": the third step's first call.
func CallName(e journal.Effect) string { return fmt.Sprintf("%d.%d", e.Step+1, e.N+1) }

// DecideCalls returns the records with which a parked run can continue. Its unclear calls
// count as done, or as not done, by their verdicts; or they stay open, and the run asks
// about them again. Repeatable ones need no verdict.
func DecideCalls(h *journal.History, stamp journal.Stamp, known Functions, vs Verdicts) ([]journal.Record, error) {
	d := &deciding{unclear: Unclear(h), known: known, verdicts: vs}
	if err := d.check(); err != nil {
		return nil, err
	}
	var recs []journal.Record
	for _, e := range d.unclear {
		switch v := d.of(e); v.As {
		case AsDone:
			result, err := d.result(e, v)
			if err != nil {
				return nil, err
			}
			recs = append(recs, journal.EffectDone{Stamp: stamp, Step: e.Step, N: e.N, Result: result})
		case AsAgain:
			recs = append(recs, journal.EffectNotDone{Stamp: stamp, Step: e.Step, N: e.N})
		}
	}
	return recs, nil
}

// deciding is a decision about a run's unclear calls.
type deciding struct {
	unclear  []journal.Effect
	known    Functions
	verdicts Verdicts
}

// check refuses verdicts that are not valid or name no call, and the lack of one.
func (d *deciding) check() error {
	for _, name := range slices.Sorted(maps.Keys(d.verdicts)) {
		v := d.verdicts[name]
		at := slices.IndexFunc(d.unclear, func(e journal.Effect) bool { return CallName(e) == name })
		switch valid := slices.Contains([]string{AsDone, AsAgain, AsLook}, v.As); {
		case name != "" && at < 0:
			return d.refused(fmt.Sprintf("no call %q of this run is unclear", name), "these are: "+list(d.unclear))
		case name != "" && !valid:
			return d.refused(fmt.Sprintf("--as %s must be done, again or look, not %q", name, v.As), "")
		case !valid && v.As != "" && len(d.undecided(Verdict{})) == 0:
			return d.refused(fmt.Sprintf("--as is done, again or look, not %q", v.As), "no call of this run is unclear: leave --as out")
		case len(v.Result) > 0 && v.As != AsDone:
			return d.refused("a result is of a call that is done", "--result belongs to --as done")
		}
	}
	rest := d.verdicts[""]
	if n := len(d.meant()); len(rest.Result) > 0 && n != 1 {
		return d.refused(fmt.Sprintf("a result is of one call that is done; %d are unclear", n), "name the call: --as CALL=done --result CALL=JSON")
	}
	switch left := d.undecided(rest); {
	case len(left) == 0:
		return nil
	case len(left) == 1 && len(d.unclear) == 1:
		return d.refused("the decision must say whether "+left[0].Fn+" has happened",
			"look at the appliance, then use --as done or --as again; --as look asks it once more")
	default:
		name := CallName(left[0])
		return d.refused("the decision must say of each call whether it has happened: "+list(left),
			fmt.Sprintf("look at the appliance, then use --as %s=done or --as %s=again, and so on for each; --as look asks it once more about all", name, name))
	}
}

// of returns the verdict on a call, the zero verdict for none.
func (d *deciding) of(e journal.Effect) Verdict {
	if v, named := d.verdicts[CallName(e)]; named {
		return v
	}
	rest := d.verdicts[""]
	if rest.As == AsDone && !slices.ContainsFunc(d.meant(), func(m journal.Effect) bool { return CallName(m) == CallName(e) }) {
		return Verdict{}
	}
	return rest
}

// meant returns the calls that "done" without a name is about: all that have no verdict
// of their own, but for repeatable ones if there are others.
func (d *deciding) meant() []journal.Effect {
	var all, once []journal.Effect
	for _, e := range d.unclear {
		if _, named := d.verdicts[CallName(e)]; named {
			continue
		}
		all = append(all, e)
		if !d.repeatable(e) {
			once = append(once, e)
		}
	}
	if len(once) > 0 {
		return once
	}
	return all
}

// undecided returns the calls that lack a verdict, if rest is that of those without a name.
func (d *deciding) undecided(rest Verdict) []journal.Effect {
	if rest.As == AsLook || rest.As == AsAgain || rest.As == AsDone && len(d.meant()) <= 1 {
		return nil
	}
	var left []journal.Effect
	for _, e := range d.meant() {
		if e.State == journal.EffectOpen && (!d.repeatable(e) || rest.As == AsDone) {
			left = append(left, e)
		}
	}
	return left
}

func (d *deciding) repeatable(e journal.Effect) bool {
	return d.known != nil && d.known.Repeatable(e.Fn)
}

// result returns the stated result of a call as the journal has it.
func (d *deciding) result(e journal.Effect, v Verdict) (json.RawMessage, error) {
	what := fmt.Sprintf("the result of %s, call %s, ", e.Fn, CallName(e))
	hint := "it must be what " + e.Fn + " returns, as JSON: moonseal stubs shows its fields"
	switch {
	case len(v.Result) == 0:
		return nil, nil
	case d.known == nil:
		return nil, d.refused(what+"cannot be checked here", "")
	case len(v.Result) > mostResult:
		return nil, d.refused(fmt.Sprintf("%sis larger than %d bytes", what, mostResult), hint)
	case !json.Valid(v.Result):
		return nil, d.refused(what+"is not valid JSON", hint)
	}
	raw, err := d.known.GivenResult(e.Fn, v.Result)
	if err != nil {
		return nil, d.refused(what+"does not fit: "+err.Error(), hint)
	}
	return raw, nil
}

func (*deciding) refused(message, hint string) error {
	return &problem.Error{
		Kind: problem.Usage, Code: problem.Unclear, Call: "resume", Work: problem.NotDone, Message: message,
		Hint: hint,
	}
}

func list(calls []journal.Effect) string {
	var names []string
	for _, e := range calls {
		names = append(names, CallName(e)+" "+e.Fn)
	}
	return strings.Join(names, ", ")
}

// Unclear returns the calls of a run of which it is unknown whether they have happened, or
// what they returned: marked, without an answer, in a step that has not ended.
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

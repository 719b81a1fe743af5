package worker

import (
	"fmt"
	"strings"

	"moonseal/runtime/problem"
	"moonseal/runtime/suggest"
)

// noPlaybook is the error of a playbook that the scripts do not have: the
// problem of the script that may have had it, or the names that there are.
func (w *work) noPlaybook() error {
	name := w.job.Playbook
	for _, p := range w.bundle.Problems {
		if p.Place != nil && strings.TrimSuffix(p.Place.File, ".lua") == name {
			return p
		}
	}
	e := &problem.Error{Kind: problem.Usage, Message: fmt.Sprintf("there is no playbook %q", name)}
	var names []string
	for _, p := range w.bundle.Playbooks {
		names = append(names, p.Name)
	}
	switch near := suggest.Closest(name, names); {
	case near != "":
		e.Hint = "did you mean " + near + "?"
	case len(names) > 0:
		e.Hint = "there are " + strings.Join(names, ", ")
	case len(w.bundle.Problems) > 0:
		e.Hint = "some scripts are broken: moonseal check shows them"
	default:
		e.Hint = "the scripts folder has no playbook in it"
	}
	return e
}

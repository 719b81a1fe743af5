package bundle

import (
	"fmt"
	"path"
	"strings"

	"moonseal/runtime/problem"
	"moonseal/runtime/suggest"
)

// mostNamed is how many playbooks an error lists.
const mostNamed = 10

// NoPlaybook is the error of a playbook that is not among the scripts' names: the
// problem of the script that may have it, or the names that there are.
func NoPlaybook(name string, names []string, problems []*problem.Error) error {
	for _, p := range problems {
		if p.Place != nil && ScriptName(p.Place.File) == name {
			return p
		}
	}
	e := &problem.Error{
		Kind: problem.Usage, Code: problem.NoPlaybook, Message: fmt.Sprintf("there is no playbook %q", name),
		Work: problem.NotDone,
	}
	switch near := suggest.Closest(name, names); {
	case near != "":
		e.Hint = "did you mean " + near + "?"
	case len(names) > mostNamed:
		e.Hint = "moonseal check lists them"
	case len(names) > 0:
		e.Hint = "there are " + strings.Join(names, ", ")
	case len(problems) > 0:
		e.Hint = "some scripts are broken: moonseal check shows them"
	default:
		e.Hint = "the scripts folder has no playbook in it"
	}
	return e
}

// ScriptName is what the playbook of a script is called unless the script says
// otherwise: the file's name, behind its tenant's.
func ScriptName(file string) string {
	return path.Join(Tenant(file), strings.TrimSuffix(path.Base(file), ".lua"))
}

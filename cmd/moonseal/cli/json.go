package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/bind"
	"moonseal/runtime/bundle"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

// What --json prints is a contract: the files in schema/ describe it, and TestSchemas
// validates what each command prints against them.
//
//   - Every object at the top, be it a document, an item of a list or a line of a stream,
//     has schema_version. Keys may be added to a version; none is renamed or removed.
//   - A list is never null: it is [] or left out. What is not known is null or left out.
//   - A time is RFC 3339, a duration a number of seconds under a key that ends in seconds.
//   - A thing has an id or, if it has a name of its own, a name. A reference to a run is run.

// schemaVersion is the version of what --json prints.
const schemaVersion = 1

// contract is the start of each object at the top.
type contract struct {
	SchemaVersion int `json:"schema_version"`
}

func thisContract() contract { return contract{schemaVersion} }

// writeJSON writes to what is below the writer that escapes: JSON does so by itself.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(plain.Raw(w))
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// list returns a list that is not null in JSON.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

// each converts the items of a list.
func each[T, U any](items []T, convert func(T) U) []U {
	out := make([]U, 0, len(items))
	for _, item := range items {
		out = append(out, convert(item))
	}
	return out
}

type statusJSON struct {
	contract
	*api.Status
}

func statusOut(s *api.Status) statusJSON {
	out := *s
	out.Playbooks = each(s.Playbooks, func(p api.PlaybookStatus) api.PlaybookStatus {
		p.Served = list(p.Served)
		return p
	})
	out.Scripts, out.Problems = list(s.Scripts), list(s.Problems)
	return statusJSON{thisContract(), &out}
}

type reloadJSON struct {
	contract
	*api.ReloadReply
}

func reloadOut(r *api.ReloadReply) reloadJSON {
	out := *r
	out.Added, out.Changed, out.Removed, out.Config = list(r.Added), list(r.Changed), list(r.Removed), list(r.Config)
	out.Problems = list(r.Problems)
	return reloadJSON{thisContract(), &out}
}

type runJSON struct {
	contract
	journal.Run

	Locks         []string `json:"locks"`
	Left          []string `json:"left"`
	WorkedSeconds float64  `json:"worked_seconds"`
	Interrupted   bool     `json:"interrupted,omitempty"`
}

func runOut(r shownRun) runJSON {
	return runJSON{thisContract(), r.Run, list(r.Run.Locks), list(r.Run.Left), r.Worked.Seconds(), r.Interrupted}
}

type logJSON struct {
	contract
	journal.Log
}

type undoJSON struct {
	contract

	ID string `json:"id"`
	journal.Undo

	Holds []string `json:"holds"`
}

func undosJSON(undos []journal.Undo) []undoJSON {
	return each(undos, func(u journal.Undo) undoJSON {
		return undoJSON{thisContract(), fmt.Sprintf("%s/%d", u.Run, u.N), u, list(u.Holds)}
	})
}

type findingJSON struct {
	contract
	bind.Finding
}

func findingsJSON(findings []bind.Finding) []findingJSON {
	return each(findings, func(f bind.Finding) findingJSON { return findingJSON{thisContract(), f} })
}

type secretJSON struct {
	contract
	api.SecretState
}

func secretsJSON(states []api.SecretState) []secretJSON {
	return each(states, func(s api.SecretState) secretJSON { return secretJSON{thisContract(), s} })
}

type checkedJSON struct {
	contract

	Playbooks []playbookJSON   `json:"playbooks"`
	Problems  []*problem.Error `json:"problems"`
}

type playbookJSON struct {
	*bundle.Playbook

	Needs          []string `json:"needs"`
	TimeoutSeconds float64  `json:"timeout_seconds,omitzero"`
	GiveUpSeconds  float64  `json:"give_up_seconds,omitzero"`
}

func checkedOut(c *checked) checkedJSON {
	return checkedJSON{thisContract(), each(c.Playbooks, func(p *bundle.Playbook) playbookJSON {
		return playbookJSON{p, list(p.Needs), p.Timeout.Seconds(), p.GiveUp.Seconds()}
	}), list(c.Problems)}
}

// event is a line of run --json.
type event struct {
	contract

	Event   string          `json:"event"`
	Run     string          `json:"run,omitempty"`
	Name    string          `json:"playbook,omitempty"`
	Step    string          `json:"step,omitempty"`
	Status  string          `json:"status,omitempty"`
	Attempt int             `json:"attempt,omitempty"`
	Seconds float64         `json:"seconds,omitempty"`
	Level   string          `json:"level,omitempty"`
	Message string          `json:"message,omitempty"`
	Fields  json.RawMessage `json:"fields,omitempty"`
	Until   *time.Time      `json:"until,omitempty"`
	Error   *problem.Error  `json:"error,omitempty"`
}

// writeEvent writes a line of run --json.
func writeEvent(w io.Writer, e event) {
	e.contract = thisContract()
	_ = writeJSON(w, e) // a reader that is gone must not stop the run
}

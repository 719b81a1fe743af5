package worker_test

import (
	"errors"
	"strings"
	"testing"

	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/worker"
)

// granted runs a playbook that is granted g and nothing else.
func (w *world) granted(g grant.Grant, body string) (*run.Outcome, error) {
	job := w.job(body)
	job.Grants = grant.Rules{"p": g, "lab/*": {Modules: []string{"*"}, Secrets: []string{"*"}, Hosts: []string{"*"}}}
	return w.parent.Begin(w.t.Context(), job, worker.Ask{}, nil)
}

func TestSecretsAreGrantedByTheParent(t *testing.T) {
	w := newWorld(t)
	const script = `ctx:step("one", function() return o:secret() end)`
	out, err := w.granted(grant.Grant{Modules: []string{"outside"}, Secrets: []string{"OTHER"}}, script)
	if err != nil || out.Status != journal.Failed || out.Error.Kind != problem.Refused || !strings.Contains(out.Error.Hint, `{ "p": { secrets: ["TOKEN"] } }`) {
		t.Errorf("%+v, %v", out, err)
	}
	out, err = w.granted(grant.Grant{Modules: []string{"outside"}, Secrets: []string{"TOK*"}}, script)
	if err != nil || out.Status != journal.Done {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestHostsAreGranted(t *testing.T) {
	w := newWorld(t)
	const script = `ctx:step("one", function() return o:connect("127.0.0.1:1") end)`
	out, err := w.granted(grant.Grant{Modules: []string{"*"}, Hosts: []string{"example.com"}}, script)
	if err != nil || out.Status != journal.Failed || out.Error.Kind != problem.Refused || out.Error.Target != "host 127.0.0.1" {
		t.Errorf("%+v, %v", out, err)
	}
	out, err = w.granted(grant.Grant{Modules: []string{"*"}, Hosts: []string{"127.0.0.0/8"}}, script)
	if err != nil || out.Error == nil || out.Error.Kind != problem.Unavailable { // nothing listens there
		t.Errorf("%+v, %v", out, err)
	}
}

func TestModulesAreGranted(t *testing.T) {
	w := newWorld(t)
	_, err := w.granted(grant.Grant{Modules: []string{"log"}}, "")
	e, ok := errors.AsType[*problem.Error](err)
	if !ok || e.Kind != problem.Refused || e.Target != "module outside" || e.Place == nil || e.Place.File != "p.lua" || e.Place.Line != 1 || !strings.Contains(e.Hint, "modules") {
		t.Errorf("%+v", err)
	}
	// A computed name is seen when it is asked for.
	job := worker.Job{
		Playbook: "p", State: w.journal.Dir(), Grants: grant.Rules{"p": {}},
		Files: map[string]string{"p.lua": "return playbook { run = function(ctx)\nlocal o = require(\"out\" .. \"side\")\nend }"},
	}
	out, err := w.parent.Begin(t.Context(), job, worker.Ask{}, nil)
	if err != nil || out.Status != journal.Failed || out.Error.Kind != problem.Refused || out.Error.Place == nil || out.Error.Place.Line != 2 {
		t.Errorf("%+v, %v", out, err)
	}
}

// A load tells of what its playbooks ask for and are not granted.
func TestLoadTellsWhatIsNotGranted(t *testing.T) {
	w := newWorld(t)
	job := worker.Job{
		Grants: grant.Rules{"lab/*": {Modules: []string{"outside"}}, "hook": {Modules: []string{"outside"}}},
		Files: map[string]string{
			"lab/one.lua": "local o = require(\"outside\")\nreturn playbook { run = function(ctx) end }",
			"two.lua":     "\nlocal o = require(\"lib.o\")\nreturn playbook { run = function(ctx) end }",
			"none.lua":    "return playbook { run = function(ctx) end }",
			"lib/o.lua":   "\n\n\nreturn require(\"outside\")",
		},
	}
	loaded, err := w.parent.Load(t.Context(), job)
	if err != nil || len(loaded.Playbooks) != 2 || len(loaded.Problems) != 1 {
		t.Fatalf("%+v, %v", loaded, err)
	}
	if p := loaded.Problems[0]; p.Place.File != "two.lua" || p.Place.Line != 2 || p.Place.Source != `local o = require("lib.o")` || p.Kind != problem.Refused {
		t.Errorf("%+v at %+v", p, p.Place)
	}
}

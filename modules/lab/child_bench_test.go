package lab_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/acme/acmetest"
	"moonseal/runtime/control"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/secret"
	"moonseal/runtime/worker"
)

// inChild returns what runs a playbook in a process of the program itself, and returns
// how long it took from the start of the order's step until the certificate's was synced
// here.
func (e *engine) inChild(b *testing.B, ca *acmetest.CA, name string) func() time.Duration {
	b.Helper()
	exe := filepath.Join(b.TempDir(), "moonseal")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-buildvcs=false", "-o", exe, "moonseal/cmd/moonseal").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	id, err := exec.CommandContext(b.Context(), "go", "tool", "buildid", exe).Output()
	if err != nil {
		b.Fatal(err)
	}
	content := strings.TrimSpace(string(id[bytes.LastIndexByte(id, '/')+1:]))
	var began time.Time
	var took time.Duration
	p := &worker.Parent{
		Journal: e.journal, Control: control.New(e.journal, clockwork.NewRealClock()), Spawner: worker.Exec{Path: exe, Args: []string{"worker"}}, Secrets: secret.Map{}, Redactor: &secret.Redactor{},
		Clock: clockwork.NewRealClock(), Build: "(devel) " + content[:10], // as the child names its own
		Observe: func(rec journal.Record) {
			switch r := rec.(type) {
			case journal.StepStarted:
				if r.Name == "requesting_certificate" {
					began = r.At
				}
			case journal.StepDone:
				if r.Step == lastStep {
					took = time.Since(began)
				}
			}
		},
	}
	job := worker.Job{
		Playbook: name, Files: map[string]string{name + ".lua": e.source(name)}, State: e.journal.Dir(),
		Settings: map[string]string{"acme": "directories: { lab: " + ca.DirectoryURL() + " }"},
		Network:  grant.Options{CABundle: filepath.Join(e.journal.Dir(), "ca.pem")},
	}
	return func() time.Duration {
		b.Helper()
		out, err := p.Begin(b.Context(), job, worker.Ask{}, nil)
		if err != nil || out.Status != journal.Done {
			b.Fatal(out, err)
		}
		return took
	}
}

// source returns a script of the engine's bundle.
func (e *engine) source(name string) string {
	text, _ := e.bundle.Source(name + ".lua")
	return text
}

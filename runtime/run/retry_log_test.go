package run_test

import (
	"testing"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// The world fails once. A line that says that a step is tried again says which.
func TestRetryIsLoggedWithItsStep(t *testing.T) {
	l := newLab(t, script(`ctx:step("one", function() return world.thing { name = "a" }:make() end)`))
	l.world.fail["a"] = &problem.Error{Kind: problem.Unavailable, Work: problem.NotDone, Message: "busy"}
	if out := l.must(l.process(t.Context())); out.Status != journal.Done {
		t.Fatalf("%+v", out)
	}
	logs, err := l.journal.Logs(t.Context(), l.id, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, line := range logs {
		if line.Message == "retrying" {
			found = true
			if line.Step != "one" {
				t.Errorf("the step is %q: %+v", line.Step, line)
			}
		}
	}
	if !found {
		t.Errorf("no line says so: %+v", logs)
	}
}

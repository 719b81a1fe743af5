package run_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/run"
)

// renewalLog returns the lines of a host's renewal.log that name a person.
func (l *lab) renewalLog(host string) []string {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.dir, "accounts", host, "renewal.log"))
	if err != nil {
		l.t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		if _, rest, ok := strings.Cut(line, "run="+l.id+" "); ok && strings.Contains(line, " by ") {
			out = append(out, strings.TrimSpace(rest))
		}
	}
	return out
}

// What is decided while no process works is in the renewal.log of the hosts that the run
// has worked on, once, though no later process talks to them.
func TestRenewalLogNamesWhoDecided(t *testing.T) {
	l := newLab(t, script(`
		ctx:step("look", function() return world.thing { name = "a" }:host() end)
		ctx:approve "go"
		ctx:sleep "1h"`))
	l.must(l.process(t.Context()))
	decided := func(what, ticket string) {
		d := journal.Decided{Stamp: journal.Stamp{Run: l.id, At: l.clock.Now()}, What: what, By: "alice", Ticket: ticket, Reason: "why"}
		if err := l.journal.Decide(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	decided(journal.DecidedApprove, "CHG1")
	l.decide(true)
	l.must(l.process(t.Context()))
	l.must(l.process(t.Context()))
	decided(journal.DecidedUnlock, "CHG2")
	decided(journal.DecidedRetry, "")
	l.must(l.process(t.Context()))
	want := "approved by alice ticket=CHG1 reason=why\nlocks released by alice ticket=CHG2 reason=why"
	if got := strings.Join(l.renewalLog("a.example.com"), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	logs, err := l.journal.Logs(t.Context(), l.id, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, line := range logs {
		if strings.Contains(line.Message, " by ") {
			lines = append(lines, line.Message+" "+string(line.Fields))
		}
	}
	if got := strings.Join(lines, "\n"); got != `approved by alice {"ticket":"CHG1","reason":"why"}`+"\n"+`locks released by alice {"ticket":"CHG2","reason":"why"}` {
		t.Errorf("the run's log has\n%s", got)
	}
}

// A working run is told who cancels it; what is decided before it knows a host waits.
func TestRenewalLogNamesWhoCancelled(t *testing.T) {
	l := newLab(t, script(`
		ctx:step("wait", function() world.say { name = "begun" } end)
		ctx:step("look", function() return world.thing { name = "a" }:host() end)
		ctx:step("more", function() return 1 end)`))
	ctx, cancel := context.WithCancelCause(t.Context())
	l.trace = func(p run.Point, what string) {
		if p == run.AfterStep && what == "look" {
			d := journal.Decided{Stamp: journal.Stamp{Run: l.id, At: time.Now()}, What: journal.DecidedCancel, By: "bob"}
			cancel(&run.CancelledError{Decisions: []journal.Decided{d}})
		}
	}
	if out := l.must(l.process(ctx)); out.Status != journal.Cancelled {
		t.Fatalf("%+v", out)
	}
	if got := strings.Join(l.renewalLog("a.example.com"), "\n"); got != "cancel requested by bob" {
		t.Errorf("got %s", got)
	}
}

package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// Who waits for a lock for too long, and what releases it, stands below the table.
func TestStatusOfAHeldLock(t *testing.T) {
	now := time.Date(2026, 11, 28, 19, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	waits := func(warning string) *api.Running {
		lock := &api.Lock{Name: "cluster:dfw", Run: "r1", Playbook: "first", Since: now, Warning: warning}
		return &api.Running{ID: "r2", Status: journal.Waiting, WaitsFor: "lock cluster:dfw, held by run r1 of first", Lock: lock}
	}
	s := &api.Status{Playbooks: []api.PlaybookStatus{{Name: "second", Running: waits("for 5h0m0s")}, {Name: "third", Running: waits("")}}}
	if err := showStatus(&out, s, now); err != nil {
		t.Fatal(err)
	}
	want := "\nsecond waits for lock cluster:dfw for 5h0m0s: run r1 of first holds it since " + when(now) +
		"\n  moonseal unlock r1   once the appliance works, or moonseal cancel r1\n"
	if !strings.Contains(out.String(), want) || strings.Contains(out.String(), "\nthird waits") {
		t.Errorf("shown:\n%s", out.String())
	}
}

func TestCheckLine(t *testing.T) {
	now := time.Date(2026, 11, 28, 19, 0, 0, 0, time.UTC)
	served := func(days int) []api.Served {
		return []api.Served{{NotAfter: now.Add(time.Duration(days)*24*time.Hour + time.Hour)}}
	}
	books := []api.PlaybookStatus{{Name: "castor/ord", Served: served(11)}, {Name: "gone", Gone: true, Served: served(2)}, {Name: "fine", Served: served(50)}}
	is := func(reason, severity, playbook string) api.Problem {
		return api.Problem{Key: reason + playbook, Reason: reason, Severity: severity, Playbook: playbook}
	}
	for want, c := range map[string]struct {
		code     int
		problems []api.Problem
	}{
		"OK: nothing needs you; castor/ord ends in 11 d | playbooks=3 need_you=0 days_left=11;14;7": {checkOK, nil},
		"WARNING: 1 asks; castor/ord ends in 11 d | playbooks=3 need_you=1 days_left=11;14;7":       {checkWarning, []api.Problem{is(api.Asks, api.Act, "fine")}},
		"WARNING: 2 failing, 1 config; castor/ord ends in 11 d | playbooks=3 need_you=3 days_left=11;14;7": {
			checkWarning, []api.Problem{is(api.Failing, api.Warn, "a"), is(api.Failing, api.Warn, "b"), is(api.Config, api.Warn, "")},
		},
		"CRITICAL: 1 parked, 1 expiring; castor/ord ends in 11 d | playbooks=3 need_you=1 days_left=11;14;7": {
			checkCritical, []api.Problem{is(api.Parked, api.Act, "a"), is(api.Expiring, api.Warn, "a")},
		},
		"CRITICAL: 1 state; castor/ord ends in 11 d | playbooks=3 need_you=1 days_left=11;14;7": {checkCritical, []api.Problem{is(api.State, api.Act, "")}},
	} {
		code, line := checkLine(&api.Status{Playbooks: books, Problems: c.problems}, 14*24*time.Hour, now)
		if code != c.code || line != want {
			t.Errorf("got  %d, %s\nwant %d, %s", code, line, c.code, want)
		}
	}
	if _, line := checkLine(&api.Status{}, 0, now); line != "OK: nothing needs you | playbooks=0 need_you=0" {
		t.Errorf("got %s", line)
	}
}

// A problem's text has no line breaks that a monitor would take for another message.
func TestUnknownIsOneLine(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out}
	if code := a.unknown(&problem.Error{Message: "down\nOK: fine"}); code != checkUnknown || out.String() != "UNKNOWN: down\\nOK: fine\n" {
		t.Errorf("%d, %q", code, out.String())
	}
}

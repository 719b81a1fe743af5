package alert_test

import (
	"testing"
	"time"

	"moonseal/runtime/alert"
	"moonseal/runtime/api"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// What is over says so, and how.
func TestOver(t *testing.T) {
	now := time.Date(2026, 11, 28, 19, 0, 0, 0, time.UTC)
	served := []api.Served{{Subject: "cucm01/tomcat", NotAfter: now.Add(90 * 24 * time.Hour)}}
	running := api.PlaybookStatus{Name: "castor/ord", Served: served, Running: &api.Running{ID: "r1", Step: "restarting_services"}}
	done := api.PlaybookStatus{Name: "castor/ord", Served: served, LastRun: &api.LastRun{ID: "r1", Status: journal.Done, Ended: now}}
	gone := api.PlaybookStatus{Name: "castor/ord", Gone: true, LastRun: done.LastRun}
	by := func(what, ticket string) []journal.Decided {
		return []journal.Decided{{What: what, By: "noc1", Ticket: ticket}, {What: journal.DecidedUnlock, By: "noc2"}}
	}
	book := func(reason, what string) api.Problem {
		return api.Problem{Key: reason + " castor/ord", Reason: reason, Playbook: "castor/ord", Run: "r1", Node: "cucm01", Subject: "cucm01/tomcat", What: what}
	}
	for want, c := range map[string]struct {
		is        []api.PlaybookStatus
		was       api.Problem
		decisions []journal.Decided
	}{
		"castor/ord continues: noc1 resumed it (CHG0042) after 3 h":                            {[]api.PlaybookStatus{running}, book(api.Parked, "parked"), by(journal.DecidedResume, "CHG0042")},
		"castor/ord is cancelled by noc1 after 3 h":                                            {[]api.PlaybookStatus{done}, book(api.Parked, "parked"), by(journal.DecidedCancel, "")},
		"castor/ord continues: noc1 approved it (CHG1) after 3 h":                              {[]api.PlaybookStatus{running}, book(api.Asks, "asks for approval"), by(journal.DecidedApprove, "CHG1")},
		"castor/ord does not continue: noc1 denied it after 3 h":                               {[]api.PlaybookStatus{running}, book(api.Asks, "asks for approval"), by(journal.DecidedDeny, "")},
		"castor/ord: run r1 is done since 2026-11-28T19:00:00Z, until 2027-02-26, 90 days":     {[]api.PlaybookStatus{done}, book(api.Failed, "failed"), nil},
		"castor/ord continues after 3 h: run r1 is at restarting_services":                     {[]api.PlaybookStatus{running}, book(api.Failing, "failing"), nil},
		"cucm01 serves a certificate, until 2027-02-26, 90 days":                               {[]api.PlaybookStatus{done}, book(api.Expiring, "13 days left"), nil},
		"castor/ord has a window again before its certificate ends, until 2027-02-26, 90 days": {[]api.PlaybookStatus{done}, book(api.Window, "window too narrow"), nil},
		"castor/ord no longer waits for lock x after 3 h":                                      {[]api.PlaybookStatus{running}, book(api.Locked, "waits for lock x"), nil},
		"castor/ord is no longer watched: its script was removed":                              {[]api.PlaybookStatus{gone}, book(api.Failed, "failed"), nil},
		"the config is valid again, and in force, after 3 h":                                   {nil, api.Problem{Key: "config", Reason: api.Config}, nil},
		"x.lua loads again, or was removed, after 3 h":                                         {nil, api.Problem{Key: "broken x.lua", Reason: api.Broken, Playbook: "x"}, nil},
		"the state directory can be written again after 3 h":                                   {nil, api.Problem{Key: "state", Reason: api.State}, nil},
		"nothing of ended runs is left to undo after 3 h":                                      {nil, api.Problem{Key: "cleanup", Reason: api.Left}, nil},
		"over after 3 h: dfw is parked":                                                        {nil, api.Problem{Key: "parked dfw", What: "parked dfw", Text: "dfw is parked"}, nil},
	} {
		if got := alert.Over(&api.Status{Playbooks: c.is}, c.was, c.decisions, 3*time.Hour+time.Minute, now); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// Titles differ by what they are about: severity, playbook, node, and what it is.
func TestTitles(t *testing.T) {
	now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	down := &problem.Error{Kind: problem.Unavailable, Target: "cucm02-sub.example.com:8443", Message: "down"}
	served := func(days int) []api.Served {
		return []api.Served{
			{Subject: "cucm01-pub.example.com/tomcat", NotAfter: now.Add(90 * day)}, {Subject: "cucm02-sub.example.com/tomcat", NotAfter: now.Add(time.Duration(days)*day + time.Hour)},
		}
	}
	s := api.Status{
		State: down, Config: down, Cleanups: 2,
		Scripts: []*problem.Error{{Message: "no", Place: &problem.Place{File: "elm/fleet.lua", Line: 14}}},
		Playbooks: []api.PlaybookStatus{
			{Name: "castor/ord", Served: served(90), Running: &api.Running{Status: journal.Parked, Error: down}},
			{Name: "elm/hub", Script: "elm/fleet.lua", Bundle: "b", Error: down, Served: served(13)},
			{Name: "acme/dfw", Served: served(5)[1:], Running: &api.Running{Status: journal.Waiting, WaitsFor: "approval: go"}, Warning: "no window"},
			{Name: "old", Gone: true, Served: served(-1), Warning: "no window", LastRun: &api.LastRun{Status: journal.Failed}},
			{Name: "dead", Served: served(-1)[1:]},
			{Name: "held", Running: &api.Running{Status: journal.Waiting, Lock: &api.Lock{Name: "x", Warning: "for 5h"}}},
		},
	}
	want := []string{
		"[ACT] moonseal: cannot write to the state directory", "[ACT] castor/ord, cucm02-sub: parked", "[ACT] acme/dfw, cucm02-sub: asks for approval",
		"[ACT] acme/dfw, cucm02-sub: 5 days left", "[ACT] dead, cucm02-sub: expired", "[WARN] moonseal: config refused", "[WARN] elm/hub: elm/fleet.lua:14 is broken",
		"[WARN] moonseal: 2 changes not undone", "[WARN] elm/hub, cucm02-sub: 13 days left", "[WARN] acme/dfw: window too narrow", "[WARN] held: waits for lock x",
	}
	var got []string
	for _, p := range alert.Troubles(&s, alert.Limits{Expiring: 14 * day}, now) {
		got = append(got, p.Title(p.Severity))
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("got %q\nwant %q", got, want)
		}
	}
}

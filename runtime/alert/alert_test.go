package alert_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/alert"
	"moonseal/runtime/api"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

func TestAlertsOnceDailyAndWhenItIsOver(t *testing.T) {
	clock := clockwork.NewFakeClock()
	dir := t.TempDir()
	var sent []string
	down := false
	open := func() *alert.Alerter {
		a, err := alert.Open(dir, func(_ context.Context, title, message string) error {
			if down {
				return errors.New("down")
			}
			sent = append(sent, title+" | "+message)
			return nil
		}, clock, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	trouble := []api.Problem{{
		Key: "parked dfw", Severity: api.Act, Reason: api.Parked, Playbook: "dfw", Node: "sub", What: "parked", Text: "dfw is parked:\x1b\nnext: x", Next: "moonseal resume x",
	}}
	var since time.Time
	over := func(p api.Problem, at time.Time) string {
		since = at
		return p.Playbook + " continues"
	}
	update := func(now []api.Problem, want ...string) {
		t.Helper()
		sent = nil
		if err := a.Update(t.Context(), now, over); err != nil {
			t.Fatal(err)
		}
		if strings.Join(sent, "\n") != strings.Join(want, "\n") {
			t.Errorf("sent %q, want %q", sent, want)
		}
	}
	down = true
	update(trouble) // is retried
	down = false
	update(trouble, "[ACT] dfw, sub: parked | dfw is parked:\\x1b\\nnext: x\nnext: moonseal resume x")
	update(trouble)
	a = open() // a restart repeats nothing
	update(trouble)
	clock.Advance(25 * time.Hour)
	start := clock.Now().Add(-25 * time.Hour)
	update(trouble, "[ACT] dfw, sub: parked, since "+start.UTC().Format(time.DateOnly)+" | dfw is parked:\\x1b\\nnext: x\nnext: moonseal resume x")
	update(nil, "[OVER] dfw, sub: parked | dfw continues")
	update(nil)
	if !since.Equal(start) {
		t.Errorf("it was over since %s, and had started at %s", since, start)
	}
}

func TestTroubles(t *testing.T) {
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	served := []api.Served{{Subject: "cucm01/tomcat", SHA256: "x", NotAfter: now.Add(10 * 24 * time.Hour)}}
	down := &problem.Error{Kind: problem.Unavailable, Call: "cucm.Node:upload", Message: "down"}
	yesterday := now.Add(-25 * time.Hour)
	for name, c := range map[string]struct {
		status api.Status
		want   []string
	}{
		"nothing":  {api.Status{Playbooks: []api.PlaybookStatus{{Name: "a", Running: &api.Running{ID: "r", Status: journal.Running, Since: now.Add(-time.Hour)}}}}, nil},
		"parked":   {api.Status{Playbooks: []api.PlaybookStatus{{Name: "a", Running: &api.Running{ID: "r1", Status: journal.Parked, WaitsFor: "a person: nobody can tell"}}}}, []string{"parked a|a is parked: nobody can tell|moonseal resume r1"}},
		"approval": {api.Status{Playbooks: []api.PlaybookStatus{{Name: "a", Running: &api.Running{ID: "r1", Status: journal.Waiting, WaitsFor: "approval: go?"}}}}, []string{"approval a|a waits for approval: go?|moonseal approve r1, or moonseal deny r1"}},
		"failing": {
			api.Status{Playbooks: []api.PlaybookStatus{{Name: "a", Running: &api.Running{ID: "r1", Status: journal.Waiting, WaitsFor: "retry", Failing: &yesterday, Error: down}}}},
			[]string{"failing a|a keeps failing: cucm.Node:upload: down|moonseal logs r1"},
		},
		"failed, and expiring": {
			api.Status{Playbooks: []api.PlaybookStatus{{Name: "a", Served: served, LastRun: &api.LastRun{ID: "r0", Status: journal.Failed, Error: down}}}},
			[]string{"failed a|a failed (10 days left): cucm.Node:upload: down|moonseal logs r0", "expiring a cucm01/tomcat|a: the certificate of cucm01/tomcat ends on 2026-12-04 (10 days left)|moonseal run a"},
		},
		"wrong config": {
			api.Status{Config: &problem.Error{Target: "moonseal.yaml:3", Message: "unknown key"}},
			[]string{"config|the config is wrong, and the previous one stays in force: moonseal.yaml:3: unknown key|moonseal reload"},
		},
		"broken, and never in order": {
			api.Status{
				Playbooks: []api.PlaybookStatus{{Name: "x", Script: "x.lua", Error: down}},
				Scripts:   []*problem.Error{{Message: "syntax error", Place: &problem.Place{File: "x.lua", Line: 3}}},
			},
			[]string{"broken x.lua|x.lua:3 is broken, and nothing of it runs: syntax error|moonseal check"},
		},
		"broken and left": {
			api.Status{Cleanups: 2, Scripts: []*problem.Error{{Message: "syntax error", Place: &problem.Place{File: "x.lua", Line: 3}}}},
			[]string{"broken x.lua|x.lua:3 is broken, and its last good version runs: syntax error|moonseal check", "cleanup|2 changes of ended runs could not be undone|moonseal cleanup list"},
		},
	} {
		var got []string
		for _, tr := range alert.Troubles(&c.status, alert.Limits{Expiring: 14 * 24 * time.Hour, Waiting: 24 * time.Hour}, now) {
			got = append(got, tr.Key+"|"+tr.Text+"|"+tr.Next)
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s:\n got %q\nwant %q", name, got, c.want)
		}
	}
}

func TestSomeGetIt(t *testing.T) {
	got := 0
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got++ }))
	defer service.Close()
	send := alert.Shoutrrr(func(context.Context) ([]alert.Service, error) {
		up := "generic://" + strings.TrimPrefix(service.URL, "http://") + "?disabletls=yes"
		return []alert.Service{{Name: "DOWN", URL: "generic://127.0.0.1:1?disabletls=yes"}, {Name: "UP", URL: up}}, nil
	})
	a, err := alert.Open(t.TempDir(), send, clockwork.NewFakeClock(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := a.Update(t.Context(), []api.Problem{{Key: "k", Text: "trouble"}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got != 1 {
		t.Errorf("the service that is up got the message %d times", got)
	}
}

func TestAnUnusableURLIsNotShown(t *testing.T) {
	for _, url := range []string{"nonsense://token-abc", "generic://127.0.0.1:1/token-abc?disabletls=yes"} {
		send := alert.Shoutrrr(func(context.Context) ([]alert.Service, error) { return []alert.Service{{Name: "HOOK", URL: url}}, nil })
		if err := send(t.Context(), "t", "m"); err == nil || strings.Contains(err.Error(), "token-abc") || !strings.Contains(err.Error(), "HOOK") {
			t.Errorf("got %v", err)
		}
	}
}

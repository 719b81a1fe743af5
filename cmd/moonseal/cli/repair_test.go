package cli

import (
	"strings"
	"testing"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/runtime/run"
)

// impatient is the playbook cucm-tomcat with little patience: its deploy is
// attempted twice in a moment, and verified for a second. %s are further keys.
const impatient = `
local quick = { retry = { count = 2, backoff = "50ms" } }
return require("moonseal.renew").tomcat {
  name = "cucm-tomcat",
  node = { host = "cucm01-pub", domain = "automate.builders", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" },
  zone = { provider = "cloudflare", api_token = secret "CF_API_TOKEN" },
  ca = { directory = "letsencrypt", email = "admin@automate.builders" },
  verify_within = "1s",
  stages = {
    uploading_certificate = function(ctx, s)
      ctx:step("uploading_certificate", quick, function() return s.node:upload(s.service, s.cert) end)
    end,
    restarting_services = function(ctx, s)
      ctx:step("restarting_services", quick, function() return s.node:restart(s.service, { expect = s.cert }) end)
    end,
  },
  GIVE_UP
}
`

// repair is a deploy that goes wrong until the lab is repaired.
type repair struct {
	breaks   func(*site)
	giveUp   string // of the playbook
	codes    []int  // with which moonseal run ends, again and again
	runs     int    // in all: 1 where the run waits and continues
	words    string // of its error
	repaired func(*site)
}

func always(call string, kind faults.Kind) func(*site) {
	return func(s *site) { s.fault(faults.Fault{Call: call, Kind: kind, Times: -1}) }
}

func repairs() map[string]repair {
	cleared := (*site).clearFaults
	behaves := func(change func(*cucmtest.Behavior)) func(*site) {
		return func(s *site) { s.check(s.lab.Configure(s.t.Context(), demoNode, change)) }
	}
	refused := func(s *site) {
		s.fault(faults.Fault{Call: "cucm.upload-identity", Kind: faults.Status, Code: 400, Times: -1, Body: `{"messages":["The certificate is not to my taste"]}`})
	}
	stopping := behaves(func(b *cucmtest.Behavior) { b.FailRestarts = 100 })
	starting := behaves(func(b *cucmtest.Behavior) { b.FailRestarts = 0 })
	waiting, failed, given := []int{exitWaiting}, []int{exitFailed}, []int{exitWaiting, exitFailed}
	return map[string]repair{
		"upload unavailable":        {always("cucm.upload-identity", faults.Status), "", waiting, 1, "503", cleared},
		"upload unavailable, ended": {always("cucm.upload-trust", faults.Reset), "1ms", given, 2, "given up", cleared},
		"upload refused":            {refused, "", failed, 2, "not to my taste", cleared},
		"no SSH":                    {always("cucm.ssh-login", faults.Reset), "", waiting, 1, "restarting", cleared},
		"no SSH, ended":             {always("cucm.ssh-login", faults.Reset), "1ms", given, 2, "given up", cleared},
		"service stops":             {stopping, "", waiting, 1, "did not start", starting},
	}
}

// TestRepair lets the deploy fail at the upload, at the restart and at the
// verification, repairs the lab and runs again: the run that waits continues, and
// a new one after a failed one uses what that has left. Neither orders again.
func TestRepair(t *testing.T) {
	t.Parallel()
	for name, r := range repairs() {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newLabSite(t)
			more := ""
			if r.giveUp != "" {
				more = `give_up = "` + r.giveUp + `",`
			}
			s.script(demoPlaybook, strings.Replace(impatient, "GIVE_UP", more, 1))
			r.breaks(s)
			out := ""
			for _, code := range r.codes {
				out = s.mustRun(code)
			}
			if !strings.Contains(out, r.words) {
				t.Errorf("it does not say %q:\n%s", r.words, out)
			}
			before := s.ledger()
			r.repaired(s)
			s.mustRun(exitDone)
			l := s.renewed()
			if len(l.Orders) != 1 || len(before.Orders) != 1 || len(l.CSRs) != 1 {
				t.Errorf("%d orders and %d signing requests, want 1 of each", len(l.Orders), len(l.CSRs))
			}
			if runs := s.histories(); len(runs) != r.runs {
				t.Errorf("%d runs, want %d", len(runs), r.runs)
			}
		})
	}
}

// TestRestartAfterCancel ends a run between its upload and its restart, as a kill and a
// cancel do: no restart has started, so the next run restarts, once.
func TestRestartAfterCancel(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]kill{
		"uploaded":       hooked(0, run.AfterStep, "uploading_certificate", ""),
		"restart marked": hooked(0, run.AfterMark, "cucm.Node:restart", "restarting_services"),
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newLabSite(t)
			if !s.killed(k) {
				t.Fatalf("the run never comes to %s", name)
			}
			p := s.start("", "cancel", s.histories()[0].Run.ID, "--config", s.config())
			if code := p.wait(); code != exitDone {
				t.Fatalf("cancel: exit code %d:\n%s", code, p.out.String())
			}
			if n := restarts(s.ledger())["Cisco Tomcat"]; n != 0 {
				t.Fatalf("Tomcat was restarted %d times before", n)
			}
			s.mustRun(exitDone)
			if n := restarts(s.renewed())["Cisco Tomcat"]; n != 1 {
				t.Errorf("Tomcat was restarted %d times, want once", n)
			}
		})
	}
}

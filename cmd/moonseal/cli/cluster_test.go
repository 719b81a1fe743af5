package cli

import (
	"strings"
	"testing"

	"moonseal/runtime/run"
)

const subscriber = "cucm02-sub.automate.builders"

// cluster renews one certificate for two nodes: there are several TXT records, and
// two nodes to restart and to verify.
const cluster = `
return require("moonseal.renew").tomcat {
  name = "cucm-tomcat",
  node = { host = "cucm01-pub", domain = "automate.builders", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" },
  members = { { host = "cucm02-sub" } },
  csr = { distribution = "multi-server", names = { "imp01.automate.builders" } },
  zone = { provider = "cloudflare", api_token = secret "CF_API_TOKEN" },
  ca = { directory = "letsencrypt", email = "admin@automate.builders" },
}
`

// TestCrashInCluster kills a run between two nodes: once the first is restarted, or
// verified. What can be seen from outside is in systest.
func TestCrashInCluster(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]kill{
		"one node restarted": hooked(0, run.AfterStep, "restarting_services["+demoNode+"]", ""),
		"one node verified":  hooked(0, run.AfterStep, "verifying_certificate["+demoNode+"]", ""),
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newLabSite(t)
			s.script(demoPlaybook, cluster)
			if !s.killed(k) {
				t.Fatalf("the run never comes to %s", name)
			}
			s.mustRun(exitDone)
			l := s.renewed()
			s.survived(l, []kill{k}, nil)
			if l.Served[subscriber] != l.Served[demoNode] {
				t.Errorf("the nodes serve %v", l.Served)
			}
			tomcats := 0
			for _, r := range l.Restarts {
				if r.Service == "Cisco Tomcat" {
					tomcats++
				}
			}
			if tomcats != 2 {
				t.Errorf("Cisco Tomcat was restarted %d times, want once on each node", tomcats)
			}
			names := len(l.Certificates[0].Identifiers)
			if names < 2 || len(l.TXT.History) != 2*names {
				t.Errorf("%d names and %d changes of TXT records, want two for each", names, len(l.TXT.History))
			}
		})
	}
}

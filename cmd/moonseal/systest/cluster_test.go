package systest

import (
	"strings"
	"syscall"
	"testing"
)

const subscriber = "cucm02-sub.automate.builders"

// cluster renews one certificate for two nodes: there are several TXT records, and two
// nodes to restart and to verify.
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

// TestKilledInCluster kills a run half-way through what has several parts: the first of the
// records published or removed, or the second of the nodes restarted.
func TestKilledInCluster(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		call string
		skip int
		step string // that dies, and is attempted again
	}{
		"one record published": {"dns.cloudflare.create", 0, "creating_dns_challenge"},
		"one record removed":   {"dns.cloudflare.delete", 0, ""},
		"second node restarts": {"cucm.restart", 6, "restarting_services"}, // the first node has six services
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newLabSite(t, noOutage)
			s.script(demoPlaybook, cluster)
			hold := s.lab.add(fault{Call: c.call, Kind: holdAfter, Skip: c.skip})
			p := s.startRun()
			s.lab.held(p, hold)
			p.kill()
			if code := p.wait(); code != -int(syscall.SIGKILL) {
				t.Fatalf("exit code %d:\n%s", code, p.out.String())
			}
			s.lab.dropped(hold)
			s.lab.clear()
			s.run(exitDone)
			l := s.renewed()
			s.attempts(map[string]int{c.step: 2})
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

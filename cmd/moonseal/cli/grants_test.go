package cli

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// grantsOf are what examples/dfw.lua needs, and no more.
const grantsOf = `
grants:
  dfw:
    secrets: ["CUCM_*", CF_API_TOKEN]
    hosts: [cucm01-pub.automate.builders, api.cloudflare.com, acme-v02.api.letsencrypt.org]
    modules: [cucm, acme, dns, log]
    names: [phones.automate.builders, cucm01-pub.automate.builders]
`

func (s *site) grants(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.config(), []byte(read(s.t, s.config())+text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func TestRenewsWithWhatItIsGranted(t *testing.T) {
	s := newLabSite(t)
	s.script("dfw", read(t, examples+"/dfw.lua"))
	s.grants(grantsOf)
	if p := s.start("", "run", "dfw", "--config", s.config(), "--force"); p.wait() != exitDone {
		t.Fatal(p.out.String())
	}
	s.renewed()
}

func TestStopsAtWhatItIsNotGranted(t *testing.T) {
	for _, c := range []struct{ without, code, want string }{
		{", CF_API_TOKEN", "secret CF_API_TOKEN", `{ "dfw": { secrets: ["CF_API_TOKEN"] } }`},
		{", api.cloudflare.com", "host api.cloudflare.com", `{ "dfw": { hosts: ["api.cloudflare.com"] } }`},
		{", cucm01-pub.automate.builders", "name cucm01-pub.automate.builders", `{ "dfw": { names: ["cucm01-pub.automate.builders"] } }`},
		{", dns", "module dns", `{ "dfw": { modules: ["dns"] } }`},
	} {
		t.Run(c.code, func(t *testing.T) {
			s := newLabSite(t)
			s.script("dfw", read(t, examples+"/dfw.lua"))
			s.grants(strings.Replace(grantsOf, c.without, "", 1))
			p := s.start("", "run", "dfw", "--config", s.config(), "--force")
			code, out := p.wait(), p.out.String()
			if code != exitFailed || !strings.Contains(out, c.code+": the config does not grant it to the playbook dfw") || !strings.Contains(out, c.want) {
				t.Errorf("exit code %d:\n%s", code, out)
			}
		})
	}
}

// What a change was granted is granted to its undo too, and to nothing else: a grant that
// is taken back keeps no TXT record in the zone.
func TestUndoKeepsTheGrantOfItsChange(t *testing.T) {
	s := newLabSite(t)
	s.script("dfw", read(t, examples+"/dfw.lua"))
	s.grants(grantsOf)
	if p := s.start("after-step creating_dns_challenge 1", "run", "dfw", "--config", s.config(), "--force"); p.wait() != -int(syscall.SIGKILL) {
		t.Fatal(p.out.String())
	}
	if n := len(s.ledger().TXT.Present); n != 1 {
		t.Fatalf("%d TXT records", n)
	}
	config, _, _ := strings.Cut(read(t, s.config()), "\ngrants:")
	s.check(os.WriteFile(s.config(), []byte(config+"\ngrants: { other: { secrets: [\"*\"], hosts: [\"*\"], modules: [\"*\"] } }\n"), 0o600))
	id := s.histories()[0].Run.ID
	p := s.start("", "cancel", id, "--config", s.config())
	if code, out := p.wait(), p.out.String(); code != exitDone || !strings.Contains(out, "is cancelled") {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	if l := s.ledger(); len(l.TXT.Present) > 0 {
		t.Errorf("TXT records are left: %v", l.TXT.Present)
	}
}

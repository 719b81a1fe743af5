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

func (w *world) grants(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.config(), []byte(read(w.t, w.config())+text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func TestRenewsWithWhatItIsGranted(t *testing.T) {
	w := startWorld(t)
	w.script("dfw", read(t, examples+"/dfw.lua"))
	w.grants(grantsOf)
	if p := w.start("", "run", "dfw", "--config", w.config(), "--force"); p.wait() != exitDone {
		t.Fatal(p.out.String())
	}
	w.renewed()
}

func TestStopsAtWhatItIsNotGranted(t *testing.T) {
	for _, c := range []struct{ without, code, want string }{
		{", CF_API_TOKEN", "secret CF_API_TOKEN", `{ "dfw": { secrets: ["CF_API_TOKEN"] } }`},
		{", api.cloudflare.com", "host api.cloudflare.com", `{ "dfw": { hosts: ["api.cloudflare.com"] } }`},
		{", cucm01-pub.automate.builders", "name cucm01-pub.automate.builders", `{ "dfw": { names: ["cucm01-pub.automate.builders"] } }`},
		{", dns", "module dns", `{ "dfw": { modules: ["dns"] } }`},
	} {
		t.Run(c.code, func(t *testing.T) {
			w := startWorld(t)
			w.script("dfw", read(t, examples+"/dfw.lua"))
			w.grants(strings.Replace(grantsOf, c.without, "", 1))
			p := w.start("", "run", "dfw", "--config", w.config(), "--force")
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
	w := startWorld(t)
	w.script("dfw", read(t, examples+"/dfw.lua"))
	w.grants(grantsOf)
	if p := w.start("after-step creating_dns_challenge 1", "run", "dfw", "--config", w.config(), "--force"); p.wait() != -int(syscall.SIGKILL) {
		t.Fatal(p.out.String())
	}
	if n := len(w.ledger().TXT.Present); n != 1 {
		t.Fatalf("%d TXT records", n)
	}
	config, _, _ := strings.Cut(read(t, w.config()), "\ngrants:")
	w.check(os.WriteFile(w.config(), []byte(config+"\ngrants: { other: { secrets: [\"*\"], hosts: [\"*\"], modules: [\"*\"] } }\n"), 0o600))
	id := w.histories()[0].Run.ID
	p := w.start("", "cancel", id, "--config", w.config())
	if code, out := p.wait(), p.out.String(); code != exitDone || !strings.Contains(out, "is cancelled") {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	if l := w.ledger(); len(l.TXT.Present) > 0 {
		t.Errorf("TXT records are left: %v", l.TXT.Present)
	}
}

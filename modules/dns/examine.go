package dns

import (
	"cmp"
	"encoding/json"
	"strings"
	"sync"

	"moonseal/runtime/bind"
	"moonseal/runtime/duration"
	"moonseal/runtime/problem"
)

// key is all of a zone's description: with another token it is another thing.
func (z Zone) key() string {
	text, _ := json.Marshal(z) // plain data
	return string(text)
}

// examine asks the provider for the zones of the playbook's hosts.
func (b *binding) examine(c *bind.Call, z *Zone, names []string) []bind.Finding {
	if z.Name != "" {
		names = []string{z.Name}
	}
	findings := make([]bind.Finding, 0, 2)
	f := bind.Finding{What: "zone " + cmp.Or(z.Name, strings.Join(names, " "), "of no host") + " at " + z.Provider}
	zones, err := b.client(c).Check(c.Context, *z, names)
	switch {
	case err != nil:
		f.Error = problem.From(err)
	case len(zones) == 0:
		f.Note = "not tried: none of the playbook's hosts is in a zone; name = \"example.com\" in dns.zone says which"
	default:
		f.Note = "the provider accepts the credentials, and has " + strings.Join(zones, " ")
	}
	findings = append(findings, f)
	watched := make([]error, len(zones))
	var all sync.WaitGroup
	for i, apex := range zones {
		all.Go(func() { watched[i] = b.client(c).Watched(c.Context, *z, apex) })
	}
	all.Wait()
	for i, apex := range zones {
		w := bind.Finding{What: "propagation of " + apex, Note: watchedNote(z.Propagation), Error: problem.From(watched[i])}
		if blocksSame(f.Error, w.Error) {
			continue
		}
		findings = append(findings, w)
	}
	return findings
}

// blocksSame reports whether both say that the servers of the same zone cannot be
// reached, which is one finding.
func blocksSame(a, b *problem.Error) bool {
	return a != nil && b != nil && a.Code == serversBlocked && b.Code == serversBlocked && a.Target == b.Target
}

// watchedNote says what decides whether records are published.
func watchedNote(p Propagation) string {
	switch p.mode() {
	case modeResolvers:
		return "all resolvers answer"
	case modeDoH:
		return "all DNS over HTTPS endpoints answer"
	case modeWait:
		return "nothing is asked: " + duration.Format(p.wait()) + " have to pass"
	default:
		return "all of its name servers answer"
	}
}

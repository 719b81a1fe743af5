package dns

import (
	"cmp"
	"encoding/json"
	"strings"

	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
)

// key is all of a zone's description: with another token it is another thing.
func (z Zone) key() string {
	text, _ := json.Marshal(z) // plain data
	return string(text)
}

// look asks the provider for the zones of the playbook's hosts.
func (b *binding) look(c *bind.Call, z *Zone, names []string) []bind.Finding {
	if z.Name != "" {
		names = []string{z.Name}
	}
	f := bind.Finding{What: "zone " + cmp.Or(z.Name, strings.Join(names, " "), "of no host") + " at " + z.Provider}
	zones, err := b.client(c).Check(c.Context, *z, names)
	switch {
	case err != nil:
		f.Error = problem.From(err)
	case len(zones) == 0:
		f.Note = "not tried: none of the playbook's hosts is in a zone; name = \"example.com\" in dns.zone says which"
	default:
		f.Note = "the provider takes the credentials, and has " + strings.Join(zones, " ")
	}
	return []bind.Finding{f}
}

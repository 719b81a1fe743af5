package dns

import (
	"cmp"
	"context"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
)

// checker is a provider whose list does not need its credentials.
type checker interface {
	// check asks something that only its credentials' owner may.
	check(ctx context.Context, apex string) error
}

// Check looks, and changes nothing, whether the provider takes the credentials of z and
// has the zones in which the challenges of names would be; it returns these zones. A name
// that is in no zone is left out, and so is one that is in another than z names, unless
// all are: which names the CA asks for is not known here. Nor is whether the credentials
// may write: no provider says so without being written to.
func (c *Client) Check(ctx context.Context, z Zone, names []string) (zones []string, err error) {
	p, l, err := c.open(ctx, z)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 && l.zone != "" {
		names = []string{l.zone}
	}
	challenged := challengedOf(names)
	places, err := l.places(ctx, challenged, l.follow)
	if err != nil {
		return nil, err
	}
	var strange error // the first name of another zone
	var blocked *problem.Error
	for _, name := range challenged {
		at := places[name]
		apex := at.apex
		switch {
		case at.err != nil: // it is in no zone
			continue
		case l.zone != "" && apex != l.zone:
			if strange == nil {
				strange = outside(name, at.place, l.zone)
			}
			continue
		case slices.Contains(zones, apex):
			continue
		}
		if k, ok := p.(checker); ok {
			err = k.check(ctx, apex)
		} else {
			_, err = p.list(ctx, apex, at.target, "TXT")
		}
		if err != nil {
			return zones, err
		}
		zones = append(zones, apex)
		blocked = cmp.Or(blocked, at.blocked)
	}
	if blocked != nil && z.Propagation.mode() == modeAuthoritative {
		return zones, blocked
	}
	if len(zones) == 0 {
		return nil, strange
	}
	return zones, nil
}

// challengedOf returns where the challenges of DNS names would be, without what cannot be
// a name in a zone.
func challengedOf(names []string) []string {
	var out []string
	for _, name := range names {
		clean, err := cleanName(strings.TrimPrefix(name, "*."))
		if err == nil && strings.Contains(clean, ".") && !isAddress(clean) {
			out = append(out, "_acme-challenge."+clean)
		}
	}
	return out
}

// isAddress reports whether a name is an IP address, whose last label is a number.
func isAddress(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	return strings.Trim(last, "0123456789") == ""
}

// check implements [checker]: it signs a question for the zone's SOA record. A
// server answers a signature that it does not accept with an error, whatever the
// question (RFC 8945 section 5.2).
func (p *rfc2136Zone) check(ctx context.Context, apex string) error {
	_, err := p.signed(ctx, apex, apex, mdns.TypeSOA)
	return err
}

package dns

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	mdns "github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"moonseal/runtime/problem"
)

// lookup answers questions about zones. What it finds about servers is kept by the
// client. It is safe for concurrent use.
//
// A caching resolver is never asked for a name that is about to be published, nor for
// one below it: it would remember the absence. Zones are found from the parent down:
// the resolvers are asked for the name servers of a zone far above the name, and the
// servers themselves for the rest. Of the ancestors of a zone's apex every resolver has
// an answer that hides nothing.
type lookup struct {
	c         *Client
	z         Zone
	zone      string // the zone's name if the script names it
	resolvers []server
}

func (c *Client) lookup(z Zone) (*lookup, error) {
	resolvers, err := c.resolvers(z)
	if err != nil {
		return nil, err
	}
	l := &lookup{c: c, z: z, resolvers: resolvers}
	if z.Name != "" {
		l.zone, err = cleanName(z.Name)
	}
	return l, err
}

// located is a place, or why none was found.
type located struct {
	place
	err error
}

// places finds the places of names with find, all at the same time, so that zones whose
// servers cannot be reached are found out side by side. It ends at the first error, but
// for names that are in no zone.
func (l *lookup) places(ctx context.Context, names []string, find func(context.Context, string) (place, error)) (map[string]located, error) {
	var mu sync.Mutex
	out := make(map[string]located, len(names))
	group, ctx := errgroup.WithContext(ctx)
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		group.Go(func() error {
			at, err := find(ctx, name)
			if err != nil && problem.From(err).Kind != problem.NotFound {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			out[name] = located{at, err}
			return nil
		})
	}
	return out, group.Wait()
}

// serversOf returns the zone's authoritative servers, host:53, all of them.
func (l *lookup) serversOf(ctx context.Context, apex string) ([]server, error) {
	servers, err := l.nameServers(ctx, apex)
	if err == nil && len(servers) == 0 {
		return nil, &problem.Error{
			Kind: problem.NotFound, Target: apex, Message: "the zone has no name servers: no NS record", Work: problem.NotDone,
			Hint: "check the zone's name",
		}
	}
	return servers, err
}

// nameServers is serversOf for a name that may be no zone's: then there are none.
func (l *lookup) nameServers(ctx context.Context, name string) ([]server, error) {
	m := l.c.memory
	key := l.key(name)
	defer m.turn("name servers " + key)()
	m.mu.Lock()
	known, ok := m.servers[key]
	m.mu.Unlock()
	if ok && l.c.opt.Clock.Since(known.at) < keepFound {
		return known.servers, nil
	}
	a, err := l.recursive(ctx, name, mdns.TypeNS)
	if err != nil {
		return nil, err
	}
	out := l.c.serversIn(a.Answer, name)
	if len(out) > 0 {
		l.keepServers(name, out)
	}
	return out, nil
}

func (l *lookup) key(name string) string { return strings.Join(l.z.Resolvers, " ") + "\x00" + name }

func (l *lookup) keepServers(apex string, servers []server) {
	m := l.c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	m.servers[l.key(apex)] = found{servers, l.c.opt.Clock.Now()}
}

// serversIn returns the servers of a zone that records name.
func (c *Client) serversIn(rrs []mdns.RR, apex string) []server {
	var out []server
	for _, rr := range rrs {
		if ns, ok := rr.(*mdns.NS); ok && strings.EqualFold(ns.Hdr.Name, fqdn(apex)) {
			out = append(out, server{addr: net.JoinHostPort(strings.ToLower(strings.TrimSuffix(ns.Ns, ".")), "53"), dial: c.opt.Ask})
		}
	}
	return out
}

// top returns the highest zone above name that the resolvers know, from the second
// level on: its servers know the zones below it.
func (l *lookup) top(ctx context.Context, name string) (string, error) {
	for _, at := range above(name) {
		servers, err := l.nameServers(ctx, at)
		if err != nil {
			return "", err
		}
		if len(servers) > 0 {
			return at, nil
		}
	}
	return "", &problem.Error{
		Kind: problem.NotFound, Target: name, Message: "no zone holds this name: no name above it has name servers", Work: problem.NotDone,
		Hint: "check the name, or set the zone's name and resolvers",
	}
}

// above returns the names above name that may be a zone's, the highest first: those of
// two labels and more, or the only one.
func above(name string) []string {
	var out []string
	for _, at, _ := strings.Cut(name, "."); at != ""; _, at, _ = strings.Cut(at, ".") {
		if strings.Contains(at, ".") || len(out) == 0 {
			out = append(out, at)
		}
	}
	slices.Reverse(out)
	return out
}

// place is where a name is: the zone that holds it, and where it leads.
type place struct {
	target  string // the name at the end of its aliases
	apex    string // the target's zone
	via     string // the last alias, such as "a CNAME"; "" if there is none
	cut     string // the zone that the script names, if the target is in one below it
	blocked *problem.Error
}

// follow returns where the record for name belongs.
func (l *lookup) follow(ctx context.Context, name string) (place, error) {
	trail := []string{name}
	p := place{target: name}
	for {
		step, err := l.locate(ctx, p.target)
		if err != nil {
			return p, err
		}
		p.apex, p.cut = step.apex, step.cut
		if step.blocked != nil && p.blocked == nil {
			p.blocked = step.blocked
		}
		if step.target == "" {
			l.keepPlace(name, p)
			return p, nil
		}
		next, err := cleanName(step.target)
		if err != nil {
			return p, err
		}
		p.target, p.via = next, step.via
		if trail = append(trail, next); slices.Contains(trail[:len(trail)-1], next) {
			return p, looping(name, trail)
		}
		if len(trail) > maxCNAMEs+1 {
			return p, &problem.Error{
				Kind: problem.Mismatch, Target: name, Work: problem.NotDone,
				Message: fmt.Sprintf("CNAME chain longer than %d: %s", maxCNAMEs, strings.Join(trail, " -> ")), Hint: "shorten the chain of CNAME records",
			}
		}
	}
}

func (l *lookup) keepPlace(name string, p place) {
	m := l.c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	m.places[l.z.key()+name] = placed{p, l.c.opt.Clock.Now()}
}

// known is follow for a name that was followed a while ago.
func (l *lookup) known(ctx context.Context, name string) (place, error) {
	m := l.c.memory
	m.mu.Lock()
	p, ok := m.places[l.z.key()+name]
	m.mu.Unlock()
	if ok && p.blocked == nil && l.c.opt.Clock.Since(p.at) < keepFound {
		return p.place, nil
	}
	return l.follow(ctx, name)
}

// maxCuts bounds how many zones lie below each other.
const maxCuts = 16

// locate returns the zone that holds name, and as target where an alias at the name
// leads; "" if there is none.
func (l *lookup) locate(ctx context.Context, name string) (place, error) {
	p := place{apex: l.zone}
	var err error
	if l.zone == "" || !within(name, l.zone) {
		if p.apex, err = l.top(ctx, name); err != nil {
			return p, err
		}
	}
	began := p.apex
	for range maxCuts {
		servers, err := l.serversOf(ctx, p.apex)
		if err != nil {
			return p, err
		}
		a, from, why, err := l.authoritative(ctx, p.apex, servers, name)
		if err != nil {
			return p, err
		}
		if a == nil {
			return l.behind(ctx, p, name, why)
		}
		cut := zoneIn(a, p.apex, name)
		if cut != "" {
			p.apex = cut
			if began == l.zone {
				p.cut = l.zone
			}
		}
		if !a.Authoritative { // a referral
			l.keepServers(cut, l.c.serversIn(a.Ns, cut))
			continue
		}
		p.target, p.via = aliasIn(a, name)
		if p.via == viaCNAME {
			made, err := l.synthesized(ctx, p.apex, from, name, p.target)
			if err != nil {
				return p, err
			}
			if made { // RFC 4592: not for a name that will exist
				p.target, p.via = "", ""
			}
		}
		return p, nil
	}
	return p, &problem.Error{Kind: problem.Mismatch, Target: name, Message: "endless delegation: servers refer to ever more others", Work: problem.NotDone}
}

// authoritative asks all servers of a zone for a CNAME at name, and returns the answer
// of one that serves the name's zone or knows who does, and that server; no answer, and
// why, if there is no such server. Servers that cannot be reached are not asked again
// for a while.
func (l *lookup) authoritative(ctx context.Context, apex string, servers []server, name string) (*mdns.Msg, server, *problem.Error, error) {
	defer l.c.memory.turn("zone " + apex)()
	if why := l.c.blockedNow(apex); why != nil {
		return nil, server{}, why, nil
	}
	a, from, failures, err := l.race(ctx, servers, name, mdns.TypeCNAME, false, func(a *mdns.Msg) string {
		switch {
		case a.Rcode != mdns.RcodeSuccess && a.Rcode != mdns.RcodeNameError:
			return "answered " + rcodeName(a.Rcode)
		case !a.Authoritative && zoneIn(a, apex, name) == "":
			return "does not serve " + apex
		}
		return ""
	})
	if a != nil || err != nil {
		return a, from, nil, err
	}
	return nil, server{}, l.c.noteFailures(apex, name, failures), nil
}

// zoneIn returns the zone below apex that a server's answer says that name is in; "" if
// it names none.
func zoneIn(a *mdns.Msg, apex, name string) string {
	for _, rr := range a.Ns {
		switch rr.(type) {
		case *mdns.NS, *mdns.SOA:
			owner := strings.TrimSuffix(strings.ToLower(rr.Header().Name), ".")
			if owner != apex && within(owner, apex) && within(name, owner) && isName(owner) {
				return owner
			}
		}
	}
	return ""
}

// behind is locate for a zone none of whose servers helps, such as behind a firewall. The
// provider knows the zone's CNAMEs. The resolvers are asked for one only if the name is
// in another zone than the one that is to be written to: there has to be one then, so
// that no absence is remembered.
func (l *lookup) behind(ctx context.Context, p place, name string, why *problem.Error) (place, error) {
	p.blocked = why
	if l.zone != "" && !within(name, l.zone) {
		if err := l.deepen(ctx, &p, name); err != nil {
			return p, err
		}
		return l.aliasByResolvers(ctx, p, name)
	}
	if l.zone == "" {
		if err := l.deepen(ctx, &p, name); err != nil {
			return p, err
		}
	}
	w, err := l.c.provider(ctx, l.z)
	if err != nil {
		return p, err
	}
	aliases, err := l.aliases(ctx, w, p.apex, name)
	switch {
	case err != nil && problem.From(err).Kind == problem.NotFound: // of another zone than the provider's
		return l.aliasByResolvers(ctx, p, name)
	case err != nil:
		return p, err
	case len(aliases) > 0:
		p.target, p.via = strings.TrimSuffix(strings.ToLower(aliases[0].Value), "."), viaCNAME
	}
	return p, nil
}

// deepen makes p the deepest zone above name that the resolvers know.
func (l *lookup) deepen(ctx context.Context, p *place, name string) error {
	for _, at := range above(name) {
		if len(at) <= len(p.apex) {
			continue
		}
		servers, err := l.nameServers(ctx, at)
		if err != nil {
			return err
		}
		if len(servers) > 0 {
			p.apex = at
		}
	}
	return nil
}

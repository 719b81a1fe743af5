package dns

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

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

// memory is what a client has found out about zones and their servers.
type memory struct {
	mu      sync.Mutex
	servers map[string]found           // by resolvers and apex
	places  map[string]placed          // by zone description and name
	blocked map[string]unreachable     // by apex
	shown   map[string]map[string]bool // by value: the servers that have shown it, with its name
	begun   map[string]time.Time       // when a set of challenges was asked about first
	turns   map[string]*sync.Mutex     // held by whoever asks about it, see turn
}

type found struct {
	servers []server
	at      time.Time
}

type placed struct {
	place
	at time.Time
}

type unreachable struct {
	why *problem.Error
	at  time.Time
}

const (
	// keepFound is how long what was found holds: a run may continue for days.
	keepFound = 10 * time.Minute
	// keepBlocked is how long servers that cannot be reached are not asked again.
	keepBlocked = time.Minute
)

func newMemory() *memory {
	return &memory{
		servers: map[string]found{}, places: map[string]placed{}, blocked: map[string]unreachable{},
		shown: map[string]map[string]bool{}, begun: map[string]time.Time{}, turns: map[string]*sync.Mutex{},
	}
}

// turn waits until nothing else asks about what, and returns a function that ends the
// turn. The names of one zone take turns: the first finds out for the others that its
// servers cannot be reached, and no server is asked a hundred questions at once.
func (m *memory) turn(what string) (done func()) {
	m.mu.Lock()
	one := m.turns[what]
	if one == nil {
		one = &sync.Mutex{}
		m.turns[what] = one
	}
	m.mu.Unlock()
	one.Lock()
	return one.Unlock
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

// recursive asks all resolvers at once. Which of them answers first does not matter,
// unless it says that there is nothing: another may know better, and gets a moment.
func (l *lookup) recursive(ctx context.Context, name string, qtype uint16) (*mdns.Msg, error) {
	a, _, failures, err := l.race(ctx, l.resolvers, name, qtype, true, func(a *mdns.Msg) string {
		if a.Rcode == mdns.RcodeSuccess || a.Rcode == mdns.RcodeNameError {
			return ""
		}
		return "answered " + rcodeName(a.Rcode)
	})
	if a != nil || err != nil {
		return a, err
	}
	servfail := slices.ContainsFunc(failures, func(f failure) bool { return f.rcode == mdns.RcodeServerFailure })
	if servfail && qtype != mdns.TypeCNAME {
		if err := l.loop(ctx, name); err != nil {
			return nil, err
		}
	}
	return nil, noAnswer(name, qtype, failures)
}

// loop returns an error if the CNAMEs of name lead in a loop: that is what a resolver
// answers SERVFAIL for. Questions for the CNAME itself follow none.
func (l *lookup) loop(ctx context.Context, name string) error {
	trail := []string{name}
	for range maxCNAMEs {
		a, err := l.recursive(ctx, trail[len(trail)-1], mdns.TypeCNAME)
		if err != nil {
			return nil //nolint:nilerr // the first failure is the one to report
		}
		next, _ := aliasIn(a, trail[len(trail)-1])
		if next == "" {
			return nil
		}
		if trail = append(trail, next); slices.Contains(trail[:len(trail)-1], next) {
			return looping(name, trail)
		}
	}
	return nil
}

func noAnswer(name string, qtype uint16, failures []failure) error {
	said := make([]string, 0, len(failures))
	var last error
	for _, f := range failures {
		said = append(said, f.server.addr+" "+f.why)
		if f.err != nil {
			last = f.err
		}
	}
	return &problem.Error{
		Kind: problem.Unavailable, Target: name, Work: problem.NotDone, Cause: last,
		Message: fmt.Sprintf("no server answers for %s %s", name, mdns.TypeToString[qtype]), Server: strings.Join(said, "; "),
	}
}

func rcodeName(rcode int) string {
	if name, ok := mdns.RcodeToString[rcode]; ok {
		return name
	}
	return fmt.Sprintf("RCODE %d", rcode)
}

// failure is a server's answer that is of no use, or that there was none.
type failure struct {
	server server
	why    string
	rcode  int   // 0 if there was no answer
	err    error // nil if there was an answer
}

// secondThoughts is how long an answer that there is nothing waits for a better one.
const secondThoughts = 250 * time.Millisecond

// race asks all servers at once and returns the first answer for which useless says
// "", and who gave it; without one, what each of them said, in the servers' order. The
// error is of a server that is not granted, or of a context that has ended.
func (l *lookup) race(ctx context.Context, servers []server, name string, qtype uint16, recursive bool, useless func(*mdns.Msg) string) (*mdns.Msg, server, []failure, error) {
	type reply struct {
		i   int
		a   *mdns.Msg
		err error
	}
	asking, cancel := context.WithCancel(ctx)
	replies := make(chan reply, len(servers))
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for i, s := range servers {
		all.Go(func() {
			a, err := l.c.ask(asking, s, name, qtype, recursive)
			replies <- reply{i, a, err}
		})
	}
	failures := make([]*failure, len(servers))
	var empty *reply
	patience := time.NewTimer(time.Hour) // until there is an empty answer
	defer patience.Stop()
	for range servers {
		var r reply
		select {
		case r = <-replies:
		case <-patience.C:
			return empty.a, servers[empty.i], nil, nil
		}
		switch {
		case notGranted(r.err):
			return nil, server{}, nil, r.err
		case r.err != nil:
			failures[r.i] = &failure{server: servers[r.i], why: "does not answer: " + problem.Network(r.err).Message, err: r.err}
		case useless(r.a) != "":
			failures[r.i] = &failure{server: servers[r.i], why: useless(r.a), rcode: r.a.Rcode}
		case len(r.a.Answer) > 0 || !recursive:
			return r.a, servers[r.i], nil, nil
		case empty == nil:
			empty = &r
			patience.Reset(secondThoughts)
		}
	}
	if empty != nil {
		return empty.a, servers[empty.i], nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, server{}, nil, problem.Network(err)
	}
	out := make([]failure, 0, len(failures))
	for _, f := range failures {
		out = append(out, *f)
	}
	return nil, server{}, out, nil
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

// maxCNAMEs bounds how many CNAMEs are followed.
const maxCNAMEs = 8

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
				Message: fmt.Sprintf("its CNAME chain is longer than %d: %s", maxCNAMEs, strings.Join(trail, " -> ")), Hint: "shorten the chain of CNAME records",
			}
		}
	}
}

func looping(name string, trail []string) error {
	return &problem.Error{
		Kind: problem.Mismatch, Target: name, Work: problem.NotDone,
		Message: "its CNAMEs form a loop: " + strings.Join(trail, " -> "), Hint: "correct the CNAME records: no resolver and no CA can follow them",
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
	return p, &problem.Error{Kind: problem.Mismatch, Target: name, Message: "its delegation does not end: servers refer to ever more others", Work: problem.NotDone}
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

// viaCNAME and viaDNAME say what kind of alias it is.
const (
	viaCNAME = "a CNAME"
	viaDNAME = "the DNAME of "
)

// aliasIn returns where a CNAME at name points, and what made it.
func aliasIn(a *mdns.Msg, name string) (target, via string) {
	for _, rr := range a.Answer {
		if cname, ok := rr.(*mdns.CNAME); ok && strings.EqualFold(cname.Hdr.Name, fqdn(name)) {
			target, via = strings.TrimSuffix(strings.ToLower(cname.Target), "."), viaCNAME
		}
	}
	for _, rr := range a.Answer {
		if owner := strings.TrimSuffix(strings.ToLower(rr.Header().Name), "."); rr.Header().Rrtype == mdns.TypeDNAME && target != "" && within(name, owner) {
			via = viaDNAME + owner
		}
	}
	return target, via
}

// synthesized reports whether a wildcard made the CNAME at name (RFC 4592). A wildcard
// answers for a name below this one too, unless the name exists; and for one beside it.
func (l *lookup) synthesized(ctx context.Context, apex string, s server, name, target string) (bool, error) {
	defer l.c.memory.turn("zone " + apex)()
	_, parent, _ := strings.Cut(name, ".")
	for _, probe := range []string{rand.Text() + "." + name, rand.Text() + "." + parent} {
		probe = strings.ToLower(probe)
		if !isName(probe) {
			return false, nil
		}
		a, err := l.c.ask(ctx, s, probe, mdns.TypeCNAME, false)
		if err != nil {
			return false, problem.At(problem.Network(err), "", s.addr)
		}
		if got, via := aliasIn(a, probe); got != target || via != viaCNAME {
			return false, nil
		}
	}
	return true, nil
}

// behind is locate where no server of the zone helps, such as behind a firewall. The
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

// aliases returns a name's CNAMEs as the provider knows them: providers bound how often
// they are asked.
func (l *lookup) aliases(ctx context.Context, w provider, apex, name string) ([]Record, error) {
	defer l.c.memory.turn("provider")()
	if err := ctx.Err(); err != nil {
		return nil, problem.Network(err)
	}
	return w.list(ctx, apex, name, "CNAME")
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

func (l *lookup) aliasByResolvers(ctx context.Context, p place, name string) (place, error) {
	a, err := l.recursive(ctx, name, mdns.TypeCNAME)
	if err != nil {
		return p, err
	}
	p.target, p.via = aliasIn(a, name)
	return p, nil
}

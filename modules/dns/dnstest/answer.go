package dnstest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/miekg/dns"
)

// authoritative answers for the world's zones as server view shows them.
type authoritative struct {
	world      *World
	view       int
	signedOnly bool
}

func (a *authoritative) name() string {
	if a.signedOnly {
		return "hidden"
	}
	return strings.TrimPrefix(callName(a.view), "dns.query.")
}

// maxCNAMEs bounds how many CNAMEs an answer follows.
const maxCNAMEs = 8

func (a *authoritative) answer(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
	if q.Opcode == dns.OpcodeUpdate {
		return a.world.update(ctx, w, q)
	}
	if q.Opcode == dns.OpcodeQuery && q.Question[0].Qtype == dns.TypeAXFR {
		return a.world.transfer(ctx, w, q, a.view)
	}
	m := faulty(ctx, a.world.opt.Faults, q, func() *dns.Msg {
		if q.IsTsig() != nil { // a signature must be known, whatever the question (RFC 8945 section 5.2)
			if rcode, tsigError := a.world.authenticate(w, q); rcode != dns.RcodeSuccess {
				return refusedTsig(q, rcode, tsigError)
			}
		} else if a.signedOnly {
			return new(dns.Msg).SetRcode(q, dns.RcodeRefused)
		}
		m := a.lookup(q)
		a.world.noteAsked(a.name(), q, m)
		return m
	}, "dns.query."+a.name(), "dns.query")
	return a.world.sign(m, w, q)
}

func (a *authoritative) lookup(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Compress = true
	echoEDNS(m, q)
	if q.Opcode != dns.OpcodeQuery {
		m.Rcode = dns.RcodeNotImplemented
		return m
	}
	question := q.Question[0]
	if a.world.zones.zoneOf(question.Name) == "" || question.Qclass != dns.ClassINET {
		m.Rcode = dns.RcodeRefused
		return m
	}
	m.Authoritative = true
	fill(m, a.world.zones, a.view, question.Name, question.Qtype)
	return m
}

func echoEDNS(m, q *dns.Msg) {
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(dns.DefaultMsgSize, opt.Do())
	}
}

// fill writes the answer to name and qtype into m, following CNAMEs as far as the world's
// zones go, with the SOA if there is nothing (RFC 2308 section 3). It reports whether the
// CNAMEs end.
func fill(m *dns.Msg, zones *store, view int, name string, qtype uint16) bool {
	for range maxCNAMEs {
		zone := zones.zoneOf(name)
		if zone == "" {
			return true
		}
		rrs := withWildcards(zones.seen(view, zone), zone, name)
		var found []dns.RR
		exists := false
		var alias *dns.CNAME
		for _, rr := range rrs {
			owner := rr.Header().Name
			if !sameName(owner, name) {
				exists = exists || strings.HasSuffix(strings.ToLower(owner), "."+strings.ToLower(dns.Fqdn(name)))
				continue
			}
			exists = true
			if c, ok := rr.(*dns.CNAME); ok {
				alias = c
			}
			if rr.Header().Rrtype == qtype || qtype == dns.TypeANY {
				rr.Header().Name = name // as it was asked, RFC 4343
				found = append(found, rr)
			}
		}
		m.Answer = append(m.Answer, found...)
		switch {
		case len(found) > 0:
			return true
		case alias != nil:
			alias.Hdr.Name = name
			m.Answer = append(m.Answer, alias)
			name = alias.Target
			continue
		case !exists:
			m.Rcode = dns.RcodeNameError
		}
		m.Ns = append(m.Ns, rrs[0]) // the SOA
		return true
	}
	return false
}

// withWildcards adds to a zone's records those that the wildcard at name's closest
// encloser makes (RFC 4592).
func withWildcards(rrs []dns.RR, zone, name string) []dns.RR {
	exists := func(at string) bool {
		return slices.ContainsFunc(rrs, func(rr dns.RR) bool {
			owner := cleanName(rr.Header().Name)
			return owner == at || strings.HasSuffix(owner, "."+at)
		})
	}
	encloser := cleanName(name)
	if exists(encloser) {
		return rrs
	}
	for encloser != zone && !exists(encloser) {
		_, encloser, _ = strings.Cut(encloser, ".")
	}
	for _, rr := range rrs {
		if cleanName(rr.Header().Name) == "*."+encloser {
			made := dns.Copy(rr)
			made.Header().Name = dns.Fqdn(name)
			rrs = append(rrs, made)
		}
	}
	return rrs
}

// resolver answers everything from all zones.
type resolver struct {
	world    *World
	clock    clockwork.Clock
	negative *negativeCache
}

func newResolver(w *World) *resolver {
	return &resolver{world: w, clock: w.opt.Clock, negative: &negativeCache{ttl: w.opt.NegativeTTL, until: map[string]negativeAnswer{}}}
}

func (r *resolver) answer(ctx context.Context, _ dns.ResponseWriter, q *dns.Msg) *dns.Msg {
	return faulty(ctx, r.world.opt.Faults, q, func() *dns.Msg { return r.noted(q) }, callName(slowest), "dns.query")
}

func (r *resolver) noted(q *dns.Msg) *dns.Msg {
	m := r.lookup(q)
	r.world.noteAsked("resolver", q, m)
	return m
}

func (r *resolver) lookup(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Compress, m.RecursionAvailable = true, true
	echoEDNS(m, q)
	if q.Opcode != dns.OpcodeQuery {
		m.Rcode = dns.RcodeNotImplemented
		return m
	}
	question := q.Question[0]
	key := strings.ToLower(question.Name) + dns.TypeToString[question.Qtype]
	now := r.clock.Now()
	if a, ok := r.negative.get(key, now); ok {
		m.Rcode, m.Ns = a.rcode, a.ns
		return m
	}
	if r.world.zones.zoneOf(question.Name) == "" {
		m.Rcode = dns.RcodeNameError
		m.Ns = []dns.RR{rootSOA()}
		return m
	}
	if question.Qtype == dns.TypeCNAME {
		fill(m, r.world.zones, slowest, question.Name, question.Qtype)
	} else if !fill(m, r.world.zones, slowest, question.Name, question.Qtype) {
		m.Answer, m.Rcode = nil, dns.RcodeServerFailure // as resolvers answer a loop
		return m
	}
	if len(m.Answer) == 0 {
		r.negative.put(key, negativeAnswer{rcode: m.Rcode, ns: m.Ns, until: now.Add(r.negative.ttl)})
	}
	return m
}

func rootSOA() dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60}, Ns: "root.test.", Mbox: "hostmaster.test.",
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 60,
	}
}

type negativeAnswer struct {
	rcode int
	ns    []dns.RR
	until time.Time
}

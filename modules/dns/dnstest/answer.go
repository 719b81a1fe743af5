package dnstest

import (
	"context"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/miekg/dns"
)

// authoritative answers for the world's zones as server view shows them.
type authoritative struct {
	world *World
	view  int
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
		if q.IsTsig() != nil { // one who signs wants to be known, whatever the question (RFC 8945 section 5.2)
			if rcode, tsigError := a.world.authenticate(w, q); rcode != dns.RcodeSuccess {
				return refusedTsig(q, rcode, tsigError)
			}
		}
		return a.lookup(q)
	}, callName(a.view), "dns.query")
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

// fill writes the answer to name and qtype into m, following CNAMEs as far as the
// world's zones go, with the SOA where there is nothing (RFC 2308 section 3).
func fill(m *dns.Msg, zones *store, view int, name string, qtype uint16) {
	for range maxCNAMEs {
		zone := zones.zoneOf(name)
		if zone == "" {
			return
		}
		rrs := zones.seen(view, zone)
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
			return
		case alias != nil:
			alias.Hdr.Name = name
			m.Answer = append(m.Answer, alias)
			name = alias.Target
			continue
		case !exists:
			m.Rcode = dns.RcodeNameError
		}
		m.Ns = append(m.Ns, rrs[0]) // the SOA
		return
	}
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
	return faulty(ctx, r.world.opt.Faults, q, func() *dns.Msg { return r.lookup(q) }, callName(slowest), "dns.query")
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
	fill(m, r.world.zones, slowest, question.Name, question.Qtype)
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

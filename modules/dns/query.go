package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
)

// udpSize is the answer's size that we take over UDP (DNS flag day 2020).
const udpSize = 1232

// ask puts one question to one server over UDP, and over TCP where the answer is
// truncated or does not come.
func (c *Client) ask(ctx context.Context, at server, name string, qtype uint16, recursive bool) (*mdns.Msg, error) {
	q := new(mdns.Msg).SetQuestion(fqdn(name), qtype)
	q.RecursionDesired = recursive
	q.SetEdns0(udpSize, false)
	a, err := c.exchange(ctx, "udp", at, q)
	if (err == nil && !a.Truncated) || ctx.Err() != nil || notGranted(err) {
		return a, err
	}
	return c.exchange(ctx, "tcp", at, q)
}

// notGranted reports whether the dialer refused to reach a server.
func notGranted(err error) bool {
	e, ok := errors.AsType[*problem.Error](err)
	return ok && e.Kind == problem.Refused
}

func (c *Client) exchange(ctx context.Context, network string, at server, q *mdns.Msg) (*mdns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opt.QueryTimeout)
	defer cancel()
	conn, err := at.dial(ctx, network, at.addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	client := mdns.Client{Net: network, UDPSize: udpSize, Timeout: c.opt.QueryTimeout}
	a, _, err := client.ExchangeWithConnContext(ctx, q, &mdns.Conn{Conn: conn, UDPSize: udpSize})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case len(a.Question) != 1 || !strings.EqualFold(a.Question[0].Name, q.Question[0].Name) || a.Question[0].Qtype != q.Question[0].Qtype:
		return nil, errors.New("the answer is to another question")
	}
	return a, nil
}

// lookup answers questions about zones, and remembers for the length of one
// operation. It is not safe for concurrent use.
type lookup struct {
	c         *Client
	zone      string // the zone's name where the script gives it
	resolvers []server
	apex      map[string]string
	servers   map[string][]server
}

func (c *Client) lookup(z Zone) (*lookup, error) {
	resolvers, err := c.resolvers(z)
	if err != nil {
		return nil, err
	}
	l := &lookup{c: c, resolvers: resolvers, apex: map[string]string{}, servers: map[string][]server{}}
	if z.Name != "" {
		l.zone, err = cleanName(z.Name)
	}
	return l, err
}

// recursive asks each resolver until one answers.
func (l *lookup) recursive(ctx context.Context, name string, qtype uint16) (*mdns.Msg, error) {
	return l.first(ctx, l.resolvers, name, qtype, true)
}

// first gives the first answer that says that there is something, or that there
// is nothing.
func (l *lookup) first(ctx context.Context, servers []server, name string, qtype uint16, recursive bool) (*mdns.Msg, error) {
	said := make([]string, 0, len(servers))
	var last error
	for _, s := range servers {
		a, err := l.c.ask(ctx, s, name, qtype, recursive)
		switch {
		case notGranted(err):
			return nil, err
		case err != nil:
			last = err
			said = append(said, s.addr+": "+problem.Network(err).Message)
		case a.Rcode == mdns.RcodeSuccess || a.Rcode == mdns.RcodeNameError:
			return a, nil
		default:
			said = append(said, s.addr+" answered "+mdns.RcodeToString[a.Rcode])
		}
	}
	return nil, &problem.Error{
		Kind: problem.Unavailable, Target: name, Work: problem.NotDone, Cause: last,
		Message: fmt.Sprintf("no server answers for %s %s", name, mdns.TypeToString[qtype]), Server: strings.Join(said, "; "),
	}
}

// zoneOf gives the apex of the zone that holds name: the nearest name above it
// with an SOA record of its own.
func (l *lookup) zoneOf(ctx context.Context, name string) (string, error) {
	if l.zone != "" && within(name, l.zone) {
		return l.zone, nil
	}
	if apex, ok := l.apex[name]; ok {
		return apex, nil
	}
	for at := name; at != ""; _, at, _ = strings.Cut(at, ".") {
		a, err := l.recursive(ctx, at, mdns.TypeSOA)
		if err != nil {
			return "", err
		}
		for _, rr := range a.Answer {
			if _, ok := rr.(*mdns.SOA); ok && strings.EqualFold(rr.Header().Name, fqdn(at)) {
				l.apex[name] = at
				return at, nil
			}
		}
	}
	return "", &problem.Error{
		Kind: problem.NotFound, Target: name, Message: "no zone holds this name: no SOA record at it or above it", Work: problem.NotDone,
		Hint: "check the name, or set the zone's name and resolvers",
	}
}

// serversOf gives the zone's authoritative servers, host:53, all of them.
func (l *lookup) serversOf(ctx context.Context, apex string) ([]server, error) {
	if s, ok := l.servers[apex]; ok {
		return s, nil
	}
	a, err := l.recursive(ctx, apex, mdns.TypeNS)
	if err != nil {
		return nil, err
	}
	var out []server
	for _, rr := range a.Answer {
		if ns, ok := rr.(*mdns.NS); ok {
			out = append(out, server{net.JoinHostPort(strings.ToLower(strings.TrimSuffix(ns.Ns, ".")), "53"), l.c.opt.Ask})
		}
	}
	if len(out) == 0 {
		return nil, &problem.Error{
			Kind: problem.NotFound, Target: apex, Message: "the zone has no name servers: no NS record", Work: problem.NotDone,
			Hint: "check the zone's name",
		}
	}
	l.servers[apex] = out
	return out, nil
}

// maxCNAMEs bounds how many CNAMEs are followed.
const maxCNAMEs = 8

// follow gives the name that name's CNAMEs lead to, and its zone, as the
// authoritative servers say; the resolvers are asked where none of those answers.
func (l *lookup) follow(ctx context.Context, name string) (target, apex string, err error) {
	for at, n := name, 0; n <= maxCNAMEs; n++ {
		apex, err := l.zoneOf(ctx, at)
		if err != nil {
			return "", "", err
		}
		next, err := l.alias(ctx, apex, at)
		if err != nil {
			return "", "", err
		}
		if next == "" {
			return at, apex, nil
		}
		if at, err = cleanName(next); err != nil {
			return "", "", err
		}
	}
	return "", "", &problem.Error{
		Kind: problem.Mismatch, Target: name, Work: problem.NotDone,
		Message: fmt.Sprintf("its CNAMEs lead on and on: more than %d", maxCNAMEs), Hint: "look for a loop of CNAME records",
	}
}

// alias gives where name's CNAME points; "" where it has none.
func (l *lookup) alias(ctx context.Context, apex, name string) (string, error) {
	servers, err := l.serversOf(ctx, apex)
	if err != nil {
		return "", err
	}
	a, err := l.first(ctx, servers, name, mdns.TypeCNAME, false)
	if err != nil {
		if ctx.Err() != nil {
			return "", err
		}
		again, rerr := l.recursive(ctx, name, mdns.TypeCNAME)
		if rerr != nil {
			return "", err
		}
		a = again
	}
	for _, rr := range a.Answer {
		if cname, ok := rr.(*mdns.CNAME); ok && strings.EqualFold(cname.Hdr.Name, fqdn(name)) {
			return cname.Target, nil
		}
	}
	return "", nil
}

// texts gives the values of the TXT records in an answer, whatever name they have
// at the end of CNAMEs.
func texts(a *mdns.Msg) []string {
	var out []string
	for _, rr := range a.Answer {
		if txt, ok := rr.(*mdns.TXT); ok {
			out = append(out, unescape(strings.Join(txt.Txt, ""), 10))
		}
	}
	return out
}

package dns

import (
	"context"
	"errors"
	"net"
	"strings"

	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
)

// modesHint says how to do without the servers of a zone.
const modesHint = `let port 53 (UDP and TCP) to them through the firewall, or set propagation = { mode = "resolvers" }, "doh" or "wait" in the zone`

// blockedNow returns why the servers of a zone cannot be reached, if that was found out
// a short while ago.
func (c *Client) blockedNow(apex string) *problem.Error {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	b, ok := c.memory.blocked[apex]
	if !ok || c.opt.Clock.Since(b.at) >= keepBlocked {
		return nil
	}
	return b.why
}

// noteFailures returns what it means that none of a zone's servers was of use for name,
// and keeps it if no answer came at all.
func (c *Client) noteFailures(apex, name string, failures []failure) *problem.Error {
	if answered(failures) {
		return problem.From(noAnswer(name, mdns.TypeCNAME, failures))
	}
	why := blocked(apex, failures)
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	c.memory.blocked[apex] = unreachable{why, c.opt.Clock.Now()}
	return why
}

// answered reports whether one of the servers sent anything.
func answered(failures []failure) bool {
	for _, f := range failures {
		if f.err == nil {
			return true
		}
	}
	return false
}

// serversBlocked is the code of the problem that none of a zone's servers can be reached.
const serversBlocked problem.Code = "dns_servers_blocked"

// blocked is the problem of servers of which none sent an answer.
func blocked(apex string, failures []failure) *problem.Error {
	var names, answers []string
	resolved := false
	for _, f := range failures {
		names = append(names, hostOf(f.server))
		answers = append(answers, hostOf(f.server)+" "+f.why)
		_, unresolved := errors.AsType[*net.DNSError](f.err)
		resolved = resolved || !unresolved
	}
	e := &problem.Error{
		Kind: problem.Unavailable, Code: serversBlocked, Target: "zone " + apex, Work: problem.NotDone, Server: strings.Join(answers, "; "),
		Message: "port 53 to " + strings.Join(names, ", ") + " is blocked from here: no answer over UDP and TCP", Hint: modesHint,
	}
	if !resolved {
		e.Message, e.Hint = "the addresses of its name servers "+strings.Join(names, ", ")+" cannot be resolved here", "check this machine's resolver, and the zone's NS records"
	}
	return e
}

func hostOf(s server) string { return strings.TrimSuffix(s.addr, ":53") }

// Watched asks whether those that a zone's mode of propagation depends on answer for
// the zone: its servers, the resolvers, or the DNS over HTTPS endpoints.
func (c *Client) Watched(ctx context.Context, z Zone, apex string) error {
	l, err := c.lookup(z)
	if err != nil {
		return err
	}
	var asks []ask
	switch z.Propagation.mode() {
	case modeWait:
		return nil
	case modeDoH:
		asks = perServer(z.Propagation.endpoints(c), mdns.TypeNS, true, apex)
	case modeResolvers:
		servers, err := c.propagationResolvers(z.Propagation, l)
		if err != nil {
			return err
		}
		asks = perServer(servers, mdns.TypeNS, true, apex)
	default:
		if why := c.blockedNow(apex); why != nil {
			return why
		}
		servers, err := l.serversOf(ctx, apex)
		if err != nil {
			return err
		}
		asks = perServer(servers, mdns.TypeSOA, false, apex)
	}
	missing, failures, err := c.unseen(ctx, asks)
	switch {
	case err != nil:
		return err
	case len(failures) == len(asks) && !answered(failures) && z.Propagation.mode() == modeAuthoritative:
		return blocked(apex, failures)
	case len(missing) > 0:
		return &problem.Error{
			Kind: problem.Unavailable, Target: "zone " + apex, Message: strings.Join(missing, "; "), Work: problem.NotDone,
			Hint: "no record counts as published until each of them shows it: repair or remove what does not answer, or choose another propagation mode",
		}
	}
	return nil
}

package dns

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
)

// udpSize is the answer's size that we take over UDP (DNS flag day 2020).
const udpSize = 1232

// ask puts one question to one server: over UDP to its IPv4 address, soon after to
// its IPv6 address too, and over TCP if the answer is truncated or does not come. The
// first whole answer counts.
func (c *Client) ask(ctx context.Context, at server, name string, qtype uint16, recursive bool) (*mdns.Msg, error) {
	q := new(mdns.Msg).SetQuestion(fqdn(name), qtype)
	q.RecursionDesired = recursive
	q.SetEdns0(udpSize, false)
	networks := []string{"udp4", "udp6", "tcp"}
	if host, _, err := net.SplitHostPort(at.addr); err == nil && net.ParseIP(host) != nil {
		networks = []string{"udp", "tcp"} // it has one address
	}
	ctx, cancel := context.WithCancel(ctx)
	e := &enquiry{c: c, at: at, q: q, got: make(chan attempt, len(networks)), left: networks}
	defer e.all.Wait()
	defer cancel()
	return e.run(ctx)
}

// headStart is what a server's IPv4 address has before its IPv6 address is asked too.
const headStart = 150 * time.Millisecond

// enquiry is one question to one server, over one transport after the other.
type enquiry struct {
	c    *Client
	at   server
	q    *mdns.Msg
	got  chan attempt
	left []string // networks that were not tried yet
	busy int
	all  sync.WaitGroup
}

type attempt struct {
	network string
	answer  *mdns.Msg
	err     error
}

func (e *enquiry) run(ctx context.Context) (*mdns.Msg, error) {
	var failed error
	next := e.start(ctx)
	defer func() { next.Stop() }()
	for {
		var got attempt
		select {
		case <-next.C:
			if len(e.left) > 0 {
				next = e.start(ctx)
			}
			continue
		case got = <-e.got:
			e.busy--
		}
		truncated := got.err == nil && got.answer.Truncated && got.network != "tcp"
		switch {
		case got.err == nil && !truncated, notGranted(got.err):
			return got.answer, got.err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case truncated && len(e.left) > 0:
			e.left = []string{"tcp"}
		case failed == nil, got.err != nil && !noSuchFamily(got.err):
			failed = got.err
		}
		if len(e.left) > 0 && (truncated || e.busy == 0) {
			next.Stop()
			next = e.start(ctx)
		}
		if e.busy == 0 {
			return nil, failed
		}
	}
}

// start asks over the next network, and returns the timer for the one after it.
func (e *enquiry) start(ctx context.Context) *time.Timer {
	network := e.left[0]
	e.left = e.left[1:]
	e.busy++
	e.all.Go(func() {
		a, err := e.c.exchange(ctx, network, e.at, e.q.Copy())
		e.got <- attempt{network, a, err}
	})
	pause := e.c.opt.QueryTimeout / 2
	if len(e.left) > 1 {
		pause = min(headStart, pause)
	}
	return time.NewTimer(pause)
}

// noSuchFamily reports whether a server has no address of the network's family.
func noSuchFamily(err error) bool {
	_, ok := errors.AsType[*net.AddrError](err)
	return ok
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
	client := mdns.Client{UDPSize: udpSize, Timeout: c.opt.QueryTimeout}
	a, _, err := client.ExchangeWithConnContext(ctx, q, &mdns.Conn{Conn: conn, UDPSize: udpSize})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case !answersTo(a, q):
		return nil, nonsense("it is to another question")
	}
	return a, nil
}

// answersTo reports whether an answer is to that question.
func answersTo(a, q *mdns.Msg) bool {
	return len(a.Question) == 1 && strings.EqualFold(a.Question[0].Name, q.Question[0].Name) && a.Question[0].Qtype == q.Question[0].Qtype
}

// texts returns the values of the TXT records in an answer, whatever name they have
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

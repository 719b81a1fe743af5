package dns

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
)

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

func noAnswer(name string, qtype uint16, failures []failure) error {
	answers := make([]string, 0, len(failures))
	var last error
	for _, f := range failures {
		answers = append(answers, f.server.addr+" "+f.why)
		if f.err != nil {
			last = f.err
		}
	}
	return &problem.Error{
		Kind: problem.Unavailable, Target: name, Work: problem.NotDone, Cause: last,
		Message: fmt.Sprintf("no server answers for %s %s", name, mdns.TypeToString[qtype]), Server: strings.Join(answers, "; "),
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
	name   string // that was asked for
	rcode  int    // 0 if there was no answer
	err    error  // nil if there was an answer
}

// secondThoughts is how long an answer that there is nothing waits for a better one.
const secondThoughts = 250 * time.Millisecond

// race asks all servers at once and returns the first answer for which useless says "",
// and its server; without one, what each of them answered, in the servers' order. The
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
			failures[r.i] = &failure{server: servers[r.i], name: name, why: "does not answer: " + problem.Network(r.err).Message, err: r.err}
		case useless(r.a) != "":
			failures[r.i] = &failure{server: servers[r.i], name: name, why: useless(r.a), rcode: r.a.Rcode}
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

package dns

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
)

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

// maxCNAMEs bounds how many CNAMEs are followed.
const maxCNAMEs = 8

func looping(name string, trail []string) error {
	return &problem.Error{
		Kind: problem.Mismatch, Target: name, Work: problem.NotDone,
		Message: "its CNAMEs form a loop: " + strings.Join(trail, " -> "), Hint: "correct the CNAME records: no resolver and no CA can follow them",
	}
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

// aliases returns a name's CNAMEs as the provider knows them: providers bound how often
// they are asked.
func (l *lookup) aliases(ctx context.Context, w provider, apex, name string) ([]Record, error) {
	defer l.c.memory.turn("provider")()
	if err := ctx.Err(); err != nil {
		return nil, problem.Network(err)
	}
	return w.list(ctx, apex, name, "CNAME")
}

func (l *lookup) aliasByResolvers(ctx context.Context, p place, name string) (place, error) {
	a, err := l.recursive(ctx, name, mdns.TypeCNAME)
	if err != nil {
		return p, err
	}
	p.target, p.via = aliasIn(a, name)
	return p, nil
}

package dns

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
)

// Propagation says whom to ask whether records show.
type Propagation struct {
	SkipAuthoritative bool     // do not ask the zone's authoritative servers: where a firewall keeps us from them
	Resolvers         []string // resolvers that have to show the records too, host or host:port
}

// Propagated reports whether every challenge's value shows at all authoritative
// servers of the zone that it was written to, over UDP and, where need be, TCP.
// reason says who does not show what; a server that does not answer is such a
// reason and no error.
func (c *Client) Propagated(ctx context.Context, z Zone, challenges []Challenge, opt Propagation) (ok bool, reason string, err error) {
	clean, err := checked(challenges)
	if err != nil || len(clean) == 0 {
		return err == nil, "", err
	}
	resolvers, err := serversAt(opt.Resolvers, c.opt.Dial)
	if err != nil {
		return false, "", err
	}
	var asks []ask
	if !opt.SkipAuthoritative {
		if asks, err = c.authoritativeAsks(ctx, z, clean); err != nil {
			return false, "", err
		}
	}
	missing, refused := c.unseen(ctx, asks)
	if len(missing) == 0 && refused == nil && len(resolvers) > 0 {
		missing, refused = c.unseen(ctx, resolverAsks(resolvers, clean)) // later: they cache absence
	}
	if err := ctx.Err(); err != nil {
		return false, "", problem.Network(err)
	}
	if refused != nil {
		return false, "", refused
	}
	if len(missing) == 0 && opt.SkipAuthoritative && len(resolvers) == 0 {
		return false, "", usage("nobody to ask: no authoritative servers and no resolvers")
	}
	return len(missing) == 0, strings.Join(missing, "; "), nil
}

// ask is one question whose answer has to hold values.
type ask struct {
	server    server
	name      string
	values    []string
	recursive bool
}

func (c *Client) authoritativeAsks(ctx context.Context, z Zone, challenges []Challenge) ([]ask, error) {
	l, err := c.lookup(z)
	if err != nil {
		return nil, err
	}
	records := make([]Record, 0, len(challenges))
	for _, ch := range challenges {
		target, apex, err := l.follow(ctx, ch.Name)
		if err != nil {
			return nil, err
		}
		records = append(records, Record{Zone: apex, Name: target, Value: ch.Value})
	}
	var asks []ask
	for _, group := range byName(records) {
		servers, err := l.serversOf(ctx, group[0].Zone)
		if err != nil {
			return nil, err
		}
		var values []string
		for _, r := range group {
			values = append(values, r.Value)
		}
		for _, s := range servers {
			asks = append(asks, ask{server: s, name: group[0].Name, values: values})
		}
	}
	return asks, nil
}

func resolverAsks(resolvers []server, challenges []Challenge) []ask {
	values := map[string][]string{}
	var names []string
	for _, ch := range challenges {
		if values[ch.Name] == nil {
			names = append(names, ch.Name)
		}
		values[ch.Name] = append(values[ch.Name], ch.Value)
	}
	var asks []ask
	for _, s := range resolvers {
		for _, n := range names {
			asks = append(asks, ask{server: s, name: n, values: values[n], recursive: true})
		}
	}
	return asks
}

// atOnce bounds the questions under way.
const atOnce = 16

// unseen asks them all and says what is missing, sorted; err is of a server that is
// not granted.
func (c *Client) unseen(ctx context.Context, asks []ask) (missing []string, err error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, q := range asks {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			why, refused := c.missing(ctx, q)
			mu.Lock()
			defer mu.Unlock()
			if refused != nil {
				err = refused
			}
			if why != "" {
				missing = append(missing, strings.TrimSuffix(q.server.addr, ":53")+why)
			}
		})
	}
	all.Wait()
	slices.Sort(missing)
	return missing, err
}

// missing says what q's server does not show; "" if it shows all. The error is of a
// server that is not granted.
func (c *Client) missing(ctx context.Context, q ask) (string, error) {
	a, err := c.ask(ctx, q.server, q.name, mdns.TypeTXT, q.recursive)
	switch {
	case notGranted(err):
		return "", err
	case err != nil:
		return " does not answer: " + problem.Network(err).Message, nil
	case a.Rcode != mdns.RcodeSuccess && a.Rcode != mdns.RcodeNameError:
		return fmt.Sprintf(" answers %s for %s", mdns.RcodeToString[a.Rcode], q.name), nil
	case !q.recursive && !a.Authoritative:
		return " does not serve " + q.name, nil
	}
	seen := texts(a)
	n := 0
	for _, v := range q.values {
		if !slices.Contains(seen, v) {
			n++
		}
	}
	switch n {
	case 0:
		return "", nil
	case len(q.values):
		return fmt.Sprintf(" does not show %s yet", q.name), nil
	default:
		return fmt.Sprintf(" shows only %d of %d values of %s", len(q.values)-n, len(q.values), q.name), nil
	}
}

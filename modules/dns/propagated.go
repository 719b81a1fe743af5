package dns

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"moonseal/runtime/duration"
	"moonseal/runtime/problem"
)

// Propagation says how it is found out that records are published.
type Propagation struct {
	Mode      string        `lua:"mode,optional" default:"authoritative" enum:"authoritative resolvers doh wait" doc:"which servers to ask, see below"`
	Resolvers []string      `lua:"resolvers,optional" doc:"resolvers that have to show the values, host or host:port; the zone's, the config's or this machine's unless set"`
	URLs      []string      `lua:"urls,optional" doc:"doh: endpoints that have to show the values; https://cloudflare-dns.com/dns-query and https://dns.google/dns-query unless set"`
	Wait      time.Duration `lua:"wait,optional" doc:"wait: how long, 2m unless set; resolvers and doh: how long before the first question, no time unless set"`
}

const (
	modeAuthoritative = "authoritative"
	modeResolvers     = "resolvers"
	modeDoH           = "doh"
	modeWait          = "wait"

	defaultWait = 2 * time.Minute
	longestWait = 24 * time.Hour
)

func (p Propagation) mode() string { return cmp.Or(p.Mode, modeAuthoritative) }

// wait returns how long nothing is asked.
func (p Propagation) wait() time.Duration {
	switch p.mode() {
	case modeWait:
		return cmp.Or(p.Wait, defaultWait)
	case modeAuthoritative:
		return 0
	default:
		return p.Wait
	}
}

// check returns what is wrong; before is the prefix of the fields' names.
func (p Propagation) check(before string) error {
	if !slices.Contains([]string{modeAuthoritative, modeResolvers, modeDoH, modeWait}, p.mode()) {
		return problem.Invalid(before+"mode", fmt.Sprintf("must be authoritative, resolvers, doh or wait, got %q", p.Mode))
	}
	for i, resolver := range p.Resolvers {
		if !isServer(resolver) {
			return problem.Invalid(fmt.Sprintf("%sresolvers[%d]", before, i+1), fmt.Sprintf("must be a host or host:port, got %q", resolver))
		}
	}
	for i, u := range p.URLs {
		if !isEndpoint(u) {
			return problem.Invalid(fmt.Sprintf("%surls[%d]", before, i+1), fmt.Sprintf("must be a URL such as %q, got %q", defaultEndpoints()[0], u))
		}
	}
	switch {
	case len(p.URLs) > 0 && p.mode() != modeDoH:
		return problem.Invalid(before+"urls", `is for mode = "doh" only`)
	case len(p.Resolvers) > 0 && (p.mode() == modeDoH || p.mode() == modeWait):
		return problem.Invalid(before+"resolvers", "are not asked with mode = \""+p.mode()+"\"")
	case p.Wait != 0 && p.mode() == modeAuthoritative:
		return problem.Invalid(before+"wait", `is for the modes "wait", "resolvers" and "doh"`)
	case p.Wait < 0 || p.Wait > longestWait:
		return problem.Invalid(before+"wait", "must be between 0s and 24h, got "+duration.Format(p.Wait))
	}
	return nil
}

func (p Propagation) endpoints(c *Client) []server {
	urls := p.URLs
	if len(urls) == 0 {
		urls = defaultEndpoints()
	}
	out := make([]server, 0, len(urls))
	for _, u := range urls {
		out = append(out, server{addr: u, https: true, dial: c.opt.Dial})
	}
	return out
}

// propagationResolvers returns the resolvers that have to show values.
func (c *Client) propagationResolvers(p Propagation, l *lookup) ([]server, error) {
	if len(p.Resolvers) > 0 {
		return serversAt(p.Resolvers, c.opt.Dial)
	}
	return l.resolvers, nil
}

// over returns p with what it does not say as base says.
func (p Propagation) over(base Propagation) Propagation {
	if p.Mode != "" && p.Mode != base.mode() {
		return p
	}
	base.Mode = base.mode()
	if len(p.Resolvers) > 0 {
		base.Resolvers = p.Resolvers
	}
	if len(p.URLs) > 0 {
		base.URLs = p.URLs
	}
	base.Wait = cmp.Or(p.Wait, base.Wait)
	return base
}

// Propagated reports whether every challenge's value is published, in the way that opt
// says, or z.Propagation if opt does not. reason says which server does not show what; a
// server that does not answer is such a reason and no error, unless it is all of a
// zone's. Each call asks a server for one value that it does not show, at most, and never
// again for one that it has shown.
func (c *Client) Propagated(ctx context.Context, z Zone, challenges []Challenge, opt Propagation) (ok bool, reason string, err error) {
	clean, err := checked(challenges)
	if err != nil || len(clean) == 0 {
		return err == nil, "", err
	}
	opt = opt.over(z.Propagation)
	if err := opt.check("options."); err != nil {
		return false, "", err
	}
	if left := c.waiting(clean, opt.wait()); left > 0 {
		return false, "nothing is asked for another " + duration.Format(left.Round(time.Second)), nil
	}
	if opt.mode() == modeWait {
		return true, "", nil
	}
	l, err := c.lookup(z)
	if err != nil {
		return false, "", err
	}
	var missing []string
	switch opt.mode() {
	case modeAuthoritative:
		if missing, err = c.unpublished(ctx, l, clean); err != nil || len(missing) > 0 || len(opt.Resolvers) == 0 {
			break
		}
		fallthrough // later, because they cache absence
	case modeResolvers:
		var servers []server
		if servers, err = c.propagationResolvers(opt, l); err == nil {
			missing, err = c.unresolved(ctx, l, servers, clean)
		}
	case modeDoH:
		missing, err = c.unresolved(ctx, l, opt.endpoints(c), clean)
	}
	if ended := ctx.Err(); ended != nil {
		return false, "", problem.Network(ended)
	}
	return err == nil && len(missing) == 0, strings.Join(missing, "; "), err
}

// askedSince records that challenges were asked about first at a moment that may lie
// before this process: what was waited for by then counts. The zero moment is none.
func (c *Client) askedSince(challenges []Challenge, at time.Time) {
	clean, err := checked(challenges)
	if err != nil || at.IsZero() || at.After(c.opt.Clock.Now()) {
		return
	}
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	if key := fmt.Sprint(clean); c.memory.asked[key].IsZero() {
		c.memory.asked[key] = at
	}
}

// waiting returns how long it is until what was asked about first now, or before, may
// be asked about.
func (c *Client) waiting(challenges []Challenge, d time.Duration) time.Duration {
	if d == 0 {
		return 0
	}
	key, now := fmt.Sprint(challenges), c.opt.Clock.Now()
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	since, ok := c.memory.asked[key]
	if !ok {
		since = now
		c.memory.asked[key] = now
	}
	return since.Add(d).Sub(now)
}

// ask is a server with the questions that it has to answer.
type ask struct {
	server    server
	zone      string
	recursive bool
	questions []question
}

// question is one whose answer has to hold values, or anything if there are none.
type question struct {
	name   string
	qtype  uint16
	values []string
}

// unpublished says which servers of the challenges' zones do not show them.
func (c *Client) unpublished(ctx context.Context, l *lookup, challenges []Challenge) ([]string, error) {
	places, err := l.places(ctx, namesOf(challenges), l.known)
	if err != nil {
		return nil, err
	}
	records := make([]Record, 0, len(challenges))
	for _, ch := range challenges {
		p := places[ch.Name]
		if p.err != nil {
			return nil, p.err
		}
		if p.blocked != nil {
			return nil, p.blocked
		}
		records = append(records, Record{Zone: p.apex, Name: p.target, Value: ch.Value})
	}
	zones := map[string][]question{}
	var order []string
	for _, group := range byName(records) {
		q := question{name: group[0].Name, qtype: mdns.TypeTXT}
		for _, r := range group {
			q.values = append(q.values, r.Value)
		}
		if zones[group[0].Zone] == nil {
			order = append(order, group[0].Zone)
		}
		zones[group[0].Zone] = append(zones[group[0].Zone], q)
	}
	var asks []ask
	for _, apex := range order {
		servers, err := l.serversOf(ctx, apex)
		if err != nil {
			return nil, err
		}
		for _, s := range servers {
			asks = append(asks, ask{server: s, zone: apex, questions: zones[apex]})
		}
	}
	missing, failures, err := c.unseen(ctx, asks)
	if err != nil || answered(failures) {
		return missing, err
	}
	for _, apex := range order {
		servers, _ := l.serversOf(ctx, apex) // known by now
		var silent []failure
		for _, f := range failures {
			if slices.ContainsFunc(servers, func(s server) bool { return s.addr == f.server.addr }) {
				silent = append(silent, f)
			}
		}
		if len(silent) > 0 && len(silent) == len(servers) {
			return nil, c.noteFailures(apex, apex, silent)
		}
	}
	return missing, nil
}

// unresolved says which resolvers do not show the challenges.
func (c *Client) unresolved(ctx context.Context, l *lookup, resolvers []server, challenges []Challenge) ([]string, error) {
	values := map[string][]string{}
	var names []string
	for _, ch := range challenges {
		if values[ch.Name] == nil {
			names = append(names, ch.Name)
		}
		values[ch.Name] = append(values[ch.Name], ch.Value)
	}
	asks := make([]ask, 0, len(resolvers))
	for _, s := range resolvers {
		a := ask{server: s, recursive: true}
		for _, n := range names {
			a.questions = append(a.questions, question{n, mdns.TypeTXT, values[n]})
		}
		asks = append(asks, a)
	}
	missing, failures, err := c.unseen(ctx, asks)
	if err != nil {
		return nil, err
	}
	for _, f := range failures {
		if f.rcode == mdns.RcodeServerFailure {
			for _, n := range names {
				if f.name == n {
					if err := l.loop(ctx, n); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	return missing, nil
}

func perServer(servers []server, qtype uint16, recursive bool, apex string) []ask {
	out := make([]ask, 0, len(servers))
	for _, s := range servers {
		out = append(out, ask{server: s, zone: apex, recursive: recursive, questions: []question{{name: apex, qtype: qtype}}})
	}
	return out
}

// unseen asks all servers at once and says what is missing, sorted, and which answers
// were of no use. The error is of a server that is not granted.
func (c *Client) unseen(ctx context.Context, asks []ask) (missing []string, failures []failure, err error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, a := range asks {
		all.Go(func() {
			why, failed, refused := c.missing(ctx, a)
			mu.Lock()
			defer mu.Unlock()
			if refused != nil {
				err = refused
			}
			if why != "" {
				missing = append(missing, hostOf(a.server)+" "+why)
			}
			if failed != nil {
				failures = append(failures, *failed)
			}
		})
	}
	all.Wait()
	slices.Sort(missing)
	slices.SortFunc(failures, func(a, b failure) int { return strings.Compare(a.server.addr, b.server.addr) })
	return missing, failures, err
}

// missing says what a server does not show first; "" if it shows all. failed is an
// answer of no use. The error is of a server that is not granted.
func (c *Client) missing(ctx context.Context, a ask) (why string, failed *failure, refused error) {
	for _, q := range a.questions {
		if c.hasShown(a.server, q) {
			continue
		}
		got, err := c.put(ctx, a, q)
		switch {
		case notGranted(err):
			return "", nil, err
		case err != nil:
			f := &failure{server: a.server, name: q.name, why: "does not answer: " + noAnswerWords(err), err: err}
			return f.why, f, nil
		case got.Rcode != mdns.RcodeSuccess && got.Rcode != mdns.RcodeNameError:
			f := &failure{server: a.server, why: "answers " + rcodeName(got.Rcode) + " for " + q.name, name: q.name, rcode: got.Rcode}
			return f.why, f, nil
		case !a.recursive && !got.Authoritative:
			return "is a lame server: it does not serve " + a.zone, nil, nil
		}
		if why := q.lacking(got); why != "" {
			return why, nil, nil
		}
		c.noteShown(a.server, q)
	}
	return "", nil, nil
}

// noAnswerWords says why there was no answer, in a server's own words if it has any.
func noAnswerWords(err error) string {
	e := problem.Network(err)
	if e.Server != "" {
		return e.Message + ": " + e.Server
	}
	return e.Message
}

// put asks the way that a server is reached.
func (c *Client) put(ctx context.Context, a ask, q question) (*mdns.Msg, error) {
	if a.server.https {
		return c.askHTTPS(ctx, a.server.addr, q.name, q.qtype)
	}
	return c.ask(ctx, a.server, q.name, q.qtype, a.recursive)
}

// lacking says what an answer does not hold; "" if it holds all.
func (q question) lacking(a *mdns.Msg) string {
	if len(q.values) == 0 {
		if len(a.Answer) == 0 {
			return "does not know " + q.name
		}
		return ""
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
		return ""
	case len(q.values):
		return fmt.Sprintf("does not show %s yet", q.name)
	default:
		return fmt.Sprintf("shows only %d of %d values of %s", len(q.values)-n, len(q.values), q.name)
	}
}

func (c *Client) hasShown(s server, q question) bool {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	return len(q.values) > 0 && !slices.ContainsFunc(q.values, func(v string) bool { return !c.memory.shown[v][s.addr+" "+q.name] })
}

func (c *Client) noteShown(s server, q question) {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	for _, v := range q.values {
		if c.memory.shown[v] == nil {
			c.memory.shown[v] = map[string]bool{}
		}
		c.memory.shown[v][s.addr+" "+q.name] = true
	}
}

// forget drops what was shown of values that are written or removed.
func (c *Client) forget(records []Record) {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	for _, r := range records {
		delete(c.memory.shown, r.Value)
	}
}

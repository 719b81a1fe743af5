// Package dnstest is a DNS world for tests and for the lab: authoritative
// servers, a resolver (also as DNS over HTTPS), and the HTTP APIs of Cloudflare,
// DigitalOcean and Amazon Route 53, all over one set of zones and all on loopback.
//
// A record that is added or removed, by whatever way, shows at server n after that
// server's propagation delay. The resolver is the pessimist: it sees a change once the
// slowest server has it, follows CNAMEs, and caches absence if it is set to. The APIs and
// the dynamic update (RFC 2136) check what the real ones check and answer errors in their
// words.
//
// # Faults
//
// Calls are named dns.query (every question; also dns.query.ns1 and so on, and
// dns.query.resolver), dns.cloudflare.OP, dns.digitalocean.OP and
// dns.route53.OP, where OP is zones, list, create or delete, dns.rfc2136.update,
// dns.rfc2136.transfer and dns.doh.query. For questions and updates a status below 24 is the
// RCODE of the answer, any other status is SERVFAIL.
package dnstest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/miekg/dns"

	"moonseal/modules/faults"
)

// Options are the settings of a World. The zero value of each field is usable,
// but for Zones.
type Options struct {
	Zones            []string        // apexes, such as "example.com"
	Servers          int             // authoritative servers; 2 when 0
	PropagationDelay []time.Duration // by server; none past the end of the list
	NegativeTTL      time.Duration   // how long the resolver caches absence; not at all when 0
	ChangeDelay      time.Duration   // until a Route 53 change is INSYNC
	NoTransfer       bool            // refuse zone transfers (AXFR), as many servers do
	HiddenPrimary    bool            // a further server, HiddenHost, that answers signed questions only and that no NS record names

	Faults      *faults.Set
	Clock       clockwork.Clock // the real one when nil
	Credentials Credentials     // each empty field gets the value of DefaultCredentials

	// Issue returns the certificate for an API's host name. When nil the world
	// makes a CA of its own; see [World.CA].
	Issue func(host string) (tls.Certificate, error)
}

// Credentials are what the world accepts.
type Credentials struct {
	CloudflareToken    string
	DigitalOceanToken  string
	Route53AccessKeyID string
	Route53SecretKey   string
	TSIGName           string // without a trailing dot
	TSIGAlgorithm      string // such as "hmac-sha256"
	TSIGSecret         string // base64
}

// DefaultCredentials returns the credentials of a World whose options name none.
func DefaultCredentials() Credentials {
	return Credentials{ //nolint:gosec // made up
		CloudflareToken:    "cf-lab-Zt3Vq8nW1xYb6Kd0Rm5Js7Hp2Lg9Tc4Fa",
		DigitalOceanToken:  "do-lab-4f1c0a7be2d94c3a9d8e6b5f7a0c1d2e3f405162",
		Route53AccessKeyID: "AKIALABMOONSEAL00001",
		Route53SecretKey:   "q0Zr7Lm3/Xw9+Kd5Tn1Vb8Hc2Jf6Ps4Gy0Ae+Ui",
		TSIGName:           "moonseal",
		TSIGAlgorithm:      "hmac-sha256",
		TSIGSecret:         "bW9vbnNlYWwtbGFiLXRzaWctc2VjcmV0LTMyLWJ5dGU=",
	}
}

func (c Credentials) withDefaults() Credentials {
	d := DefaultCredentials()
	for _, f := range []struct {
		have *string
		def  string
	}{
		{&c.CloudflareToken, d.CloudflareToken},
		{&c.DigitalOceanToken, d.DigitalOceanToken},
		{&c.Route53AccessKeyID, d.Route53AccessKeyID},
		{&c.Route53SecretKey, d.Route53SecretKey},
		{&c.TSIGName, d.TSIGName},
		{&c.TSIGAlgorithm, d.TSIGAlgorithm},
		{&c.TSIGSecret, d.TSIGSecret},
	} {
		if *f.have == "" {
			*f.have = f.def
		}
	}
	return c
}

// World is a running DNS world. It is safe for concurrent use.
type World struct {
	zones     *store
	opt       Options
	servers   []*nameServer // the authoritative ones, ns1 first
	resolver  *nameServer
	resolving *resolver
	apis      []*apiServer
	hosts     map[string]string
	ca        *authority

	mu    sync.Mutex
	asked []Question

	cancel context.CancelFunc // ends what a fault holds
	owned  sync.WaitGroup     // every goroutine of the world
}

// Hosts of the APIs, as clients dial them.
const (
	CloudflareHost   = "api.cloudflare.com"
	DigitalOceanHost = "api.digitalocean.com"
	Route53Host      = "route53.amazonaws.com"
	ResolverHost     = "resolver.test"
	HiddenHost       = "hidden.test" // with Options.HiddenPrimary
	CloudflareDoH    = "cloudflare-dns.com"
	GoogleDoH        = "dns.google"
)

// Start starts a world on free loopback ports. The caller closes it.
func Start(opt Options) (*World, error) {
	if len(opt.Zones) == 0 {
		return nil, errors.New("dnstest: no zones")
	}
	if opt.Servers == 0 {
		opt.Servers = 2
	}
	if opt.Clock == nil {
		opt.Clock = clockwork.NewRealClock()
	}
	opt.Credentials = opt.Credentials.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	w := &World{opt: opt, hosts: map[string]string{}, cancel: cancel}
	w.zones = newStore(opt.Clock, opt.Zones, opt.Servers, opt.PropagationDelay)
	if err := w.start(ctx); err != nil {
		w.Close()
		return nil, fmt.Errorf("dnstest: %w", err)
	}
	return w, nil
}

func (w *World) start(ctx context.Context) error {
	for i := range w.opt.Servers {
		s := &authoritative{world: w, view: i}
		ns, err := startNameServer(ctx, &w.owned, s, w.opt.Credentials)
		if err != nil {
			return err
		}
		w.servers = append(w.servers, ns)
		for _, zone := range w.zones.apexes() {
			w.hosts[strings.TrimSuffix(serverName(i, zone), ".")+":53"] = ns.addr
		}
	}
	w.resolving = newResolver(w)
	ns, err := startNameServer(ctx, &w.owned, w.resolving, w.opt.Credentials)
	if err != nil {
		return err
	}
	w.resolver = ns
	w.hosts[ResolverHost+":53"] = ns.addr
	if w.opt.HiddenPrimary {
		hidden, err := startNameServer(ctx, &w.owned, &authoritative{world: w, signedOnly: true}, w.opt.Credentials)
		if err != nil {
			return err
		}
		w.servers = append(w.servers, hidden)
		w.hosts[HiddenHost+":53"] = hidden.addr
	}
	return w.startAPIs()
}

// Close stops the world and waits for all of its goroutines.
func (w *World) Close() {
	w.cancel()
	for _, a := range w.apis {
		a.close()
	}
	for _, s := range w.servers {
		s.close()
	}
	if w.resolver != nil {
		w.resolver.close()
	}
	w.owned.Wait()
}

// Resolver returns the resolver's address, host:port, for UDP and TCP.
func (w *World) Resolver() string { return w.resolver.addr }

// Server returns the address of the authoritative server n, counted from 1.
func (w *World) Server(n int) string { return w.servers[n-1].addr }

// Credentials returns what the world accepts.
func (w *World) Credentials() Credentials { return w.opt.Credentials }

// Hosts maps each real name and port, such as "api.cloudflare.com:443" or
// "ns1.example.com:53", to its loopback address.
func (w *World) Hosts() map[string]string {
	out := make(map[string]string, len(w.hosts))
	maps.Copy(out, w.hosts)
	return out
}

// Dial connects to a name of this world ([World.Hosts]) or to a loopback
// address; it refuses everything else.
func (w *World) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	to, ok := w.hosts[strings.ToLower(addr)]
	if !ok {
		host, _, err := net.SplitHostPort(addr)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("no such host in this world: " + addr)}
		}
		to = addr
	}
	var d net.Dialer
	return d.DialContext(ctx, network, to)
}

// HTTPClient returns a client that dials with [World.Dial] and trusts [World.CA], or the
// system's roots if Options.Issue is set.
func (w *World) HTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:     w.Dial,
		TLSClientConfig: &tls.Config{RootCAs: w.ca.pool, MinVersion: tls.VersionTLS12},
	}}
}

// CA returns the world's own CA certificate as PEM; "" if Options.Issue is set.
func (w *World) CA() string { return w.ca.pem }

// SetPropagationDelay changes the delay of server n, counted from 1, for changes
// past and future.
func (w *World) SetPropagationDelay(n int, d time.Duration) { w.zones.setDelay(n-1, d) }

// Question is one that reached a server of the world.
type Question struct {
	Server string // ns1 and so on, hidden or resolver
	Name   string // lower case, no trailing dot
	Type   string // such as "TXT"
	Empty  bool   // there was nothing to answer with
	At     time.Time
}

// Asked lists the questions that reached a server, oldest first.
func (w *World) Asked() []Question {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}

func (w *World) noteAsked(server string, q, a *dns.Msg) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, Question{
		Server: server, Name: cleanName(q.Question[0].Name), Type: dns.TypeToString[q.Question[0].Qtype], Empty: len(a.Answer) == 0, At: w.opt.Clock.Now(),
	})
}

// Record is a record of the world.
type Record struct {
	ID    int           `json:"id"`
	Name  string        `json:"name"`  // lower case, no trailing dot
	Type  string        `json:"type"`  // such as "TXT"
	Value string        `json:"value"` // as in a zone file, but the text itself for TXT
	TTL   time.Duration `json:"ttl"`
}

// Add adds a record; ID is set by the world, TTL is 60 s when 0.
func (w *World) Add(r Record) (Record, error) { return w.zones.add(r) }

// Remove removes all records of that name and type, or the one with value if it is not
// "", and returns how many there were.
func (w *World) Remove(name, typ, value string) int {
	return w.zones.remove(func(r Record) bool {
		return r.Name == cleanName(name) && r.Type == typ && (value == "" || r.Value == value)
	})
}

// Records lists the records that are there now, oldest first, without SOA, NS and
// the name servers' own addresses.
func (w *World) Records() []Record { return w.zones.list(nil) }

// TXT returns what TXT records there are and were.
func (w *World) TXT() Ledger { return w.zones.ledger() }

// Ledger is what happened to TXT records.
type Ledger struct {
	Present []Text  `json:"present"`
	History []Event `json:"history"` // oldest first
}

// Text is one TXT record.
type Text struct {
	Name  string `json:"name"` // lower case, no trailing dot
	Value string `json:"value"`
}

// Event is one change of a TXT record.
type Event struct {
	Text
	Action string    `json:"action"` // add or remove
	At     time.Time `json:"at"`
}

// cleanName returns name in lower case without its trailing dot.
func cleanName(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }

func serverName(i int, zone string) string { return fmt.Sprintf("ns%d.%s", i+1, dns.Fqdn(zone)) }

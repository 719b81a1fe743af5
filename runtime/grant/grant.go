// Package grant is the only way out: the one dialer and the one http.Transport that
// modules use. It applies the CA bundle, the proxy, the map of hosts, and the hosts,
// secrets and modules that a playbook may reach ([Rules]).
package grant

import (
	"context"
	"crypto/tls"
	stdx509 "crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"moonseal/runtime/problem"
	"moonseal/runtime/safefile"
)

// Options say how the outside world is reached. They are sent to the run's process as JSON.
type Options struct {
	// Hosts sends a connection for "host:port" to another "address:port", as
	// curl's --connect-to does; names in certificates are checked as before.
	Hosts map[string]string `json:"hosts,omitempty"`
	// CABundle is a PEM file of roots that are trusted beside the system's.
	CABundle string `json:"ca_bundle,omitempty"`
	// Proxy is the URL of an HTTP proxy for the HTTP APIs; "" reaches them directly.
	Proxy string `json:"proxy,omitempty"`
	// NoProxy are hosts that are reached directly though there is a proxy, as patterns
	// of the kind that grants have.
	NoProxy []string `json:"no_proxy,omitempty"`
	// Denied is what the proxy has refused already; nil is nothing. Successive networks of
	// one config share it.
	Denied *Denials `json:"-"`
	// Allowed is what the playbook may reach; nil is all.
	Allowed *Allowed `json:"allowed,omitempty"`
}

// dialTimeout bounds the making of a connection.
const dialTimeout = 15 * time.Second

// maxBundle bounds the file of further roots, in bytes; the system's are some 200 KB.
const maxBundle = 16 << 20

// Network reaches the outside world. It is safe for concurrent use.
type Network struct {
	opt    Options
	dialer net.Dialer
	extra  []*stdx509.Certificate
	pool   func() *stdx509.CertPool // read once, at the first use
	system func() [][]byte          // the system's roots, DER; read once, at the first use
	proxy  *url.URL
	denied *Denials // shared with what Granted returns
}

// New reads the CA bundle.
func New(opt Options) (*Network, error) {
	n := &Network{opt: opt, dialer: net.Dialer{Timeout: dialTimeout}, system: sync.OnceValue(readSystem), denied: opt.Denied}
	if n.denied == nil {
		n.denied = &Denials{}
	}
	for from, to := range opt.Hosts {
		for _, addr := range []string{from, to} {
			if _, _, err := net.SplitHostPort(addr); err != nil {
				return nil, &problem.Error{Kind: problem.Usage, Target: "hosts", Message: fmt.Sprintf("%q is not host:port", addr)}
			}
		}
	}
	var err error
	if n.proxy, err = opt.proxy(); err != nil {
		return nil, err
	}
	if err := opt.checkNoProxy(); err != nil {
		return nil, err
	}
	if opt.CABundle != "" {
		data, info, err := safefile.Read(opt.CABundle, maxBundle)
		if err == nil && safefile.OthersWrite(info) && !safefile.ReadOnly(opt.CABundle) {
			e := safefile.Writable(opt.CABundle, info)
			e.Target = "ca_bundle " + e.Target
			return nil, e
		}
		if err != nil {
			return nil, &problem.Error{Kind: problem.Usage, Target: "ca_bundle " + opt.CABundle, Message: "cannot be read: " + problem.Reason(err), Cause: err}
		}
		if n.extra = parseBundle(data); len(n.extra) == 0 {
			return nil, &problem.Error{Kind: problem.Usage, Target: "ca_bundle " + opt.CABundle, Message: "it has no certificate"}
		}
	}
	n.pool = sync.OnceValue(func() *stdx509.CertPool { return makePool(n.system(), n.extra) })
	return n, nil
}

// Roots returns the roots that peers are verified against: the system's and the bundle's.
// The pool must not be changed.
func (n *Network) Roots() *stdx509.CertPool { return n.pool() }

// Bundle returns the roots of the CA bundle.
func (n *Network) Bundle() []*stdx509.Certificate { return slices.Clone(n.extra) }

func parseBundle(data []byte) []*stdx509.Certificate {
	var out []*stdx509.Certificate
	for _, der := range decodeBundle(data) {
		if c, err := stdx509.ParseCertificate(der); err == nil {
			out = append(out, c)
		}
	}
	return out
}

// Granted returns a Network that reaches what granted allows, an [Allowed] as JSON.
func (n *Network) Granted(granted []byte) (*Network, error) {
	other := *n
	other.opt.Allowed = nil
	if err := json.Unmarshal(granted, &other.opt.Allowed); err != nil {
		return nil, fmt.Errorf("the journaled grant: %w", err)
	}
	return &other, nil
}

// Dial connects to addr ("host:port"), or to where Hosts sends it. A host that is
// not granted is a *problem.Error of kind refused. It is the way to whatever a
// script names, over TCP and UDP.
func (n *Network) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := n.opt.Allowed.Host(addr); err != nil {
		return nil, err
	}
	return n.DialConfigured(ctx, network, addr)
}

// DialConfigured is Dial for addresses that the config or this machine names, such
// as those of resolvers: they need no grant.
func (n *Network) DialConfigured(ctx context.Context, network, addr string) (net.Conn, error) {
	if to, ok := n.opt.Hosts[addr]; ok {
		addr = to
	}
	return n.dialer.DialContext(ctx, network, addr)
}

// DialDNS is Dial for the name servers of a zone, which need no grant: a lookup queries
// the servers of any zone. Since the zone's owner chooses them, it reaches port 53
// and no other.
func (n *Network) DialDNS(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, port, err := net.SplitHostPort(addr); err != nil || port != "53" {
		return nil, &problem.Error{Kind: problem.Refused, Work: problem.NotDone, Target: addr, Message: "name servers are queried on port 53 only"}
	}
	return n.DialConfigured(ctx, network, addr)
}

// Name refuses a DNS name that no certificate may be ordered for, as
// [Allowed.Name] does.
func (n *Network) Name(name string) error { return n.opt.Allowed.Name(name) }

// BoundsNames reports whether [Network.Name] refuses any.
func (n *Network) BoundsNames() bool { return n.opt.Allowed.BoundsNames() }

// Transport returns a new transport, for one peer or one kind of peers. The
// caller closes its idle connections.
func (n *Network) Transport() *http.Transport {
	t := &http.Transport{
		DialContext: n.Dial, TLSClientConfig: &tls.Config{RootCAs: n.Roots(), MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4,
	}
	if n.proxy != nil {
		t.Proxy, t.DialContext, t.OnProxyConnectResponse = n.throughProxy, n.dialProxy, n.connected
	}
	return t
}

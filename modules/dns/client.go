package dns

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// Options are what a Client reaches the world with.
type Options struct {
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error) // to what a zone names: its server, its resolvers
	Config func(ctx context.Context, network, addr string) (net.Conn, error) // to Resolvers and this machine's; Dial when nil
	Ask    func(ctx context.Context, network, addr string) (net.Conn, error) // to what NS records name; Dial when nil
	HTTP   http.RoundTripper                                                 // for the providers' APIs
	Secret func(ctx context.Context, h secret.Handle) (string, error)
	Clock  clockwork.Clock // the real one when nil; for Retry-After, and for how long what was found holds

	Resolvers      []string      // for zones that name none; this machine's when empty
	QueryTimeout   time.Duration // of one DNS question over one transport; 3 s when 0
	RequestTimeout time.Duration // of one HTTP request; 30 s when 0
}

// Client works on zones. It is safe for concurrent use.
type Client struct {
	opt Options

	mu        sync.Mutex
	providers map[string]provider // by the zone as JSON
	memory    *memory
}

// New returns a client. It sends no request.
func New(opt Options) *Client {
	if opt.Clock == nil {
		opt.Clock = clockwork.NewRealClock()
	}
	if opt.Ask == nil {
		opt.Ask = opt.Dial
	}
	if opt.Config == nil {
		opt.Config = opt.Dial
	}
	if opt.QueryTimeout == 0 {
		opt.QueryTimeout = 3 * time.Second
	}
	if opt.RequestTimeout == 0 {
		opt.RequestTimeout = 30 * time.Second
	}
	return &Client{opt: opt, providers: map[string]provider{}, memory: newMemory()}
}

// Close ends the connections to the providers that are idle. The client can be used again.
func (c *Client) Close() { (&http.Client{Transport: c.opt.HTTP}).CloseIdleConnections() }

// provider changes the records of zones. Apexes and names are clean.
type provider interface {
	// list returns a name's records of a type; all of the zone if name is "".
	list(ctx context.Context, apex, name, typ string) ([]Record, error)
	// add writes records of one name and type, leaves those that are there, and
	// returns all of them as the provider knows them.
	add(ctx context.Context, apex string, records []Record) ([]Record, error)
	// remove deletes records of one name and type; one that is gone is not an error.
	remove(ctx context.Context, apex string, records []Record) error
}

// provider returns the one for z, with its credentials looked up once.
func (c *Client) provider(ctx context.Context, z Zone) (provider, error) {
	if err := z.Check(); err != nil {
		return nil, err
	}
	key, err := json.Marshal(z)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.providers[string(key)]; ok {
		return p, nil
	}
	var p provider
	switch z.Provider {
	case "cloudflare":
		p, err = newCloudflare(ctx, c, z)
	case "digitalocean":
		p, err = newDigitalOcean(ctx, c, z)
	case "route53":
		p, err = newRoute53(ctx, c, z)
	default:
		p, err = newRFC2136(ctx, c, z)
	}
	if err != nil {
		return nil, err
	}
	c.providers[string(key)] = p
	return p, nil
}

// open returns what writes a zone's records, and what finds the zones of names.
func (c *Client) open(ctx context.Context, z Zone) (provider, *lookup, error) {
	p, err := c.provider(ctx, z)
	if err != nil {
		return nil, nil, err
	}
	l, err := c.lookup(z)
	return p, l, err
}

// secret looks up a handle that is not zero.
func (c *Client) secret(ctx context.Context, h secret.Handle) (string, error) {
	if h.IsZero() {
		return "", nil
	}
	return c.opt.Secret(ctx, h)
}

// resolvers returns the servers that z's names are looked up at.
func (c *Client) resolvers(z Zone) ([]server, error) {
	if len(z.Resolvers) > 0 {
		return serversAt(z.Resolvers, c.opt.Dial)
	}
	names := c.opt.Resolvers
	if len(names) == 0 {
		conf, err := mdns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil || len(conf.Servers) == 0 {
			return nil, &problem.Error{
				Kind: problem.Usage, Message: "no resolver is configured on this machine", Cause: err, Work: problem.NotDone,
				Hint: `set resolvers = { "192.0.2.53" } in the zone`,
			}
		}
		names = conf.Servers
	}
	return serversAt(names, c.opt.Config)
}

// server is a name server, and how it is reached: that depends on who names it.
type server struct {
	addr  string // host:port, or a URL for DNS over HTTPS
	https bool
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
}

// named is a server that a script names.
func (c *Client) named(addr string) server { return server{addr: addr, dial: c.opt.Dial} }

func serversAt(names []string, dial func(ctx context.Context, network, addr string) (net.Conn, error)) ([]server, error) {
	out := make([]server, 0, len(names))
	for _, n := range names {
		addr, err := withPort(n)
		if err != nil {
			return nil, err
		}
		out = append(out, server{addr: addr, dial: dial})
	}
	return out, nil
}

// withPort adds port 53 to a host or an IP address that has none.
func withPort(server string) (string, error) {
	if host, port, err := net.SplitHostPort(server); err == nil && host != "" && port != "" {
		return server, nil
	}
	if net.ParseIP(server) != nil {
		return net.JoinHostPort(server, "53"), nil
	}
	name, err := cleanName(server)
	if err != nil {
		return "", usage("\"" + server + "\" is not a valid server: it must be host or host:port")
	}
	return net.JoinHostPort(name, "53"), nil
}

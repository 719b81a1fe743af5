package acme

import (
	"context"
	"crypto"
	"crypto/tls"
	stdx509 "crypto/x509"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/x509"
	"moonseal/runtime/account"
	"moonseal/runtime/problem"
)

// Store keeps account keys and URLs, and when the CA may be asked again; *account.Store
// is one.
type Store interface {
	// AccountKey finds the key (PEM) or makes it with generate. A key that was
	// made is on disk, synced, when it returns.
	AccountKey(holder account.Holder, generate func() ([]byte, error)) (pem []byte, created bool, err error)
	// AccountURL returns "" if none is known.
	AccountURL(holder account.Holder) (string, error)
	SaveAccountURL(holder account.Holder, url string) error
	// Deferral says until when the CA is not asked for a certificate's renewal
	// window; zero if it may be asked.
	Deferral(directory, certificate string, now time.Time) (account.Deferral, error)
	SaveDeferral(directory, certificate string, d account.Deferral, now time.Time) error
}

// Options are what a Client needs of its surroundings.
type Options struct {
	Store       Store
	HMAC        func(context.Context) (string, error)                             // the EAB's MAC key, base64url; nil if there is no EAB
	Dial        func(ctx context.Context, network, addr string) (net.Conn, error) // nil: a plain dialer
	Through     *http.Transport                                                   // whose dialer and proxy are used; nil: Dial, and no proxy
	Granted     func(name string) error                                           // refuses names that are not to be ordered; nil: none
	RootCAs     *stdx509.CertPool                                                 // for the connection to the CA; nil: the system's
	Bundle      []*stdx509.Certificate                                            // roots that chains may end in, beside the CA's own
	SystemRoots func(chain []*stdx509.Certificate) []*stdx509.Certificate         // further ones, asked if those do not suffice; nil: none
	Directories map[string]string                                                 // names of CAs, before [Directories]
	UserAgent   string                                                            // default "moonseal"
	Timeout     time.Duration                                                     // of one request; default 30 s
	Within      time.Duration                                                     // how long one call polls at most; default 5 min
	Clock       clockwork.Clock                                                   // default: the real one
}

// Client speaks with one CA. It is safe for concurrent use.
type Client struct {
	ca        CA
	opts      Options
	directory *url.URL
	transport http.RoundTripper
	ownRoots  []*stdx509.Certificate

	loading chan struct{} // holds a token while the directory or a key is fetched

	mu       sync.Mutex
	dir      *cachedDirectory
	nonces   []string
	carriers []*carrier // idle ones
	key      crypto.Signer
	kid      string               // the account's URL
	seen     map[string]*Order    // what was seen of orders and not yet acted on, by URL
	known    map[string]bool      // ARI identifiers of certificates that the CA knows
	given    map[string]time.Time // when the CA's URLs were first used or named here
}

// New returns a client for ca. It sends nothing yet.
func New(ca CA, opts Options) (*Client, error) {
	u, err := ca.Resolve(opts.Directories)
	if err != nil {
		return nil, err
	}
	if (ca.EAB.KeyID != "") != (opts.HMAC != nil) {
		return nil, &problem.Error{Kind: problem.Usage, Message: "an external account binding requires both kid and hmac"}
	}
	opts = opts.withDefaults()
	roots, err := trusted(opts.RootCAs, ca.TrustedRoots)
	if err != nil {
		return nil, err
	}
	own, err := x509.ParseAll(ca.Roots)
	if err != nil {
		return nil, problem.At(err, "", "roots")
	}
	if opts.Through == nil {
		opts.Through = &http.Transport{DialContext: opts.Dial}
	}
	return &Client{
		ca: ca, opts: opts, directory: u, seen: map[string]*Order{}, known: map[string]bool{}, given: map[string]time.Time{}, loading: make(chan struct{}, 1),
		ownRoots: append(own, opts.Bundle...),
		transport: &http.Transport{
			// HTTP/1.1: a run's requests go one after another, and each takes a
			// fifth less time than over HTTP/2.
			DialContext: opts.Through.DialContext, Proxy: opts.Through.Proxy, OnProxyConnectResponse: opts.Through.OnProxyConnectResponse,
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: opts.Timeout, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second,
		},
	}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { (&http.Client{Transport: c.transport}).CloseIdleConnections() }

func (o Options) withDefaults() Options {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	if o.Granted == nil {
		o.Granted = func(string) error { return nil }
	}
	if o.SystemRoots == nil {
		o.SystemRoots = func([]*stdx509.Certificate) []*stdx509.Certificate { return nil }
	}
	if o.UserAgent == "" {
		o.UserAgent = "moonseal"
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Within == 0 {
		o.Within = 5 * time.Minute
	}
	if o.Clock == nil {
		o.Clock = clockwork.NewRealClock()
	}
	return o
}

// lock waits for the loading token; unlock returns it.
func (c *Client) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case c.loading <- struct{}{}:
		return func() { <-c.loading }, nil
	case <-ctx.Done():
		return nil, problem.Network(ctx.Err())
	}
}

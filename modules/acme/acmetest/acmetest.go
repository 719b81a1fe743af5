// Package acmetest is a real ACME CA for tests: Pebble, Let's Encrypt's own test server,
// behind an HTTPS proxy that can be made to misbehave and that keeps a ledger of what was
// ordered and issued.
//
// # Faults
//
// The calls that [Options].Faults can name are acme.directory, acme.new-nonce,
// acme.new-account, acme.account, acme.key-change, acme.new-order, acme.order,
// acme.orders, acme.authorization, acme.challenge, acme.finalize,
// acme.certificate, acme.renewal-info and acme.revoke. A Status fault without a
// Body is answered as a CA would: a problem document (RFC 8555 section 6.7), a
// fresh Replay-Nonce on a POST, and Retry-After on a 429.
//
// Go's http.Transport repeats a GET or HEAD by itself when a connection that it
// used before is cut: there a Reset or Lost fault may go by unseen, once.
//
// # Where Pebble runs
//
// Pebble has a data race of its own (an order's replacement flag), so in a binary
// that is built with -race it runs in a process of its own: the binary starts
// itself again, and [Main] takes over in there. Every program that may be built
// with -race and calls Start has to call Main first. Elsewhere Pebble runs in
// the caller's process.
//
// # What Pebble does that a production CA does not
//
//   - It keeps everything in memory and never reuses a pending order.
//   - It asks DNS over TCP only, and takes a TXT record that follows a CNAME only
//     where the server puts both into one answer.
//   - With several profiles an order that names none gets a random one.
//   - A Retry-After is a number or a date, at random.
//   - It cannot be stopped: each Start in the caller's process leaves one idle
//     goroutine of Pebble's behind. All others end with Close.
package acmetest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"moonseal/modules/faults"
)

// Mode says where Pebble runs.
type Mode string

// The modes.
const (
	Auto       Mode = ""            // OwnProcess in a binary built with -race, else InProcess
	InProcess  Mode = "in-process"  // in the caller's process; the race detector may report Pebble's race
	OwnProcess Mode = "own-process" // in a second process of the same program; needs Main
)

// Options says how the CA behaves. Either DNSAddr or AlwaysValid must be set.
type Options struct {
	DNSAddr        string             // host:port of the DNS server that validation asks, over TCP
	AlwaysValid    bool               // every challenge counts as met; nothing is asked
	NonceReject    int                // good nonces that are refused with badNonce, in percent
	AuthzReuse     int                // identifiers that get an earlier valid authorization again, in percent; Pebble does so for one percent more
	RetryAuthz     int                // Retry-After of a pending authorization, in seconds; none when 0
	RetryOrder     int                // Retry-After of a processing order, in seconds; none when 0
	EAB            map[string]string  // key id → HMAC key, base64url without padding, for external account binding
	RequireEAB     bool               // refuse new accounts without external account binding
	Profiles       map[string]Profile // "classic" alone, 90 days with a common name, when empty
	ChainLength    int                // intermediates between leaf and root; 1 when 0
	AlternateRoots int                // further roots, each with a chain of its own (Link: rel="alternate")
	Strict         bool               // refuse what older drafts allowed, as Pebble's -strict does
	RelativeLinks  bool               // Location and Link headers hold relative URLs (RFC 9110 section 10.2.2, RFC 8288)
	Hosts          []string           // further DNS names that the HTTPS certificate is for
	DirectoryPaths []string           // further paths of the directory, such as Let's Encrypt's /directory

	Mode   Mode         `json:"-"`
	Faults *faults.Set  `json:"-"` // asked at each call; none when nil
	Log    *slog.Logger `json:"-"` // Pebble's log, at level debug; dropped when nil
}

// Profile is a kind of certificate that the CA offers.
type Profile struct {
	Description       string
	Validity          time.Duration // 90 days when 0
	PromoteCommonName bool          // the first name becomes the subject's common name
}

// CA is a running CA. Its methods are safe for concurrent use.
type CA struct {
	backend       *backend
	front         *front
	ledger        *ledger
	host          string // host:port of the proxy
	tls           *tlsFiles
	roots         []string
	intermediates []string
}

// backend is Pebble, here or in another process. stop ends it and waits.
type backend struct {
	handler http.Handler
	stop    func() error
}

// Start starts a CA on a free loopback port. It serves until Close; when ctx
// ends, the calls in flight are cut and no more are served.
func Start(ctx context.Context, o Options) (*CA, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("acmetest: %w", err)
	}
	ca, err := start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("acmetest: %w", err)
	}
	return ca, nil
}

func (o *Options) complete() error {
	switch {
	case o.DNSAddr == "" && !o.AlwaysValid:
		return errors.New("needs DNSAddr or AlwaysValid")
	case o.NonceReject < 0 || o.NonceReject > 100 || o.AuthzReuse < 0 || o.AuthzReuse > 100:
		return errors.New("NonceReject and AuthzReuse are percentages from 0 to 100")
	case o.RetryAuthz < 0 || o.RetryOrder < 0 || o.ChainLength < 0 || o.AlternateRoots < 0:
		return errors.New("RetryAuthz, RetryOrder, ChainLength and AlternateRoots cannot be negative")
	}
	if o.ChainLength == 0 {
		o.ChainLength = 1
	}
	if len(o.Profiles) == 0 {
		o.Profiles = map[string]Profile{"classic": {Description: "as Let's Encrypt's", PromoteCommonName: true}}
	}
	if o.Mode == Auto {
		o.Mode = InProcess
		if raceEnabled {
			o.Mode = OwnProcess
		}
	}
	if o.Faults == nil {
		o.Faults = faults.New()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func (o *Options) logger() *log.Logger { return slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug) }

func start(ctx context.Context, o Options) (*CA, error) {
	files, err := newTLS(o.Hosts)
	if err != nil {
		return nil, err
	}
	var b *backend
	if o.Mode == OwnProcess {
		b, err = startProcess(ctx, o)
	} else {
		b, err = startHere(o)
	}
	if err != nil {
		return nil, err
	}
	ca := &CA{backend: b, tls: files}
	if err := ca.serve(ctx, o); err != nil {
		return nil, errors.Join(err, b.stop())
	}
	return ca, nil
}

func (c *CA) serve(ctx context.Context, o Options) error {
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c.host = l.Addr().String()
	c.ledger = &ledger{next: c.backend.handler}
	if err := c.fetchIssuers(ctx, 1+o.AlternateRoots); err != nil {
		return errors.Join(err, l.Close())
	}
	var next http.Handler = c.ledger
	if o.RelativeLinks {
		next = relativeLinks("https://"+c.host, next)
	}
	handler := o.Faults.HandlerWith(callName, next, c.answerFault)
	c.front = serveFront(ctx, l, handler, c.tls.serverConfig(), o)
	return nil
}

// DirectoryURL is the URL of the ACME directory.
func (c *CA) DirectoryURL() string { return "https://" + c.host + directoryPath }

// CertPool holds the root under which the CA's own HTTPS certificate verifies.
// It has nothing to do with what the CA issues.
func (c *CA) CertPool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.tls.root)
	return pool
}

// CAPEM is CertPool's root in PEM.
func (c *CA) CAPEM() string { return c.tls.rootPEM }

// RootPEM is the root of the certificates that the CA issues.
func (c *CA) RootPEM() string { return c.roots[0] }

// RootPEMs is RootPEM followed by the alternate roots.
func (c *CA) RootPEMs() []string { return append([]string(nil), c.roots...) }

// IntermediatePEM is the issuer of the leaves, as RootPEM's chain has it.
func (c *CA) IntermediatePEM() string { return c.intermediates[0] }

// Close stops serving, drops the calls in flight, and waits until all that the
// CA started has ended. Only the first call does something.
func (c *CA) Close() error { return errors.Join(c.front.close(), c.backend.stop()) }

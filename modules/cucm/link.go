package cucm

import (
	"crypto/tls"
	stdx509 "crypto/x509"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/ssh"
	"moonseal/modules/x509"
)

const (
	// keepAlive is for how long an idle connection is kept: less than what servers keep
	// one for, so that a request does not meet their end of it.
	keepAlive = 5 * time.Second
	// alive is for how long a connection that has carried an answer is taken to be open by
	// a request that changes something: if it is not, whether that was done is not known.
	alive = 2 * time.Second
	// recent is how old what a node has shown may be if it is only looked at, and for how
	// long the session of a look waits for the change that follows.
	recent = 10 * time.Second
)

// link is what stays open to a node from one call to the next: a connection to its REST
// API, for a moment the session on its command line, and what both have shown.
type link struct {
	http  *http.Client
	pins  pins
	clock clockwork.Clock

	mu      sync.Mutex
	used    time.Time              // when the last answer came
	shown   []*stdx509.Certificate // by the newest connection, in its handshake
	shownAt time.Time
	trusted map[string]trustList // by service
	shell   *ssh.Session
	expiry  clockwork.Timer // of shell
}

// trustList is a trust store as it was read.
type trustList struct {
	certs []*x509.Certificate
	at    time.Time
}

// newLink opens nothing yet. verify decides on the certificate of each new connection.
func newLink(o Options, verify func(tls.ConnectionState) error) *link {
	return &link{
		clock: o.Clock, pins: pins{list: o.Pins, keep: o.OnPins}, trusted: map[string]trustList{},
		http: &http.Client{
			Transport: &http.Transport{
				DialContext: o.Dial, TLSHandshakeTimeout: o.Timeout, IdleConnTimeout: keepAlive, DisableCompression: true,
				TLSClientConfig: &tls.Config{
					ServerName: o.Host,
					MinVersion: tls.VersionTLS12,
					// Verification is not skipped but done by verify: a pinned certificate is self-signed.
					// There is no session cache: a resumed session would show no certificate.
					InsecureSkipVerify: true, //nolint:gosec // see VerifyConnection
					VerifyConnection:   verify,
				},
			},
			// A redirect would send the password to another place.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// accept replaces the list of pins, as it is stored now. What was verified against
// another one is closed.
func (l *link) accept(list []string) {
	if l.pins.replace(list) {
		l.close()
	}
}

// close ends what is open, and forgets what was shown. The link can be used again.
func (l *link) close() {
	l.http.CloseIdleConnections()
	if shell := l.takeShell(); shell != nil {
		_ = shell.Close() // nothing is lost
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shown = nil
	clear(l.trusted)
}

// fresh has a request that changes something go over a new connection unless the one that
// is kept has carried an answer just now.
func (l *link) fresh() {
	l.mu.Lock()
	idle := l.clock.Since(l.used)
	l.mu.Unlock()
	if idle > alive {
		l.http.CloseIdleConnections()
	}
}

// answered records that a connection has carried an answer.
func (l *link) answered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = l.clock.Now()
}

// note keeps what a new connection has shown.
func (l *link) note(state *tls.ConnectionState, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shown, l.shownAt = state.PeerCertificates, at
}

// seen returns what the node has shown a moment ago; nil if it has not.
func (l *link) seen() []*stdx509.Certificate {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.clock.Since(l.shownAt) > recent {
		return nil
	}
	return l.shown
}

// keepTrust keeps the trust store that a look has read, for the change that follows it.
func (l *link) keepTrust(service string, certs []*x509.Certificate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trusted[trustService(service)] = trustList{certs, l.clock.Now()}
}

// takeTrust returns what keepTrust has kept, once.
func (l *link) takeTrust(service string) ([]*x509.Certificate, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list, ok := l.trusted[trustService(service)]
	delete(l.trusted, trustService(service))
	return slices.Clone(list.certs), ok && l.clock.Since(list.at) <= recent
}

// hold keeps a session for the next call.
func (l *link) hold(shell *ssh.Session) {
	if old := l.takeShell(); old != nil {
		_ = old.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shell = shell
	l.expiry = l.clock.AfterFunc(recent, func() {
		l.mu.Lock()
		expired := l.shell == shell
		if expired {
			l.shell = nil
		}
		l.mu.Unlock()
		if expired {
			_ = shell.Close()
		}
	})
}

// takeShell returns the session that is held; nil if there is none.
func (l *link) takeShell() *ssh.Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	shell := l.shell
	if l.shell = nil; shell != nil {
		l.expiry.Stop()
	}
	return shell
}

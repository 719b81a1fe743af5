package cucm

import (
	"context"
	"crypto/tls"
	stdx509 "crypto/x509"
	"errors"
	"strings"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// Served returns the certificate, with the chain, that the node shows in a handshake
// with its REST port: that of the connection that a call has made within the last
// seconds, else a new one. It need not be trusted: nothing is sent. While Tomcat restarts
// the error is Unavailable or Timeout.
func (c *Client) Served(ctx context.Context) (*x509.Certificate, error) {
	if seen := c.seen(); len(seen) > 0 {
		return c.joined(seen)
	}
	return c.ask(ctx)
}

// ask makes a new handshake and returns what the node shows.
func (c *Client) ask(ctx context.Context) (*x509.Certificate, error) {
	return c.handshake(ctx, &tls.Config{MinVersion: tls.VersionTLS12})
}

// Serves reports whether the node serves cert, by its fingerprint, and returns what it
// serves. It is the proof that a restart worked: in a handshake that is made for it, the
// node has shown that it holds cert's key. If certificates are pinned, cert becomes the
// only one.
func (c *Client) Serves(ctx context.Context, cert *x509.Certificate) (bool, *x509.Certificate, error) {
	served, err := c.ask(ctx)
	if err != nil {
		return false, nil, err
	}
	if served.SHA256 == cert.SHA256 {
		if err := c.pins.retain(cert.SHA256); err != nil {
			return false, served, c.failed("moving the pin to the new certificate", err)
		}
		return true, served, nil
	}
	// A node has an RSA and an ECDSA certificate. Asked for the kind that is meant
	// it may show cert; the pin then stays, because the API shows the other one.
	if other, err := c.shownForKey(ctx, served, cert); err == nil && other != nil {
		served = other
	}
	return served.SHA256 == cert.SHA256, served, nil
}

const lookingAtServed = "looking at the served certificate"

// handshake makes a handshake and returns what the node shows. config gets its
// verification here.
func (c *Client) handshake(ctx context.Context, config *tls.Config) (*x509.Certificate, error) {
	const doing = lookingAtServed
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	conn, err := c.o.Dial(ctx, "tcp", c.addr(c.o.Port))
	if err != nil {
		return nil, c.failed(doing, problem.Network(err))
	}
	defer conn.Close()
	var seen []*stdx509.Certificate
	config.ServerName = c.o.Host
	config.InsecureSkipVerify = true // what is seen is compared, not trusted
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		seen = cs.PeerCertificates
		return nil
	}
	err = tls.Client(conn, config).HandshakeContext(ctx)
	// Only a whole handshake proves that the node holds the certificate's key.
	if err != nil {
		p := problem.Network(err)
		if alert, ok := errors.AsType[tls.AlertError](err); ok {
			p.Message = "the TLS handshake failed: " + alert.Error()
		}
		return nil, c.failed(doing, p)
	}
	if len(seen) == 0 {
		return nil, c.failed(doing, &problem.Error{Kind: problem.Unavailable, Message: "the node shows no certificate"})
	}
	return c.joined(seen)
}

// joined returns a certificate with the chain that it was shown with.
func (c *Client) joined(seen []*stdx509.Certificate) (*x509.Certificate, error) {
	var text strings.Builder
	for _, cert := range seen {
		text.WriteString(x509.Encode(cert))
	}
	cert, err := x509.Parse(text.String())
	if err != nil {
		return nil, c.failed(lookingAtServed, err)
	}
	return cert, nil
}

// shownForKey makes a second handshake that only a key of cert's kind can answer; nil if
// served is of that kind already. In TLS 1.2 it is the cipher suite that says which.
func (c *Client) shownForKey(ctx context.Context, served, cert *x509.Certificate) (*x509.Certificate, error) {
	has, err := served.Leaf()
	if err != nil {
		return nil, err
	}
	want, err := cert.Leaf()
	if err != nil || has.PublicKeyAlgorithm == want.PublicKeyAlgorithm {
		return nil, err
	}
	suites := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	if want.PublicKeyAlgorithm == stdx509.ECDSA {
		suites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	}
	// In TLS 1.3 the suite says nothing about the kind of key.
	return c.handshake(ctx, &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, CipherSuites: suites}) //nolint:gosec // on purpose
}

package cucm

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	stdx509 "crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// A node that has an RSA and an ECDSA certificate shows the one that is asked
// for; the pin follows only what it shows by itself.
func TestServesBothKindsOfKey(t *testing.T) {
	ca := newAuthority(t)
	template := func() *stdx509.Certificate {
		return &stdx509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: pub}, DNSNames: []string{pub},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: stdx509.KeyUsageDigitalSignature | stdx509.KeyUsageKeyEncipherment,
		}
	}
	ecKey := newKey(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec := sign(t, template(), ca.inter, ecKey.Public(), ca.interKey)
	rs := sign(t, template(), ca.inter, rsaKey.Public(), ca.interKey)
	addr := listen(t, &tls.Config{Certificates: []tls.Certificate{
		{Certificate: [][]byte{ec.Raw, ca.inter.Raw}, PrivateKey: ecKey}, {Certificate: [][]byte{rs.Raw, ca.inter.Raw}, PrivateKey: rsaKey},
	}})
	c, err := New(Options{
		Host: pub, Username: "u", Password: func(context.Context) (string, error) { return "p", nil },
		Pins: []string{sum(ec.Raw), sum(rs.Raw)}, Timeout: 5 * time.Second,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ok, served, err := c.Serves(t.Context(), x509.From(rs))
	if err != nil || !ok || served.SHA256 != sum(rs.Raw) || len(served.Intermediates) != 1 {
		t.Fatalf("RSA: %v, %v", ok, err)
	}
	if got := c.pins.get(); !slices.Equal(got, []string{sum(ec.Raw), sum(rs.Raw)}) {
		t.Errorf("the pin moved to what the node does not show by itself: %v", got)
	}
	if ok, _, err := c.Serves(t.Context(), x509.From(ec)); err != nil || !ok {
		t.Errorf("ECDSA: %v, %v", ok, err)
	}
	other := sign(t, template(), ca.inter, rsaKey.Public(), ca.interKey)
	if ok, _, err := c.Serves(t.Context(), x509.From(other)); err != nil || ok {
		t.Errorf("another certificate of the same key: %v, %v", ok, err)
	}
}

// While a node restarts, a handshake may break off in any way.
func TestServedDuringAnOutage(t *testing.T) {
	for name, config := range map[string]*tls.Config{
		"handshake fails": {GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }},
		"cut":             nil,
	} {
		addr := listen(t, config)
		c, err := New(Options{
			Host: pub, Username: "u", Password: func(context.Context) (string, error) { return "p", nil }, Timeout: 5 * time.Second,
			Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, addr)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Served(t.Context())
		if p := problem.From(err); err == nil || !p.Kind.Retryable() || p.Target != pub {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// listen serves handshakes; without a config it cuts connections.
func listen(t *testing.T, config *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				if config != nil {
					_ = tls.Server(conn, config).Handshake()
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

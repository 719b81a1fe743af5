package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// impostor listens with a certificate of this name, and returns its port.
func impostor(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).HandshakeContext(t.Context())
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// A peer's name cannot show another fingerprint than its own, nor hide that one.
func TestTrustOfAnImpostor(t *testing.T) {
	s := newSite(t, "")
	fake := strings.Repeat("AB:", 31) + "AB"
	name := "cucm01\x1b[1A\x1b[2K\r\n  sha256    " + fake + "\n\u202e" + strings.Repeat("x\n", 5000)
	p := s.start("", "trust", "127.0.0.1", "--port", impostor(t, name), "--ssh-port", "0", "--yes", "--config", s.config())
	if code := p.wait(); code != exitDone {
		t.Fatalf("exit code %d: %s", code, p.out.String())
	}
	said := p.out.String()
	if strings.ContainsAny(said, "\x1b\r\u202e") || strings.Count(said, "\n") != 6 {
		t.Errorf("said %q", said)
	}
	lines := strings.Split(said, "\n")
	if !regexp.MustCompile(`^  sha256    ([0-9A-F]{2}:){31}[0-9A-F]{2}$`).MatchString(lines[1]) || strings.Contains(lines[1], fake) ||
		!strings.HasPrefix(lines[2], `  subject   "CN=cucm01\x1b`) || !strings.HasPrefix(lines[3], `  issuer    "CN=cucm01\x1b`) || len(lines[2]) > 700 {
		t.Errorf("said %s", said)
	}
}

package cucmtest

import (
	"crypto/x509"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

// Each rejection has its status and words, leaves the installed certificate and the CSR
// alone, and is in the ledger.
func TestIdentityRejections(t *testing.T) {
	a, stranger := newCA(t), newCA(t)
	c := start(t, func(o *Options) { o.Trust = []string{a.rootPEM, a.issuerPEM} })
	n := c.Node(pub)
	csr := generate(t, n, func(b map[string]any) { b["altNames"] = []string{"b.example.com", "a.example.com"} })
	foreign := generate(t, c.Node(sub), nil)
	old := n.InstalledSHA256()

	for _, test := range []struct {
		name, cert string
		status     int
		words      string
	}{
		{"no PEM", "nonsense", 400, "tomcat.der could not be uploaded"},
		{"two in one text", a.rootPEM + a.issuerPEM, 400, "tomcat.der could not be uploaded"},
		{"another key", a.sign(t, foreign, nil), 500, "CSR public key and certificate public key do not match"},
		{"a name too few", a.sign(t, csr, func(c *x509.Certificate) { c.DNSNames = c.DNSNames[1:] }), 400, "CSR SAN and Certificate SAN does not match"},
		{"a name too many", a.sign(t, csr, func(c *x509.Certificate) { c.DNSNames = append(slices.Clone(c.DNSNames), "z.example.com") }), 400, "CSR SAN and Certificate SAN does not match"},
		{"an address too many", a.sign(t, csr, func(c *x509.Certificate) { c.IPAddresses = []net.IP{{10, 0, 0, 1}} }), 400, "CSR SAN and Certificate SAN does not match"},
		{"expired", a.sign(t, csr, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), 400, "Certificate has expired"},
		{"not yet valid", a.sign(t, csr, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), 400, "Certificate is not yet valid"},
		{"wildcard", a.sign(t, csr, func(c *x509.Certificate) { c.DNSNames = []string{"*.automate.builders"} }), 400, "Wildcard certificates are not supported"},
		{"unknown CA of a known name", stranger.sign(t, csr, nil), 400, "CA certificate is not available in the trust-store"},
	} {
		r := uploadIdentity(t, n, test.cert)
		wantStatus(t, r, test.status, test.words)
		uploads := c.Ledger().Uploads
		last := uploads[len(uploads)-1]
		if last.Accepted || last.Reason == "" || last.Node != pub || last.Kind != IdentityUpload || last.Service != "tomcat" {
			t.Errorf("%s: ledger has %+v", test.name, last)
		}
		if cert, err := parseOne(test.cert); err == nil && last.SHA256 != fingerprint(cert.Raw) {
			t.Errorf("%s: ledger has another fingerprint", test.name)
		}
		if n.InstalledSHA256() != old || n.PendingCSR("tomcat") != csr {
			t.Fatalf("%s: the refusal changed something", test.name)
		}
	}
	// Order and case of the names don't count.
	good := a.sign(t, csr, func(c *x509.Certificate) {
		names := slices.Clone(c.DNSNames)
		slices.Reverse(names)
		names[0] = "CUCM01-pub.automate.builders"
		c.DNSNames = names
	})
	wantStatus(t, uploadIdentity(t, n, good), 200, "")
}

func TestStaleCSR(t *testing.T) {
	a := newCA(t)
	c := start(t, func(o *Options) { o.Trust = []string{a.rootPEM, a.issuerPEM} })
	n := c.Node(pub)
	wantStatus(t, uploadIdentity(t, n, a.sign(t, generate(t, c.Node(sub), nil), nil)), 500, "tomcat.csr does not exist")

	overwritten := a.sign(t, generate(t, n, nil), nil)
	fresh := a.sign(t, generate(t, n, nil), nil)
	wantStatus(t, uploadIdentity(t, n, overwritten), 500, "do not match")
	wantStatus(t, uploadIdentity(t, n, fresh), 200, "")
	// The upload has consumed the CSR: the same again is refused.
	wantStatus(t, uploadIdentity(t, n, fresh), 500, "tomcat.csr does not exist")
	wantStatus(t, call(t, n, "GET", "csr?service=tomcat", nil), 404, "tomcat.csr does not exist")
	if n.InstalledSHA256() != shaOf(t, fresh) {
		t.Fatal("the wrong certificate is installed")
	}
}

func TestTrustComesFirst(t *testing.T) {
	a := newCA(t)
	c := start(t, nil)
	n := c.Node(pub)
	cert := a.sign(t, generate(t, n, nil), nil)
	const missing = "CA certificate is not available in the trust-store"
	wantStatus(t, uploadIdentity(t, n, cert, a.issuerPEM, a.rootPEM), 400, missing)
	wantStatus(t, uploadTrust(t, n, a.issuerPEM), 201, "")
	wantStatus(t, uploadIdentity(t, n, cert, a.issuerPEM, a.rootPEM), 400, missing)
	wantStatus(t, uploadTrust(t, n, a.rootPEM), 201, "")
	wantStatus(t, uploadIdentity(t, n, cert, a.issuerPEM, a.rootPEM), 200, "")
}

func TestChainInAnIdentityUploadCanCount(t *testing.T) {
	a := newCA(t)
	n := start(t, func(o *Options) { o.Behavior.IdentityChain = true }).Node(pub)
	cert := a.sign(t, generate(t, n, nil), nil)
	wantStatus(t, uploadIdentity(t, n, cert), 400, "not available in the trust-store")
	wantStatus(t, uploadIdentity(t, n, cert, a.issuerPEM, a.rootPEM), 200, "")
}

func TestEKUPolicy(t *testing.T) {
	a := newCA(t)
	n := start(t, func(o *Options) {
		o.Trust = []string{a.rootPEM, a.issuerPEM}
		o.Behavior.EKU = EKUReject
	}).Node(pub)
	csr := generate(t, n, nil)
	r := uploadIdentity(t, n, a.sign(t, csr, nil))
	wantStatus(t, r, 400, "tomcat.der could not be uploaded")
	wantStatus(t, r, 400, "clientAuth")
	both := func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	wantStatus(t, uploadIdentity(t, n, a.sign(t, csr, both)), 200, "")
}

// Expiry goes by the cluster's clock, not by the machine's.
func TestExpiryByTheClock(t *testing.T) {
	a := newCA(t)
	clock := clockwork.NewFakeClockAt(time.Now())
	n := start(t, func(o *Options) {
		o.Clock = clock
		o.Trust = []string{a.rootPEM, a.issuerPEM}
	}).Node(pub)
	cert := a.sign(t, generate(t, n, nil), nil)
	clock.Advance(200 * 24 * time.Hour)
	wantStatus(t, uploadIdentity(t, n, cert), 400, "Certificate has expired")
}

func TestGivenIdentityAndLifetime(t *testing.T) {
	id, err := selfSigned(pub, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, func(o *Options) {
		o.Nodes[0].Identity = id.tls()
		o.Nodes[1].Lifetime = 48 * time.Hour
	})
	wantLive(t, c.Node(pub), id.sha256())
	left := time.Until(c.Node(sub).identities[tomcat].cert.NotAfter)
	if left < 47*time.Hour || left > 48*time.Hour {
		t.Fatalf("%s left", left)
	}
}

package peers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"testing"

	"golang.org/x/sync/errgroup"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/dns/dnstest"
)

const (
	zone  = "automate.builders"
	email = "admin@example.com"
)

// testbed is the CA and the DNS that all contestants use, in this process.
type testbed struct {
	ca  *acmetest.CA
	dns *dnstest.World
}

func newTestbed(tb testing.TB) *testbed {
	tb.Helper()
	d, err := dnstest.Start(dnstest.Options{Zones: []string{zone}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(d.Close)
	ca, err := acmetest.Start(context.WithoutCancel(tb.Context()), acmetest.Options{DNSAddr: d.Resolver()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if left := d.TXT().Present; len(left) > 0 && !tb.Failed() {
			tb.Errorf("%d TXT records are left", len(left))
		}
		if err := ca.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &testbed{ca, d}
}

// roots is what a client trusts, in PEM.
func (w *testbed) roots() string { return w.ca.CAPEM() + w.ca.RootPEM() + w.dns.CA() }

// issued is how many certificates the CA has issued.
func (w *testbed) issued(tb testing.TB) int {
	tb.Helper()
	ledger, err := w.ca.Ledger(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return len(ledger.Certificates)
}

// client returns an HTTP client with Go's defaults that finds the task's hosts.
func (t task) client(roots *x509.CertPool) *http.Client {
	dialer := &net.Dialer{}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		to, ok := t.Hosts[addr]
		if !ok {
			return nil, fmt.Errorf("no such host in this testbed: %s", addr)
		}
		return dialer.DialContext(ctx, network, to)
	}
	return &http.Client{Transport: transport}
}

// hostName is the name that certificate i is for.
func hostName(i int) string { return fmt.Sprintf("cucm%02d.%s", i, zone) }

// newCSR returns a signing request as an appliance makes it, in DER.
func newCSR(tb testing.TB, name string) []byte {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// atOnce is how many certificates a contestant works on at a time.
const atOnce = 8

// inParallel calls do for each of the list, atOnce at a time.
func inParallel[T any](list []T, do func(T) error) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, one := range list {
		g.Go(func() error { return do(one) })
	}
	return g.Wait()
}

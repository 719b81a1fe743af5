package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	stdx509 "crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/faults"
	"moonseal/modules/x509"
	"moonseal/runtime/account"
	"moonseal/runtime/problem"
)

func TestMain(m *testing.M) {
	acmetest.Main()
	os.Exit(m.Run())
}

// testCA is a CA and a state directory; each call of client is a fresh process.
type testCA struct {
	*acmetest.CA
	t      *testing.T
	faults *faults.Set
	store  *account.Store
	spec   CA
	opts   Options

	mu    sync.Mutex
	calls []string
}

func newTestCA(t *testing.T, o acmetest.Options) *testCA {
	t.Helper()
	w := &testCA{t: t, faults: faults.New(), store: accountStore(t)}
	o.Faults = w.faults
	if o.DNSAddr == "" {
		o.AlwaysValid = true
	}
	ca, err := acmetest.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ca.Close(); err != nil {
			t.Error(err)
		}
	})
	w.CA = ca
	w.spec = CA{Directory: "letsencrypt", Email: "admin@example.com", Roots: strings.Join(ca.RootPEMs(), "")}
	w.opts = Options{
		Store: w.store, RootCAs: ca.CertPool(), Directories: map[string]string{"letsencrypt": ca.DirectoryURL()},
		SystemRoots: noRoots, Timeout: 5 * time.Second, Within: 10 * time.Second,
	}
	return w
}

func noRoots([]*stdx509.Certificate) []*stdx509.Certificate { return nil }

func accountStore(t testing.TB) *account.Store { return account.Open(t.TempDir(), "") }

// client returns a new Client, as a fresh process would.
func (w *testCA) client() *Client {
	w.t.Helper()
	c, err := New(w.spec, w.opts)
	if err != nil {
		w.t.Fatal(err)
	}
	c.transport = counter{w, c.transport}
	w.t.Cleanup(c.Close)
	return c
}

// counter notes the requests that leave a client.
type counter struct {
	w    *testCA
	next http.RoundTripper
}

func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.w.mu.Lock()
	c.w.calls = append(c.w.calls, r.Method+" "+strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")[0])
	c.w.mu.Unlock()
	return c.next.RoundTrip(r)
}

func (c counter) CloseIdleConnections() { (&http.Client{Transport: c.next}).CloseIdleConnections() }

// requests returns, and forgets, the requests so far that begin with prefix.
func (w *testCA) requests(prefix string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, call := range w.calls {
		if strings.HasPrefix(call, prefix) {
			out = append(out, call)
		}
	}
	w.calls = nil
	return out
}

func (w *testCA) fault(f faults.Fault) {
	w.t.Helper()
	if _, err := w.faults.Add(f); err != nil {
		w.t.Fatal(err)
	}
}

func (w *testCA) ledger() acmetest.Ledger {
	w.t.Helper()
	l, err := w.Ledger(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

func newCSR(t testing.TB, cn string, names ...string) *x509.CSR {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := stdx509.CreateCertificateRequest(rand.Reader, &stdx509.CertificateRequest{Subject: pkix.Name{CommonName: cn}, DNSNames: names}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCSR(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// must returns v, or ends the test.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// issue gets a certificate with one client.
func (w *testCA) issue(c *Client, csr *x509.CSR, replaces *x509.Certificate) *x509.Certificate {
	w.t.Helper()
	ctx := w.t.Context()
	acct := must(c.Account(ctx))(w.t)
	order := must(c.Order(ctx, acct, OrderRequest{CSR: csr, Replaces: replaces}))(w.t)
	must(c.Validate(ctx, acct, order))(w.t)
	return must(c.Finalize(ctx, acct, order, csr))(w.t)
}

func wantKind(t *testing.T, err error, kind problem.Kind, words ...string) *problem.Error {
	t.Helper()
	var p *problem.Error
	if !errors.As(err, &p) {
		t.Fatalf("want a *problem.Error of kind %s, got %v", kind, err)
	}
	if p.Kind != kind {
		t.Fatalf("kind = %s, want %s: %v", p.Kind, kind, err)
	}
	for _, word := range words {
		if !strings.Contains(p.Error()+" "+p.Hint, word) {
			t.Errorf("%q does not say %q (hint %q)", p.Error(), word, p.Hint)
		}
	}
	return p
}

// zone answers TXT questions over TCP.
type zone struct {
	addr string
	mu   sync.Mutex
	txt  map[string][]string
}

func newZone(t *testing.T) *zone {
	t.Helper()
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{addr: l.Addr().String(), txt: map[string][]string{}}
	started, done := make(chan struct{}), make(chan struct{})
	server := &dns.Server{Listener: l, Handler: z, NotifyStartedFunc: func() { close(started) }}
	go func() {
		defer close(done)
		_ = server.ActivateAndServe()
	}()
	<-started
	t.Cleanup(func() { _ = server.ShutdownContext(context.WithoutCancel(t.Context())); <-done })
	return z
}

func (z *zone) publish(challenges ...Challenge) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, ch := range challenges {
		z.txt[ch.Name] = append(z.txt[ch.Name], ch.Value)
	}
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	answer := new(dns.Msg).SetReply(q)
	name := q.Question[0].Name
	if q.Question[0].Qtype == dns.TypeTXT {
		for _, value := range z.txt[name] {
			answer.Answer = append(answer.Answer, &dns.TXT{
				Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{value},
			})
		}
	}
	_ = w.WriteMsg(answer)
}

func names(challenges []Challenge) []string {
	var out []string
	for _, ch := range challenges {
		out = append(out, ch.Name)
	}
	slices.Sort(out)
	return out
}

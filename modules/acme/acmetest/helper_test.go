package acmetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/crypto/acme"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// modes are those that this binary can run.
func modes() []Mode {
	if raceEnabled {
		return []Mode{OwnProcess}
	}
	return []Mode{InProcess, OwnProcess}
}

func startCA(t *testing.T, o Options) *CA {
	t.Helper()
	ca, err := Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ca.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return ca
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func httpClient(t *testing.T, ca *CA) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.CertPool()}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// newClient returns a client without retries, except for bad nonces.
func newClient(t *testing.T, ca *CA) *acme.Client {
	t.Helper()
	httpClient := httpClient(t, ca)
	// The library follows a Location that Boulder sends here and Pebble does not.
	httpClient.Transport = watch{httpClient.Transport, func(r *http.Request, res *http.Response) {
		if id, ok := strings.CutPrefix(r.URL.Path, "/finalize-order/"); ok {
			res.Header.Set("Location", "https://"+r.URL.Host+"/my-order/"+id)
		}
	}}
	return &acme.Client{
		Key: newKey(t), DirectoryURL: ca.DirectoryURL(), HTTPClient: httpClient,
		RetryBackoff: func(n int, _ *http.Request, res *http.Response) time.Duration {
			if res.StatusCode == http.StatusBadRequest && n < 1000 {
				return time.Nanosecond
			}
			return -1
		},
	}
}

// watch shows each answer to see.
type watch struct {
	http.RoundTripper
	see func(*http.Request, *http.Response)
}

func (w watch) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := w.RoundTripper.RoundTrip(r)
	if err == nil {
		w.see(r, res)
	}
	return res, err
}

// CloseIdleConnections is what http.Client looks for.
func (w watch) CloseIdleConnections() {
	if c, ok := w.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func newAccount(t *testing.T, ca *CA) *acme.Client {
	t.Helper()
	client := newClient(t, ca)
	if _, err := client.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	return client
}

// authorize orders names and meets all challenges; zone may be nil if none is asked.
func authorize(t *testing.T, client *acme.Client, z *zone, names ...string) *acme.Order {
	t.Helper()
	ctx := t.Context()
	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs(names...))
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range order.AuthzURLs {
		authz, err := client.GetAuthorization(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		if authz.Status == acme.StatusValid {
			continue
		}
		chal := dnsChallenge(t, authz)
		if z != nil {
			value, err := client.DNS01ChallengeRecord(chal.Token)
			if err != nil {
				t.Fatal(err)
			}
			z.set("_acme-challenge."+authz.Identifier.Value+".", value)
		}
		if _, err := client.Accept(ctx, chal); err != nil {
			t.Fatal(err)
		}
		if got := decided(t, client, url); got.Status != acme.StatusValid {
			t.Fatalf("authorization: %+v", got)
		}
	}
	order, err = client.GetOrder(ctx, order.URI)
	if err != nil {
		t.Fatal(err)
	}
	return order
}

// decided polls without a pause: the library's own wait takes a second.
func decided(t *testing.T, client *acme.Client, url string) *acme.Authorization {
	t.Helper()
	for {
		authz, err := client.GetAuthorization(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if authz.Status != acme.StatusPending {
			return authz
		}
	}
}

func dnsChallenge(t *testing.T, authz *acme.Authorization) *acme.Challenge {
	t.Helper()
	for _, c := range authz.Challenges {
		if c.Type == "dns-01" {
			return c
		}
	}
	t.Fatal("no dns-01 challenge")
	return nil
}

func newCSR(t *testing.T, names ...string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// issue returns a chain for names, leaf first.
func issue(t *testing.T, client *acme.Client, z *zone, names ...string) []*x509.Certificate {
	t.Helper()
	order := authorize(t, client, z, names...)
	chain, _, err := client.CreateOrderCert(t.Context(), order.FinalizeURL, newCSR(t, names...), true)
	if err != nil {
		t.Fatal(err)
	}
	return parseChain(t, chain)
}

func parseChain(t *testing.T, chain [][]byte) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, cert)
	}
	return out
}

// zone answers TXT questions over TCP.
type zone struct {
	addr string
	slow chan struct{} // if not nil, answers wait for its close
	mu   sync.Mutex
	txt  map[string]string
}

func newZone(t *testing.T) *zone {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{addr: l.Addr().String(), txt: map[string]string{}}
	started, done := make(chan struct{}), make(chan struct{})
	server := &dns.Server{Listener: l, Handler: z, NotifyStartedFunc: func() { close(started) }}
	go func() {
		defer close(done)
		_ = server.ActivateAndServe()
	}()
	<-started
	t.Cleanup(func() { _ = server.Shutdown(); <-done })
	return z
}

func (z *zone) set(name, value string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.txt[name] = value
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	if z.slow != nil {
		<-z.slow
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	answer := new(dns.Msg).SetReply(q)
	name := q.Question[0].Name
	if value, ok := z.txt[name]; ok && q.Question[0].Qtype == dns.TypeTXT {
		answer.Answer = []dns.RR{&dns.TXT{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET},
			Txt: []string{value},
		}}
	}
	_ = w.WriteMsg(answer)
}

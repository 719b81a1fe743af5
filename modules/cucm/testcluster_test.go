package cucm

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	stdx509 "crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

const (
	pub      = "cucm01-pub.automate.builders"
	sub      = "cucm02-sub.automate.builders"
	admin    = "administrator"
	password = "pass-word-1"
)

// testCluster is a cluster, and a CA for its certificates.
type testCluster struct {
	*cucmtest.Cluster
	faults *faults.Set
	ca     *authority
	logs   *logs
}

func newTestCluster(t testing.TB, change ...func(*cucmtest.Options)) *testCluster {
	t.Helper()
	w := &testCluster{faults: faults.New(), ca: newAuthority(t), logs: &logs{}}
	o := cucmtest.Options{
		Domain: "automate.builders", Nodes: []cucmtest.NodeOptions{{Host: "cucm01-pub"}, {Host: "cucm02-sub"}},
		Username: admin, Password: password, ReadOnlyUsername: "reader", ReadOnlyPassword: "reader-1", Faults: w.faults,
	}
	for _, c := range change {
		c(&o)
	}
	cluster, err := cucmtest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	w.Cluster = cluster
	return w
}

// options give a client's options for a node: what it serves now is pinned.
func (w *testCluster) options(t testing.TB, host string) Options {
	t.Helper()
	hostKey, err := w.Node(host).HostKeyFingerprint()
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Host: host, Username: admin, Password: func(context.Context) (string, error) { return password, nil },
		Pins: []string{w.Node(host).ServedSHA256()}, HostKeys: []string{hostKey}, Dial: w.dial,
		Timeout: 5 * time.Second, Banner: 5 * time.Second, PromptSettle: 10 * time.Millisecond, RestartTimeout: 5 * time.Second,
		Replication: 400 * time.Millisecond, Settle: 200 * time.Millisecond, Poll: 10 * time.Millisecond,
		Log: slog.New(w.logs.handler()),
	}
}

func (w *testCluster) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	to, ok := w.Addrs()[addr]
	if !ok {
		return nil, errors.New("test dials " + addr)
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}

func (w *testCluster) client(t testing.TB, host string, change ...func(*Options)) *Client {
	t.Helper()
	o := w.options(t, host)
	for _, c := range change {
		c(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *testCluster) configure(t testing.TB, change func(*cucmtest.Behavior)) {
	t.Helper()
	if err := w.Configure(change); err != nil {
		t.Fatal(err)
	}
}

func (w *testCluster) fault(t testing.TB, f faults.Fault) {
	t.Helper()
	if _, err := w.faults.Add(f); err != nil {
		t.Fatal(err)
	}
}

// ready generates a CSR on a node and issues a certificate for it.
func (w *testCluster) ready(t testing.TB, c *Client) *x509.Certificate {
	t.Helper()
	csr, err := c.GenerateCSR(t.Context(), CSRRequest{KeyType: "ec"})
	if err != nil {
		t.Fatal(err)
	}
	return w.ca.issue(t, csr, nil)
}

// authority is a CA with a root and one intermediate.
type authority struct {
	rootKey, interKey *ecdsa.PrivateKey
	root, inter       *stdx509.Certificate
}

var serials = big.NewInt(1 << 40)

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{rootKey: newKey(t), interKey: newKey(t)}
	a.root = sign(t, caTemplate("Test Root R1", -48*time.Hour), nil, a.rootKey.Public(), a.rootKey)
	a.inter = sign(t, caTemplate("Test YR1", -24*time.Hour), a.root, a.interKey.Public(), a.rootKey)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func caTemplate(name string, begin time.Duration) *stdx509.Certificate {
	return &stdx509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(begin), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: stdx509.KeyUsageCertSign,
	}
}

func sign(t testing.TB, template, parent *stdx509.Certificate, pubKey any, by *ecdsa.PrivateKey) *stdx509.Certificate {
	t.Helper()
	var err error
	if template.SerialNumber, err = rand.Int(rand.Reader, serials); err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent = template
	}
	der, err := stdx509.CreateCertificate(rand.Reader, template, parent, pubKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := stdx509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue returns a certificate for a CSR, without clientAuth as public CAs do.
func (a *authority) issue(t testing.TB, csr *x509.CSR, change func(*stdx509.Certificate)) *x509.Certificate {
	t.Helper()
	req, err := csr.Request()
	if err != nil {
		t.Fatal(err)
	}
	template := &stdx509.Certificate{
		Subject: pkix.Name{CommonName: req.DNSNames[0]}, DNSNames: req.DNSNames,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		ExtKeyUsage: []stdx509.ExtKeyUsage{stdx509.ExtKeyUsageServerAuth}, KeyUsage: stdx509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(template)
	}
	c := x509.From(sign(t, template, a.inter, req.PublicKey, a.interKey))
	c.Intermediates, c.Root = []string{x509.Encode(a.inter)}, x509.Encode(a.root)
	return c
}

// logs keeps what a client logs.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logs) handler() slog.Handler {
	return slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})
}

// wantProblem fails unless err is a problem of the kind that says all words
// and names the host.
func wantProblem(t testing.TB, err error, kind problem.Kind, words ...string) *problem.Error {
	t.Helper()
	var p *problem.Error
	if !errors.As(err, &p) || p.Kind != kind {
		t.Fatalf("got %v (%T), want a problem of kind %s", err, err, kind)
	}
	for _, w := range words {
		if !strings.Contains(p.Error()+" hint: "+p.Hint, w) {
			t.Errorf("%q (hint %q) does not say %q", p, p.Hint, w)
		}
	}
	if p.Target == "" {
		t.Errorf("%q names no target", p)
	}
	if strings.Contains(p.Error()+p.Hint, password) {
		t.Errorf("%q holds the password", p)
	}
	return p
}

func uploads(w *testCluster, kind string) (accepted, refused int) {
	for _, u := range w.Ledger().Uploads {
		switch {
		case u.Kind != kind:
		case u.Accepted:
			accepted++
		default:
			refused++
		}
	}
	return accepted, refused
}

func restarts(w *testCluster, node string) []string {
	out := []string{}
	for _, r := range w.Ledger().Restarts {
		if r.Node == node {
			out = append(out, r.Service)
		}
	}
	return out
}

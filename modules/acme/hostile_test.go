package acme

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	stdx509 "crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/x509"
	"moonseal/runtime/grant"
	"moonseal/runtime/problem"
)

// lying changes what a CA answers under one path.
type lying struct {
	next     http.RoundTripper
	path     string
	old, new string
}

func (l lying) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := l.next.RoundTrip(r)
	if err != nil || !strings.HasPrefix(r.URL.Path, l.path) {
		return res, err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(bytes.Replace(body, []byte(l.old), []byte(l.new), 1)))
	return res, err
}

// What a CA answers about names that were not ordered.
func TestCAThatAsksForOtherNames(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	csr := newCSR(t, "", "a.example.com", "*.example.com")
	acct := must(w.client().Account(t.Context()))(t)
	const modified = "order identifiers have been modified" // lego's words
	for _, c := range []struct {
		attack, path, old, new string
		kind                   problem.Kind
		says                   string
	}{
		{"a proof of another name", "/authZ", `"value": "a.example.com"`, `"value": "www.example.com"`, problem.Mismatch, `"www.example.com"`},
		{"a proof of a name with a line break", "/authZ", `"value": "a.example.com"`, `"value": "a\n.example.com"`, problem.Mismatch, `"a\n.example.com"`},
		{"a proof of the domain", "/authZ", `"value": "a.example.com"`, `"value": "example.com"`, problem.Mismatch, `"example.com"`},
		{"a proof of an address", "/authZ", `"type": "dns",`, `"type": "ip",`, problem.Mismatch, `ip "`},
		{"an order for one name more", "/order-plz", `"identifiers": [`, `"identifiers": [{"type": "dns", "value": "www.example.com"},`, problem.Unavailable, modified},
		{"an order for another name", "/order-plz", `"value": "a.example.com"`, `"value": "www.example.com"`, problem.Unavailable, modified},
		{"an order for no name", "/order-plz", `"identifiers"`, `"identifiers-not"`, problem.Unavailable, modified},
	} {
		cl := w.client()
		cl.transport = lying{cl.transport, c.path, c.old, c.new}
		order, err := cl.Order(t.Context(), acct, OrderRequest{CSR: csr})
		if e := problem.From(err); e == nil || e.Kind != c.kind || !strings.Contains(e.Error(), c.says) {
			t.Errorf("%s: %+v, %v", c.attack, order, err)
		}
		if order != nil && len(order.Challenges) > 0 {
			t.Errorf("%s: challenges %+v", c.attack, order.Challenges)
		}
	}
	// An order that is resumed.
	order := must(w.client().Order(t.Context(), acct, OrderRequest{CSR: csr}))(t)
	cl := w.client()
	cl.transport = lying{cl.transport, "/authZ", `"value": "a.example.com"`, `"value": "www.example.com"`}
	_, err := cl.Get(t.Context(), acct, order.URL)
	wantKind(t, err, problem.Mismatch, `"www.example.com"`)
}

// Signing requests that ask for more than their DNS names say.
func TestRequestsForMoreThanTheirNames(t *testing.T) {
	otherName := []byte{0xa0, 0x06, 0x06, 0x02, 0x2a, 0x03, 0xa0, 0x00}
	dnsName := append([]byte{0x82, byte(len("a.example.com"))}, "a.example.com"...)
	cn := func(values ...string) (subject pkix.Name) {
		for _, v := range values {
			subject.ExtraNames = append(subject.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: v})
		}
		return subject
	}
	changed := newCSR(t, "", "a.example.com", "www.example.com")
	changed.Names = []string{"a.example.com"}
	w := newTestCA(t, acmetest.Options{})
	cl := w.client()
	acct := must(cl.Account(t.Context()))(t)
	order := must(cl.Order(t.Context(), acct, OrderRequest{CSR: newCSR(t, "", "a.example.com")}))(t)
	for attack, csr := range map[string]*x509.CSR{
		"an address":               request(t, &stdx509.CertificateRequest{DNSNames: []string{"a.example.com"}, IPAddresses: []net.IP{{10, 0, 0, 1}}}),
		"a mail address":           request(t, &stdx509.CertificateRequest{DNSNames: []string{"a.example.com"}, EmailAddresses: []string{"a@example.com"}}),
		"a URI":                    request(t, &stdx509.CertificateRequest{DNSNames: []string{"a.example.com"}, URIs: []*url.URL{{Scheme: "spiffe", Host: "x"}}}),
		"a user's principal name":  request(t, &stdx509.CertificateRequest{ExtraExtensions: []pkix.Extension{alternative(t, dnsName, otherName)}}),
		"a second common name":     request(t, &stdx509.CertificateRequest{Subject: cn("www.example.com", "a.example.com"), DNSNames: []string{"a.example.com"}}),
		"a common name of no name": request(t, &stdx509.CertificateRequest{Subject: cn("www.example.com"), DNSNames: []string{"a.example.com"}}),
		"more than its table says": changed,
	} {
		if _, err := cl.Order(t.Context(), acct, OrderRequest{CSR: csr}); problem.From(err) == nil || problem.From(err).Kind != problem.Mismatch {
			t.Errorf("%s: ordered: %v", attack, err)
		}
		if _, err := cl.Finalize(t.Context(), acct, order, csr); problem.From(err) == nil || problem.From(err).Kind != problem.Mismatch {
			t.Errorf("%s: finalized: %v", attack, err)
		}
	}
	if n := len(w.ledger().Orders); n != 1 {
		t.Errorf("%d orders", n)
	}
	plain := request(t, &stdx509.CertificateRequest{ExtraExtensions: []pkix.Extension{alternative(t, dnsName)}})
	if err := CheckCSR(plain); err != nil {
		t.Errorf("a plain one: %v", err)
	}
}

// alternative is the extension of these names, each encoded.
func alternative(t *testing.T, names ...[]byte) pkix.Extension {
	t.Helper()
	value, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: slices.Concat(names...)})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}
}

func request(t *testing.T, template *stdx509.CertificateRequest) *x509.CSR {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := stdx509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCSR(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// A proxy that refuses is named, and its password is sent once in all of a run.
func TestAProxyThatRefuses(t *testing.T) {
	for _, status := range []int{http.StatusProxyAuthRequired, http.StatusForbidden} {
		w := newTestCA(t, acmetest.Options{})
		s := newScript(t, w)
		s.global("cert", w.issue(w.client(), newCSR(t, "", "a.example.com"), nil))
		var asked atomic.Int64
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.WriteHeader(status)
		}))
		defer proxy.Close()
		at := strings.TrimPrefix(proxy.URL, "http://")
		s.net = must(grant.New(grant.Options{CABundle: s.bundle, Proxy: "http://user:hunter2@" + at}))(t)
		if err := s.run(`local r = acme.ca { directory = "letsencrypt", email = "other@example.com" }:renewal(cert) assert(not r.due and r.ari_error ~= "")`); err != nil {
			t.Error(err)
		}
		for range 2 {
			err := s.run(`acme.ca { directory = "letsencrypt", email = "other@example.com" }:account()`)
			if p := wantKind(t, err, problem.Auth, "proxy "+at); p.Kind.Retryable() || p.Happened() != problem.NotDone {
				t.Errorf("%+v", p)
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%d: asked %d times", status, n)
		}
		// Reached directly, it does not matter.
		s.net = must(grant.New(grant.Options{CABundle: s.bundle, Proxy: "http://user:hunter2@" + at, NoProxy: []string{"127.0.0.0/8"}}))(t)
		if err := s.run(`acme.ca { directory = "letsencrypt", email = "other@example.com" }:account()`); err != nil {
			t.Error(err)
		}
	}
}

// A playbook orders for the names that it is granted, whatever its node asks for.
func TestOrdersKeepToTheGrantedNames(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	s := newScript(t, w)
	granted := grant.Rules{"p": {Hosts: []string{"*"}, Names: []string{"a.example.com"}}}
	free := s.net
	s.net = must(grant.New(grant.Options{CABundle: s.bundle, Allowed: granted.For("p")}))(t)
	const begin = `acct = acme.ca { directory = "letsencrypt", email = "admin@example.com" }:account() `
	s.global("csr", newCSR(t, "", "a.example.com", "www.example.com"))
	wantKind(t, s.run(begin+`acct:order { csr = csr }`), problem.Refused, "www.example.com", `{ names: ["www.example.com"] }`)
	if n := len(w.ledger().Orders); n != 0 {
		t.Fatalf("%d orders", n)
	}
	// An order that another playbook placed.
	narrow := s.net
	s.net = free
	if err := s.run(begin + `order = acct:order { csr = csr } acct:validate(order)`); err != nil {
		t.Fatal(err)
	}
	s.net = narrow
	wantKind(t, s.run(begin+`acct:finalize(order, csr)`), problem.Refused, "www.example.com")
	if n := len(w.ledger().Certificates); n != 0 {
		t.Errorf("%d certificates", n)
	}
	s.global("csr", newCSR(t, "", "a.example.com"))
	if err := s.run(begin + `order = acct:order { csr = csr } acct:validate(order) acct:finalize(order, csr)`); err != nil {
		t.Error(err)
	}
}

package acme

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	stdx509 "crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/faults"
	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// issuer issues certificates without a CA's protocol.
type issuer struct {
	t    testing.TB
	name string
	key  *ecdsa.PrivateKey
	cert *stdx509.Certificate
	n    int64
}

func newIssuer(t testing.TB, name string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t: t, name: name, key: key, cert: &stdx509.Certificate{Subject: pkix.Name{CommonName: name}, SubjectKeyId: []byte(name), PublicKey: key.Public()}}
}

func (i *issuer) issue(from time.Time, life time.Duration) *x509.Certificate {
	i.t.Helper()
	i.n++
	template := &stdx509.Certificate{SerialNumber: big.NewInt(i.n), NotBefore: from, NotAfter: from.Add(life), DNSNames: []string{"a.example.com"}}
	der, err := stdx509.CreateCertificate(cryptorand.Reader, template, i.cert, i.key.Public(), i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	leaf, err := stdx509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	return x509.From(leaf)
}

// ari is a CA that has a directory and an answer to questions for a window.
type ari func() (status int, body string, err error)

func (a ari) RoundTrip(r *http.Request) (*http.Response, error) {
	res := &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: r}
	body := `{"newNonce":"https://ca.example/n","newAccount":"https://ca.example/a","newOrder":"https://ca.example/o","renewalInfo":"https://ca.example/ari"}`
	if strings.Contains(r.URL.Path, "/ari/") {
		var err error
		if res.StatusCode, body, err = a(); err != nil {
			return nil, err
		}
	}
	res.Body = io.NopCloser(bytes.NewReader([]byte(body)))
	return res, nil
}

// decide decides on a certificate as a run does that begins at now.
func decide(t testing.TB, answer ari, cert *x509.Certificate, now time.Time, opts RenewalOptions) *Renewal {
	t.Helper()
	c, err := New(CA{Directory: "https://ca.example/dir"}, Options{Clock: clockwork.NewFakeClockAt(now), Store: brokenStore{}})
	if err != nil {
		t.Fatal(err)
	}
	c.transport = answer
	r, err := c.Renewal(t.Context(), cert, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Whatever a CA answers, and whichever CA issued the certificate: what replaces a
// certificate that was due is not due within a day, or within half of its lifetime if
// that is less. Whether the certificate was kept does not matter for the decision.
func TestNothingIsDueTwiceWithinADay(t *testing.T) {
	const seed = 9
	random := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // the same numbers each time
	ours, theirs := newIssuer(t, "Ours"), newIssuer(t, "Theirs")
	some := func() time.Duration { return time.Duration(random.Int64N(int64(400*day))) - 200*day }
	windows := 0
	for round := range 120 {
		life := []time.Duration{6 * time.Hour, day, 2 * day, 160 * time.Hour, 45 * day, 90 * day, 398 * day}[random.IntN(7)]
		start := time.Date(2026, 11, 1, 3, 17, 0, 0, time.UTC)
		opts := RenewalOptions{}
		if random.IntN(2) == 0 {
			opts.RenewBefore = time.Duration(random.Int64N(int64(life) + int64(life)/4))
		}
		var now time.Time
		first, second, relative := some(), some(), random.IntN(2) == 0
		kind := random.IntN(9)
		answer := ari(func() (int, string, error) {
			from := start
			if relative {
				from = now
			}
			switch kind {
			case 0:
				return 404, `{"type":"urn:ietf:params:acme:error:malformed","detail":"no such certificate"}`, nil
			case 1:
				return 400, "", nil
			case 2:
				return 200, "<!DOCTYPE html><html>Sign in</html>", nil
			case 3:
				return 503, "", nil
			case 4:
				return 0, "", errors.New("connection reset")
			case 5:
				return 200, `{"suggestedWindow":{"start":"0001-01-01T00:00:01Z","end":"9999-12-31T23:59:59Z"}}`, nil
			case 6:
				return 200, acmetest.RenewalInfo(now.Add(-time.Hour), now.Add(-30*time.Minute)), nil // as for what is revoked
			default:
				windows++
				return 200, acmetest.RenewalInfo(from.Add(first), from.Add(second)), nil
			}
		})
		from := ours
		if random.IntN(2) == 0 {
			from = theirs
		}
		cert := from.issue(start.Add(-time.Duration(random.Int64N(int64(life)))), life)
		gap := min(day, life/2-time.Hour)
		last := time.Time{}
		for now = start; now.Before(start.Add(4 * day)); now = now.Add(time.Hour) {
			r := decide(t, answer, cert, now, opts)
			if r.Due != !r.At.After(now) && r.Source != byCertificate || r.Reason == "" {
				t.Fatalf("seed %d, round %d: %+v", seed, round, r)
			}
			if !r.Due {
				continue
			}
			if !last.IsZero() && now.Sub(last) < gap {
				t.Fatalf("seed %d, round %d: a certificate for %v is due %v after the last one, by %s (%s); answer %d", seed, round, life, now.Sub(last), r.Source, r.Reason, kind)
			}
			// The CA issues, and dates back.
			last, cert = now, ours.issue(now.Add(-time.Hour), life)
		}
	}
	if windows == 0 {
		t.Error("no window was ever tried")
	}
}

// An answer that is not a window decides nothing, and is reported.
func TestInvalidWindowIsReported(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	s := newScript(t, w)
	log := &logged{}
	s.log = slog.New(slog.NewTextHandler(log, nil))
	cert := w.issue(w.client(), newCSR(t, "", "a.example.com"), nil)
	s.clock = clockwork.NewFakeClockAt(cert.NotBefore.Add(40 * day))
	s.global("cert", cert)
	w.fault(faults.Fault{Call: "acme.renewal-info", Kind: faults.Status, Code: 404, Times: -1})
	if err := s.run(`r = acme.ca { directory = "letsencrypt" }:renewal(cert) assert(not r.due and r.source == "lifetime")`); err != nil {
		t.Fatal(err)
	}
	again := s.clock.Now().Add(6 * time.Hour).Format("2006-01-02T15:04")
	for _, word := range []string{"no renewal window", "404", "rule=lifetime", "look_again=" + again, cert.Issuer} {
		if !strings.Contains(log.String(), word) {
			t.Errorf("%q is not in %s", word, log)
		}
	}
}

// Which certificate an order replaces follows from what was kept, not from whether the
// CA answers.
func TestReplacesWhatWasKept(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	s := newScript(t, w)
	csr := newCSR(t, "", "a.example.com")
	csr.Host, csr.Service = "cucm01.example.com", "tomcat"
	cert := w.issue(w.client(), csr, nil)
	w.fault(faults.Fault{Call: "acme.renewal-info", Kind: faults.Status, Code: 404, Times: -1})
	s.global("csr", csr)
	s.global("cert", cert)
	const order = `acct = acme.ca { directory = "letsencrypt", email = "admin@example.com" }:account() replaces = acct:order { csr = csr, replaces = cert }.replaces `
	if err := s.run(order + `assert(not replaces or replaces == "", replaces)`); err != nil {
		t.Error(err)
	}
	if err := w.store.SaveCertificate(csr.Host, csr.Service, cert.PEM, cert.ChainPEM()); err != nil {
		t.Fatal(err)
	}
	if err := s.run(order + `assert(replaces ~= "")`); err != nil {
		t.Error(err)
	}
	// A CA that does not know it gets an order without.
	w.fault(faults.Fault{Call: "acme.new-order", Kind: faults.Status, Code: 404, Body: "<html>"})
	if err := s.run(order + `assert(not replaces or replaces == "", replaces)`); err != nil {
		t.Error(err)
	}
}

// FuzzRenewalInfo: nothing that a CA answers makes a certificate due that was issued
// within the last day, or sets the moment outside of its life.
func FuzzRenewalInfo(f *testing.F) {
	ca := newIssuer(f, "Ours")
	now := time.Date(2026, 11, 1, 3, 17, 0, 0, time.UTC)
	f.Add(200, `{"suggestedWindow":{"start":"2026-11-10T00:00:00Z","end":"2026-11-12T00:00:00Z"},"explanationURL":"https://ca.example/why"}`)
	f.Add(200, `{"suggestedWindow":{"start":"0000-01-01T00:00:00Z","end":"9999-12-31T23:59:59.999999999Z"}}`)
	f.Add(200, `{"suggestedWindow":null}`)
	f.Add(404, `{"type":"urn:ietf:params:acme:error:malformed"}`)
	f.Add(200, `<html>`)
	young, old := ca.issue(now.Add(-2*time.Hour), 90*day), ca.issue(now.Add(-40*day), 90*day)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 || status/100 == 3 {
			return
		}
		answer := ari(func() (int, string, error) { return status, body, nil })
		if r := decide(t, answer, young, now, RenewalOptions{}); r.Due {
			t.Errorf("a young one is due: %+v", r)
		}
		r := decide(t, answer, old, now, RenewalOptions{})
		if r.Due && r.Source != byARI || (r.Source == byARI) == (r.ARIError != "") || r.LookAgain.Before(now) {
			t.Errorf("%+v", r)
		}
		if r.At.Before(old.NotBefore) || r.At.After(old.NotAfter) {
			t.Errorf("at %v, outside of its life", r.At)
		}
	})
}

// FuzzDirectory: what is not a directory is an error of kind refused, and is not kept.
func FuzzDirectory(f *testing.F) {
	f.Add(`{"newNonce":"https://ca.example/n","newAccount":"https://ca.example/a","newOrder":"https://ca.example/o"}`)
	f.Add(`{"newNonce":"https://ca.example/n","meta":{"profiles":{"classic":""},"externalAccountRequired":true}}`)
	f.Add(`<html>`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, body string) {
		c := must(New(CA{Directory: "https://ca.example/dir"}, Options{Store: brokenStore{}}))(t)
		c.transport = answers(body)
		dir, err := c.getDirectory(t.Context())
		if err == nil {
			var want struct{ NewOrder string }
			if dir.NewOrderURL == "" || json.Unmarshal([]byte(body), &want) != nil {
				t.Errorf("%q is taken", body)
			}
			return
		}
		if e := problem.From(err); e.Kind != problem.Refused || strings.Contains(e.Error(), "\n") || c.knownDirectory() != nil {
			t.Errorf("%q: %+v", body, e)
		}
	})
}

// answers answers everything with one body.
type answers string

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: r,
		Body: io.NopCloser(strings.NewReader(string(a))),
	}, nil
}

// FuzzLinks: alternates are https URLs, each once.
func FuzzLinks(f *testing.F) {
	f.Add(`<https://ca/dir>;rel="index", <https://ca/cert/1/1>;rel="alternate"`)
	f.Add(`</cert/1/2>; title="a, b; c"; rel=alternate`)
	f.Add(`<?>;rel="alternate up", <javascript:x>;rel=alternate`)
	f.Add(`<<>>;;rel=,"alternate`)
	f.Fuzz(func(t *testing.T, value string) {
		seen := map[string]bool{}
		for _, u := range alternates("https://ca/cert/1", http.Header{"Link": {value}}) {
			if !strings.HasPrefix(u, "https://") || seen[u] {
				t.Errorf("%q returns %q", value, u)
			}
			seen[u] = true
		}
	})
}

// FuzzChain: what is stored or downloaded is a chain of whole certificates, or an error.
func FuzzChain(f *testing.F) {
	ca := newIssuer(f, "Ours")
	leaf := ca.issue(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), 90*day)
	f.Add(leaf.PEM, leaf.PEM)
	f.Add(strings.ReplaceAll(leaf.PEM, "\n", "\r\n"), "subject=x\n"+leaf.PEM+"junk")
	f.Add("", "")
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "")
	csr := newCSR(f, "", "a.example.com")
	f.Fuzz(func(t *testing.T, leafPEM, chainPEM string) {
		c := must(New(CA{}, Options{Store: brokenStore{}}))(t)
		if cert, err := c.Fitting(csr, leafPEM, chainPEM); cert != nil || err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, %v", cert, err)
		}
		cert, err := x509.Parse(chainPEM)
		if err != nil {
			return
		}
		if err := c.withRoot(cert); err != nil {
			t.Errorf("parsed, and yet %v", err)
		}
		c.Preferred(cert)
	})
}

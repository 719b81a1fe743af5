package acme

import (
	"context"
	stdx509 "crypto/x509"
	"encoding/hex"
	"math/big"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/faults"
	"moonseal/modules/x509"
)

const day = 24 * time.Hour

func TestCertID(t *testing.T) {
	// The example of RFC 9773 section 4.1.
	aki, err := hex.DecodeString("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := new(big.Int).SetString("87654321", 16)
	got := certID(&stdx509.Certificate{AuthorityKeyId: aki, SerialNumber: serial})
	if got != "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE" {
		t.Errorf("certID = %s", got)
	}
	if got := certID(&stdx509.Certificate{SerialNumber: serial}); got != "" {
		t.Errorf("without an authority key: %s", got)
	}
}

func TestRenewalByARI(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	ctx, c := t.Context(), w.client()
	cert := w.issue(c, newCSR(t, "", "a.example.com"), nil)
	now := time.Now().Truncate(time.Second)
	set := func(start, end time.Time) {
		t.Helper()
		if err := w.SetRenewalInfo(ctx, cert.PEM, acmetest.RenewalInfo(start, end)); err != nil {
			t.Fatal(err)
		}
	}

	set(now.Add(10*day), now.Add(12*day))
	r := must(c.Renewal(ctx, cert, RenewalOptions{RenewBefore: 89 * day}))(t)
	if r.Due || r.Source != "ari" || r.At.Before(now.Add(10*day)) || r.At.After(now.Add(12*day)) || !r.WindowStart.Equal(now.Add(10*day)) {
		t.Errorf("got %+v", r)
	}
	if r.LookAgain.Sub(now) < 5*time.Hour {
		t.Errorf("look again at %v", r.LookAgain)
	}
	if again := must(w.client().Renewal(ctx, cert, RenewalOptions{}))(t); !again.At.Equal(r.At) {
		t.Errorf("the instant moves: %v, %v", r.At, again.At)
	}

	set(now.Add(-2*day), now.Add(-day))
	if r := must(c.Renewal(ctx, cert, RenewalOptions{}))(t); r.Due || r.Source != "ari" || !r.At.Equal(cert.NotBefore.Add(youngest)) {
		t.Errorf("a window before its issue: %+v", r)
	}
	w.opts.Clock = clockwork.NewFakeClockAt(now.Add(2 * day))
	c = w.client()
	if r := must(c.Renewal(ctx, cert, RenewalOptions{}))(t); !r.Due || r.Source != "ari" {
		t.Errorf("a window in the past: %+v", r)
	}
	set(now.Add(89*day), now.Add(120*day))
	if r := must(c.Renewal(ctx, cert, RenewalOptions{}))(t); r.Due || cert.NotAfter.Sub(r.At) < 8*day {
		t.Errorf("a window beyond the end: %+v", r)
	}
	if r := must(c.Renewal(ctx, cert, RenewalOptions{Names: []string{"A.example.com"}}))(t); r.Due {
		t.Errorf("names in another case: %+v", r)
	}
	if r := must(c.Renewal(ctx, cert, RenewalOptions{Names: []string{"a.example.com", "b.example.com"}}))(t); !r.Due || r.Source != "certificate" {
		t.Errorf("other names: %+v", r)
	}
}

func TestRenewalWithoutARI(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	ctx := t.Context()
	cert := w.issue(w.client(), newCSR(t, "", "a.example.com"), nil)
	for name, body := range map[string]string{
		"malformed": `{"suggestedWindow":`, "zero window": `{}`,
		"turned round": acmetest.RenewalInfo(time.Now().Add(day), time.Now()),
	} {
		if err := w.SetRenewalInfo(ctx, cert.PEM, body); err != nil {
			t.Fatal(err)
		}
		w.opts.Store = accountStore(t) // or it would not be asked again
		r := must(w.client().Renewal(ctx, cert, RenewalOptions{}))(t)
		if r.Due || r.Source != "lifetime" || r.ARIError == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for _, f := range []faults.Fault{
		{Call: "acme.renewal-info", Kind: faults.Status, Code: 503},
		{Call: "acme.renewal-info", Kind: faults.Status, Code: 404},
		{Call: "acme.directory", Kind: faults.Status, Code: 500},
	} {
		w.faults.Clear()
		w.fault(f)
		w.opts.Store = accountStore(t)
		r := must(w.client().Renewal(ctx, cert, RenewalOptions{RenewBefore: 30 * day}))(t)
		if r.Due || r.Source != "renew_before" || !r.At.Equal(cert.NotAfter.Add(-30*day)) || r.ARIError == "" {
			t.Errorf("%s %d: %+v", f.Call, f.Code, r)
		}
	}
}

// No answer but a window says anything about a certificate, however old it is.
func TestRenewalWhateverARIAnswers(t *testing.T) {
	const document = `{"type":"urn:ietf:params:acme:error:malformed","detail":"no"}`
	page := `<!DOCTYPE html><html><body>Sign in to the network</body></html>`
	for name, f := range map[string]faults.Fault{
		"404":              {Kind: faults.Status, Code: 404},
		"404 and document": {Kind: faults.Status, Code: 404, Body: document},
		"400":              {Kind: faults.Status, Code: 400},
		"400 and document": {Kind: faults.Status, Code: 400, Body: document},
		"403":              {Kind: faults.Status, Code: 403},
		"HTML page":        {Kind: faults.Status, Code: 200, Body: page},
		"HTML page, 404":   {Kind: faults.Status, Code: 404, Body: page},
		"reset":            {Kind: faults.Reset},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestCA(t, acmetest.Options{})
			cert := w.issue(w.client(), newCSR(t, "", "a.example.com"), nil)
			f.Call, f.Times = "acme.renewal-info", -1
			w.fault(f)
			notDueByItself(t, w, cert)
		})
	}
	t.Run("connection refused", func(t *testing.T) {
		w := newTestCA(t, acmetest.Options{})
		cert := w.issue(w.client(), newCSR(t, "", "a.example.com"), nil)
		w.opts.Dial = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		notDueByItself(t, w, cert)
	})
}

// notDueByItself checks that a certificate which is 40 days old, and was issued for
// more than 80, stays until its own rule says otherwise.
func notDueByItself(t *testing.T, w *testCA, cert *x509.Certificate) {
	t.Helper()
	now := cert.NotBefore.Add(40 * day)
	w.opts.Clock = clockwork.NewFakeClockAt(now)
	r := must(w.client().Renewal(t.Context(), cert, RenewalOptions{}))(t)
	if r.Due || r.Source != "lifetime" || r.ARIError == "" || !r.LookAgain.Equal(now.Add(6*time.Hour)) {
		t.Errorf("by its lifetime: %+v", r)
	}
	r = must(w.client().Renewal(t.Context(), cert, RenewalOptions{RenewBefore: 30 * day}))(t)
	if r.Due || r.Source != "renew_before" || r.ARIError == "" {
		t.Errorf("by renew_before: %+v", r)
	}
}

func TestRenewalOfWhatCannotStay(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	other := newTestCA(t, acmetest.Options{})
	ctx := t.Context()
	foreign := other.issue(other.client(), newCSR(t, "", "a.example.com"), nil)
	self := must(x509.Parse(w.RootPEM()))(t)
	for name, cert := range map[string]*x509.Certificate{"no certificate": nil, "self-signed": self} {
		if r := must(w.client().Renewal(ctx, cert, RenewalOptions{}))(t); !r.Due || !strings.Contains(r.Reason, name) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	w.opts.Clock = clockwork.NewFakeClockAt(time.Now().Add(2 * day))
	if r := must(w.client().Renewal(ctx, foreign, RenewalOptions{}))(t); r.Due || r.Source != "lifetime" || r.ARIError == "" {
		t.Errorf("a certificate that the CA does not know: %+v", r)
	}
	w.opts.Clock = clockwork.NewFakeClockAt(foreign.NotAfter)
	if r := must(w.client().Renewal(ctx, foreign, RenewalOptions{}))(t); !r.Due || !strings.Contains(r.Reason, "expired") {
		t.Errorf("an expired certificate: %+v", r)
	}
}

func TestOwnRule(t *testing.T) {
	from := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		life, before, want time.Duration
		source             string
	}{
		{90 * day, 0, 60 * day, "lifetime"},
		{45 * day, 0, 30 * day, "lifetime"},
		{160 * time.Hour, 0, 80 * time.Hour, "lifetime"},
		{90 * day, 30 * day, 60 * day, "renew_before"},
		{90 * day, 7 * day, 83 * day, "renew_before"},
		{160 * time.Hour, 30 * day, 80 * time.Hour, "lifetime"}, // it would always be due
	} {
		r := ownRule(&stdx509.Certificate{NotBefore: from, NotAfter: from.Add(tc.life)}, RenewalOptions{RenewBefore: tc.before})
		if got := r.At.Sub(from); got != tc.want || r.Source != tc.source || r.Reason == "" {
			t.Errorf("%v before %v: after %v by %s (%s)", tc.life, tc.before, got, r.Source, r.Reason)
		}
	}
}

func TestReplaces(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	ctx, c := t.Context(), w.client()
	csr := newCSR(t, "", "a.example.com")
	cert := w.issue(c, csr, nil)
	acct := must(c.Account(ctx))(t)
	order := func(old *x509.Certificate) *Order {
		t.Helper()
		return must(w.client().Order(ctx, acct, OrderRequest{CSR: csr, Replaces: old}))(t)
	}
	leaf := must(cert.Leaf())(t)
	if o := order(cert); o.Replaces != certID(leaf) {
		t.Errorf("replaces = %q", o.Replaces)
	}
	w.issue(c, newCSR(t, "", "a.example.com"), cert)
	// Replaced already: ordered without.
	if o := order(cert); o.Replaces != "" {
		t.Errorf("a second replacement: %+v", o)
	}
	other := newTestCA(t, acmetest.Options{})
	foreign := other.issue(other.client(), newCSR(t, "", "a.example.com"), nil)
	for name, old := range map[string]*x509.Certificate{"foreign": foreign, "self-signed": must(x509.Parse(w.RootPEM()))(t)} {
		w.requests("")
		if o := order(old); o.Replaces != "" {
			t.Errorf("%s: %+v", name, o)
		}
		if n := len(w.requests("POST order-plz")); n != 1 {
			t.Errorf("%s: ordered %d times", name, n)
		}
	}
	// Another account's certificate: the CA refuses, and the order goes without.
	w.spec.Email = "other@example.com"
	acct = must(w.client().Account(ctx))(t)
	if o := order(w.issue(c, newCSR(t, "", "a.example.com"), nil)); o.Replaces != "" {
		t.Errorf("another account's: %+v", o)
	}
}

package acme

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/faults"
	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// persist does a step until it succeeds, each time in a fresh process, as long as its
// error is temporary. Each try has twice the time of the one before: on a busy machine
// the first may be too short for any answer.
func persist[T any](t *testing.T, w *testCA, step func(*Client) (T, error)) (T, []*problem.Error) {
	t.Helper()
	var errs []*problem.Error
	for range 6 {
		v, err := step(w.client())
		if err == nil {
			return v, errs
		}
		p := problem.From(err)
		if !p.Kind.Retryable() {
			t.Fatalf("%v (%s) is not temporary", err, p.Kind)
		}
		errs = append(errs, p)
		w.opts.Timeout *= 2
	}
	t.Fatalf("never succeeds: %v", errs[len(errs)-1])
	return *new(T), nil
}

func TestEveryCallMayFailOnceOrThreeTimes(t *testing.T) {
	if os.Getenv("MOONSEAL_TEST") == "raced" {
		t.Skip("long, and in one goroutine: make test runs it without the race detector")
	}
	calls := []string{
		"acme.directory", "acme.new-nonce", "acme.new-account", "acme.new-order", "acme.authorization",
		"acme.challenge", "acme.order", "acme.finalize", "acme.certificate",
	}
	kinds := map[string]faults.Fault{
		"429":      {Kind: faults.Status, Code: 429},
		"503":      {Kind: faults.Status, Code: 503},
		"500":      {Kind: faults.Status, Code: 500},
		"html 502": {Kind: faults.Status, Code: 502, Body: "<html>bad gateway</html>"},
		"reset":    {Kind: faults.Reset},
		"lost":     {Kind: faults.Lost},
		"truncate": {Kind: faults.Truncate},
		"timeout":  {Kind: faults.Timeout},
	}
	w := newTestCA(t, acmetest.Options{})
	for name, fault := range kinds {
		for _, call := range calls {
			for _, times := range []int{1, 3} {
				t.Run(name+" "+call, func(t *testing.T) {
					w := &testCA{CA: w.CA, t: t, faults: w.faults, store: w.store, spec: w.spec, opts: w.opts}
					if call == "acme.new-account" { // the others use the account that is there
						w.spec.Email = strings.ReplaceAll(name, " ", "") + string(rune('0'+times)) + "@example.com"
					}
					w.opts.Timeout = 2 * time.Second
					if fault.Kind == faults.Timeout {
						w.opts.Timeout = 50 * time.Millisecond
					}
					f := fault
					f.Call, f.Times = call, times
					w.faults.Clear()
					w.fault(f)
					renewUnderFaults(t, w)
				})
			}
		}
	}
}

func renewUnderFaults(t *testing.T, w *testCA) {
	t.Helper()
	ctx := t.Context()
	before := len(w.ledger().Certificates)
	csr := newCSR(t, "", "a.example.com", "b.example.com")
	acct, e1 := persist(t, w, func(c *Client) (*Account, error) { return c.Account(ctx) })
	order, e2 := persist(t, w, func(c *Client) (*Order, error) { return c.Order(ctx, acct, OrderRequest{CSR: csr}) })
	_, e3 := persist(t, w, func(c *Client) (*Order, error) { return c.Validate(ctx, acct, order) })
	cert, e4 := persist(t, w, func(c *Client) (*x509.Certificate, error) { return c.Finalize(ctx, acct, order, csr) })
	if err := cert.Fits(csr); err != nil {
		t.Error(err)
	}
	if n := len(w.ledger().Certificates) - before; n != 1 {
		t.Errorf("%d certificates were issued", n)
	}
	for _, errs := range [][]*problem.Error{e1, e2, e3, e4} {
		for _, e := range errs {
			if e.Target == "" || e.Message == "" {
				t.Errorf("an error says too little: %+v", e)
			}
		}
	}
}

func TestWorkIsKnownWhereItCanBe(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	ctx, csr := t.Context(), newCSR(t, "", "a.example.com")
	acct := must(w.client().Account(ctx))(t)
	for _, tc := range []struct {
		fault faults.Fault
		work  problem.Work
	}{
		{faults.Fault{Call: "acme.directory", Kind: faults.Status, Code: 500}, problem.NotDone},
		{faults.Fault{Call: "acme.new-nonce", Kind: faults.Status, Code: 500}, problem.NotDone},
		{faults.Fault{Call: "acme.new-order", Kind: faults.Status, Code: 500}, problem.Unknown},
		{faults.Fault{Call: "acme.new-order", Kind: faults.Lost}, problem.Unknown},
		{faults.Fault{Call: "acme.new-order", Kind: faults.Status, Code: 429}, problem.NotDone},
	} {
		w.faults.Clear()
		w.fault(tc.fault)
		_, err := w.client().Order(ctx, acct, OrderRequest{CSR: csr})
		if p := problem.From(err); p == nil || p.Happened() != tc.work {
			t.Errorf("%s %s %d: %v is %v, want %v", tc.fault.Call, tc.fault.Kind, tc.fault.Code, err, p.Happened(), tc.work)
		}
	}
	w.opts.Dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: net.UnknownNetworkError("refused")}
	}
	_, err := w.client().Order(ctx, acct, OrderRequest{CSR: csr})
	if p := wantKind(t, err, problem.Unavailable, "connect"); p.Happened() != problem.NotDone {
		t.Errorf("never connected, and yet %v", p.Happened())
	}
}

func TestRateLimit(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	ctx := t.Context()
	acct := must(w.client().Account(ctx))(t)
	w.fault(faults.Fault{
		Call: "acme.new-order", Kind: faults.Status, Code: 429, Header: map[string]string{"Retry-After": "3600"},
		Body: `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates already issued for \"example.com\""}`,
	})
	start := time.Now()
	_, err := w.client().Order(ctx, acct, OrderRequest{CSR: newCSR(t, "", "a.example.com")})
	p := wantKind(t, err, problem.RateLimited, "too many certificates", "rateLimited")
	if wait := p.RetryAfter.Sub(start); wait < 3599*time.Second || wait > 3605*time.Second {
		t.Errorf("RetryAfter is %v away", wait)
	}
	if n := len(w.requests("POST order-plz")); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestProblemTypes(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	ctx := t.Context()
	acct := must(w.client().Account(ctx))(t)
	for _, tc := range []struct {
		code int
		body string
		kind problem.Kind
		say  []string
	}{
		{403, `{"type":"urn:ietf:params:acme:error:unauthorized","detail":"account is deactivated"}`, problem.Auth, []string{"deactivated"}},
		{403, `{"type":"urn:ietf:params:acme:error:caa","detail":"CAA record forbids"}`, problem.Refused, []string{"CAA record"}},
		{400, `{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"no","subproblems":[{"type":"urn:ietf:params:acme:error:malformed","detail":"bad label","identifier":{"type":"dns","value":"a.example.com"}}]}`, problem.Refused, []string{"a.example.com: bad label"}},
		{403, `{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"terms changed","instance":"https://ca.example/tos"}`, problem.Auth, []string{"https://ca.example/tos"}},
		{403, `{"type":"urn:ietf:params:acme:error:externalAccountRequired","detail":"EAB"}`, problem.Auth, []string{"eab"}},
		{403, `{"type":"urn:ietf:params:acme:error:compound","detail":"several","subproblems":[{"type":"urn:ietf:params:acme:error:serverInternal","detail":"busy"},{"type":"urn:ietf:params:acme:error:caa","detail":"forbidden","identifier":{"type":"dns","value":"a.example.com"}}]}`, problem.Refused, []string{"a.example.com: forbidden", "CAA record of the domain"}},
		{403, `{"type":"urn:ietf:params:acme:error:compound","detail":"several","subproblems":[{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"},{"type":"x"}]}`, problem.RateLimited, []string{"too many"}},
		{403, `{"type":"urn:ietf:params:acme:error:compound","detail":"several"}`, problem.Auth, []string{"several"}},
		{503, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"service busy"}`, problem.RateLimited, []string{"busy"}},
		{500, `{"type":"urn:ietf:params:acme:error:serverInternal","detail":"oops"}`, problem.Unavailable, []string{"oops"}},
		{403, `<html>blocked by proxy</html>`, problem.Auth, []string{"blocked by proxy", "proxy in between"}},
		{400, `{"detail":"no type"}`, problem.Refused, []string{"no type"}},
		{200, `not json`, problem.Unavailable, []string{"is malformed"}},
		{201, `{"status":"pending","identifiers":[{"type":"dns","value":"other.example.com"}]}`, problem.Unavailable, []string{"identifiers"}},
		{400, strings.Repeat("x", maxAnswer+1), problem.Refused, []string{"bytes"}},
	} {
		w.faults.Clear()
		w.fault(faults.Fault{Call: "acme.new-order", Kind: faults.Status, Code: tc.code, Body: tc.body})
		_, err := w.client().Order(ctx, acct, OrderRequest{CSR: newCSR(t, "", "a.example.com")})
		wantKind(t, err, tc.kind, tc.say...)
	}
}

func TestLostAnswersAreFoundAgain(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	ctx, c := t.Context(), w.client()
	csr := newCSR(t, "", "a.example.com")
	acct := must(c.Account(ctx))(t)
	order := must(c.Order(ctx, acct, OrderRequest{CSR: csr}))(t)
	w.fault(faults.Fault{Call: "acme.challenge", Kind: faults.Lost})
	_, err := c.Validate(ctx, acct, order)
	if p := problem.From(err); p == nil || p.Happened() != problem.Unknown {
		t.Fatalf("a lost answer to a challenge: %v", err)
	}
	must(c.Validate(ctx, acct, order))(t)
	w.requests("")
	w.fault(faults.Fault{Call: "acme.finalize", Kind: faults.Lost})
	_, err = c.Finalize(ctx, acct, order, csr)
	if p := problem.From(err); p == nil || p.Happened() != problem.Unknown {
		t.Fatalf("a lost answer to finalize: %v", err)
	}
	cert := must(c.Finalized(ctx, acct, order, csr))(t)
	if cert == nil {
		t.Fatal("the probe does not find the certificate")
	}
	if n := len(w.requests("POST finalize-order")); n != 1 {
		t.Errorf("finalized %d times", n)
	}
}

func TestAnOrderThatIsGone(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	ctx, csr := t.Context(), newCSR(t, "", "a.example.com")
	acct := must(w.client().Account(ctx))(t)
	order := must(w.client().Order(ctx, acct, OrderRequest{CSR: csr}))(t)
	for name, body := range map[string]string{
		"invalid": `{"status":"invalid","identifiers":[{"type":"dns","value":"a.example.com"}],"authorizations":[]}`,
		"expired": `{"status":"ready","expires":"2020-01-01T00:00:00Z","identifiers":[{"type":"dns","value":"a.example.com"}]}`,
		"":        `{"type":"urn:ietf:params:acme:error:malformed","detail":"No order for ID 1"}`,
	} {
		code := 200
		if name == "" {
			code = 404
		}
		w.opts.Clock = newQuick()
		w.faults.Clear()
		w.fault(faults.Fault{Call: "acme.order", Kind: faults.Status, Code: code, Body: body, Times: -1})
		_, err := w.client().Validate(ctx, acct, order)
		wantKind(t, err, problem.OrderGone, name)
		_, err = w.client().Finalize(ctx, acct, order, csr)
		wantKind(t, err, problem.OrderGone, name)
	}
}

func TestOnlyHTTPSAndOnlyDirectories(t *testing.T) {
	for _, directory := range []string{"http://ca.example/dir", "letsencrpt", "ftp://x", "https://", "https://user:pw@ca.example/"} {
		_, err := New(CA{Directory: directory}, Options{})
		wantKind(t, err, problem.Usage, "letsencrypt-staging")
	}
	w := newTestCA(t, acmetest.Options{})
	w.fault(faults.Fault{Call: "acme.directory", Kind: faults.Status, Code: 200, Body: `{"hello":"world"}`})
	_, err := w.client().Account(t.Context())
	wantKind(t, err, problem.Refused, "not an ACME directory")
	w.opts.RootCAs = nil
	_, err = w.client().Account(t.Context())
	wantKind(t, err, problem.Untrusted, "unknown authority")
	w.spec.TrustedRoots = w.CAPEM()
	must(w.client().Account(t.Context()))(t)
}

func TestDeadline(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	w.fault(faults.Fault{Call: "acme.new-account", Kind: faults.Timeout})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := w.client().Account(ctx)
	wantKind(t, err, problem.Timeout)
}

package acme

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

func TestIssueWithAFreshProcessForEachStep(t *testing.T) {
	zone := newZone(t)
	w := newTestCA(t, acmetest.Options{DNSAddr: zone.addr, ChainLength: 3})
	ctx := t.Context()
	csr := newCSR(t, "cucm01.example.com", "example.com", "cucm01.example.com", "*.example.com")

	acct := must(w.client().Account(ctx))(t)
	order := must(w.client().Order(ctx, acct, OrderRequest{CSR: csr}))(t)
	if order.Status != "pending" || order.Profile != "classic" || !slices.Equal(order.Names, csr.Names) || order.Expires.IsZero() {
		t.Fatalf("got %+v", order)
	}
	if got, want := names(order.Challenges), []string{"_acme-challenge.cucm01.example.com.", "_acme-challenge.example.com.", "_acme-challenge.example.com."}; !slices.Equal(got, want) {
		t.Fatalf("challenges for %v, want %v", got, want)
	}
	again := must(w.client().Get(ctx, acct, order.URL))(t)
	if !slices.Equal(again.Challenges, order.Challenges) {
		t.Error("the order that was taken up again has other challenges")
	}
	if o, err := w.client().Validated(ctx, acct, order); o != nil || err != nil {
		t.Errorf("Validated before = %v, %v", o, err)
	}
	zone.publish(order.Challenges...)
	if o := must(w.client().Validate(ctx, acct, order))(t); o.Status != "ready" || len(o.Challenges) != 0 {
		t.Errorf("after validation: %+v", o)
	}
	if o, err := w.client().Validated(ctx, acct, order); o == nil || err != nil {
		t.Errorf("Validated after = %v, %v", o, err)
	}
	if cert, err := w.client().Finalized(ctx, acct, order, csr); cert != nil || err != nil {
		t.Errorf("Finalized before = %v, %v", cert, err)
	}
	cert := must(w.client().Finalize(ctx, acct, order, csr))(t)
	if err := cert.Fits(csr); err != nil {
		t.Error(err)
	}
	if len(cert.Intermediates) != 3 || cert.Root != w.RootPEM() {
		t.Errorf("%d intermediates, root found: %v", len(cert.Intermediates), cert.Root == w.RootPEM())
	}
	for name, get := range map[string]func() (*x509.Certificate, error){
		"Finalized": func() (*x509.Certificate, error) { return w.client().Finalized(ctx, acct, order, csr) },
		"Finalize":  func() (*x509.Certificate, error) { return w.client().Finalize(ctx, acct, order, csr) },
	} {
		if got := must(get())(t); got.SHA256 != cert.SHA256 {
			t.Errorf("%s once more returns another certificate", name)
		}
	}
	if must(w.client().Validate(ctx, acct, order))(t).Status != "valid" {
		t.Error("validating once more does not find the order valid")
	}
	if l := w.ledger(); len(l.Certificates) != 1 || len(l.Orders) != 1 {
		t.Errorf("%d certificates of %d orders", len(l.Certificates), len(l.Orders))
	}
}

func TestNoMoreRequestsThanTheProtocolNeeds(t *testing.T) {
	w := newTestCA(t, acmetest.Options{AuthzReuse: 100})
	c := w.client()
	acct := must(c.Account(t.Context()))(t)
	if got := w.requests(""); !slices.Equal(got, []string{"GET dir", "HEAD nonce-plz", "POST sign-me-up"}) {
		t.Errorf("registering: %v", got)
	}
	fresh := newCSR(t, "", "a.example.com")
	w.issue(c, fresh, nil)
	got := w.requests("")
	// How often the CA is asked for its decision depends on how fast it decides.
	if once := slices.Compact(slices.Clone(got)); !slices.Equal(once, []string{"POST order-plz", "POST authZ", "POST chalZ", "POST authZ", "POST finalize-order", "POST my-order", "POST certZ"}) {
		t.Errorf("fresh: %v", got)
	}
	w.issue(c, newCSR(t, "", "a.example.com"), nil)
	got = w.requests("")
	if once := slices.Compact(slices.Clone(got)); !slices.Equal(once, []string{"POST order-plz", "POST finalize-order", "POST my-order", "POST certZ"}) {
		t.Errorf("reused: %v", got)
	}
	c2 := w.client()
	if again := must(c2.Account(t.Context()))(t); again.URL != acct.URL || len(w.requests("")) != 0 {
		t.Error("an account whose URL is stored costs a request")
	}
}

func TestConcurrentUse(t *testing.T) {
	w := newTestCA(t, acmetest.Options{NonceReject: 10})
	c := w.client()
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			ctx, csr := t.Context(), newCSR(t, "", strings.Repeat("x", i+1)+".example.com")
			acct, err := c.Account(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			order, err := c.Order(ctx, acct, OrderRequest{CSR: csr})
			if err == nil {
				_, err = c.Validate(ctx, acct, order)
			}
			if err == nil {
				_, err = c.Finalize(ctx, acct, order, csr)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(w.ledger().Certificates); n != 16 {
		t.Errorf("%d certificates", n)
	}
}

func TestRejectedNonces(t *testing.T) {
	w := newTestCA(t, acmetest.Options{NonceReject: 50})
	w.issue(w.client(), newCSR(t, "", "a.example.com"), nil)
}

func TestAllNoncesRejected(t *testing.T) {
	w := newTestCA(t, acmetest.Options{NonceReject: 100}) // 99 %
	_, err := w.client().Account(t.Context())
	if err == nil {
		t.Skip("the CA took one of them")
	}
	wantKind(t, err, problem.Unavailable, "nonces")
}

func TestInvalidAuthorization(t *testing.T) {
	zone := newZone(t)
	w := newTestCA(t, acmetest.Options{DNSAddr: zone.addr})
	ctx, c := t.Context(), w.client()
	csr := newCSR(t, "", "good.example.com", "bad.example.com")
	acct := must(c.Account(ctx))(t)
	for name, cl := range map[string]*Client{"same process": c, "fresh process": w.client()} {
		order := must(c.Order(ctx, acct, OrderRequest{CSR: csr}))(t)
		for _, ch := range order.Challenges {
			if ch.Identifier == "bad.example.com" {
				ch.Value = "something-else"
			}
			zone.publish(ch)
		}
		_, err := cl.Validate(ctx, acct, order)
		p := wantKind(t, err, problem.Refused, "bad.example.com", "unauthorized")
		if p.Target != "bad.example.com" || !isType(err, "unauthorized") {
			t.Errorf("%s: %+v", name, p)
		}
		_, err = w.client().Validate(ctx, acct, order)
		wantKind(t, err, problem.Refused, "bad.example.com")
		_, err = w.client().Finalize(ctx, acct, order, csr)
		wantKind(t, err, problem.Refused, "bad.example.com")
		again, err := w.client().Get(ctx, acct, order.URL)
		if err != nil || again.Status != "invalid" || len(again.Problems) == 0 {
			t.Errorf("%s: Get of the failed order = %+v, %v", name, again, err)
		}
	}
	// One name alone is polled by its authorization.
	order := must(c.Order(ctx, acct, OrderRequest{CSR: newCSR(t, "", "alone.example.com")}))(t)
	_, err := c.Validate(ctx, acct, order)
	wantKind(t, err, problem.Refused, "alone.example.com")
}

func TestCheckCSR(t *testing.T) {
	for _, tc := range []struct {
		cn    string
		names []string
		words string // "" means good
	}{
		{"cucm01.example.com", []string{"cucm01.example.com"}, ""},
		{"CUCM01.Example.com", []string{"cucm01.example.com"}, ""},
		{"", []string{"a.example.com"}, ""},
		{"cucm01-ms.example.com", []string{"cucm01.example.com"}, "-ms"},
		{"cucm01.example.com", nil, "SAN"},
	} {
		err := CheckCSR(newCSR(t, tc.cn, tc.names...))
		if tc.words == "" && err != nil {
			t.Errorf("%+v: %v", tc, err)
		}
		if tc.words != "" {
			wantKind(t, err, problem.Mismatch, tc.words)
		}
	}
	wantKind(t, CheckCSR(nil), problem.Usage)
}

func TestFinalizeRefusesWhatDoesNotBelongTogether(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	w.opts.Clock = newQuick()
	ctx, c := t.Context(), w.client()
	csr := newCSR(t, "", "a.example.com")
	acct := must(c.Account(ctx))(t)
	order := must(c.Order(ctx, acct, OrderRequest{CSR: csr}))(t)
	_, err := c.Finalize(ctx, acct, order, csr)
	wantKind(t, err, problem.Conflict, "validate")
	must(c.Validate(ctx, acct, order))(t)
	_, err = c.Finalize(ctx, acct, order, newCSR(t, "", "b.example.com"))
	wantKind(t, err, problem.Mismatch, "a.example.com", "b.example.com")
	must(c.Finalize(ctx, acct, order, csr))(t)
	// Another key for the same names: the certificate is not for it.
	_, err = w.client().Finalize(ctx, acct, order, newCSR(t, "", "a.example.com"))
	wantKind(t, err, problem.Mismatch, "key")
}

func TestChains(t *testing.T) {
	w := newTestCA(t, acmetest.Options{AlternateRoots: 2})
	for i, rootPEM := range w.RootPEMs() {
		root := must(x509.Parse(rootPEM))(t)
		w.spec.PreferredChain = root.Subject
		cert := w.issue(w.client(), newCSR(t, "", "a.example.com"), nil)
		if cert.Root != rootPEM {
			t.Errorf("chain %d does not end in the root that was preferred", i)
		}
		if i == 0 && len(w.requests("POST certZ")) != 1 {
			t.Error("the first chain was the preferred one, and yet others were asked for")
		}
	}
	w.spec.PreferredChain = "no such root"
	if cert := w.issue(w.client(), newCSR(t, "", "a.example.com"), nil); cert.Root != w.RootPEM() {
		t.Error("without the preferred root the CA's first chain is taken")
	}
	w.spec.PreferredChain, w.spec.Roots = "", ""
	if cert := w.issue(w.client(), newCSR(t, "", "a.example.com"), nil); cert.Root != "" || len(cert.Intermediates) != 1 {
		t.Error("a root without a source")
	}
}

func TestFitting(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	c, csr := w.client(), newCSR(t, "", "a.example.com")
	cert := w.issue(c, csr, nil)
	got := must(c.Fitting(csr, cert.PEM, cert.ChainPEM()))(t)
	if got == nil || got.SHA256 != cert.SHA256 || got.Root != cert.Root || !slices.Equal(got.Intermediates, cert.Intermediates) {
		t.Errorf("got %+v", got)
	}
	if got := must(c.Fitting(newCSR(t, "", "a.example.com"), cert.PEM, cert.ChainPEM()))(t); got != nil {
		t.Error("a certificate for another key fits")
	}
	other := must(c.Fitting(csr, cert.PEM, strings.Replace(cert.ChainPEM(), cert.PEM, newIssuer(t, "Another").issue(time.Now(), 90*day).PEM, 1)))(t)
	if other != nil {
		t.Error("the chain of another certificate fits")
	}
	if got := must(c.Fitting(csr, "", ""))(t); got != nil {
		t.Error("nothing fits")
	}
	if _, err := c.Fitting(csr, "junk", ""); err == nil {
		t.Error("junk is taken")
	}
}

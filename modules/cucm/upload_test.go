package cucm

import (
	"context"
	stdx509 "crypto/x509"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// Each check fails with its own words, in its order, before a byte is sent.
func TestChecksBeforeAnUpload(t *testing.T) {
	w := newTestCluster(t)
	c := w.client(t, pub)
	csr, err := c.GenerateCSR(t.Context(), CSRRequest{KeyType: "ec", AltNames: []string{"voice.automate.builders"}})
	if err != nil {
		t.Fatal(err)
	}
	other, err := w.client(t, sub).GenerateCSR(t.Context(), CSRRequest{KeyType: "ec"})
	if err != nil {
		t.Fatal(err)
	}
	stranger := newAuthority(t)
	good := w.ca.issue(t, csr, nil)
	with := func(change func(*x509.Certificate)) *x509.Certificate {
		cert := *good
		cert.Intermediates = slices.Clone(good.Intermediates)
		change(&cert)
		return &cert
	}
	for name, tc := range map[string]struct {
		cert  *x509.Certificate
		kind  problem.Kind
		words []string
	}{
		"no certificate": {with(func(c *x509.Certificate) { c.PEM = "hello" }), problem.Refused, nil},
		"expired": {w.ca.issue(t, csr, func(c *stdx509.Certificate) {
			c.NotAfter, c.DNSNames = time.Now().Add(-time.Minute), []string{"*.x"} // dates come before names
		}), problem.Mismatch, []string{"expired on"}},
		"not yet valid":  {w.ca.issue(t, csr, func(c *stdx509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), problem.Mismatch, []string{"not valid before"}},
		"wildcard":       {w.ca.issue(t, csr, func(c *stdx509.Certificate) { c.DNSNames = []string{"*.automate.builders"} }), problem.Mismatch, []string{"wildcard"}},
		"wildcard in CN": {w.ca.issue(t, csr, func(c *stdx509.Certificate) { c.Subject.CommonName = "*.automate.builders" }), problem.Mismatch, []string{"wildcard"}},
		"other key":      {w.ca.issue(t, other, nil), problem.Mismatch, []string{"key is not the signing request's", "another CSR was generated"}},
		"a name less":    {w.ca.issue(t, csr, func(c *stdx509.Certificate) { c.DNSNames = []string{pub} }), problem.Mismatch, []string{"names", "voice", "exactly the names"}},
		"a name more": {w.ca.issue(t, csr, func(c *stdx509.Certificate) {
			c.DNSNames = append(slices.Clone(c.DNSNames), "cucm01-ms.automate.builders")
		}), problem.Mismatch, []string{"names", "cucm01-ms"}},
		"no intermediate": {with(func(c *x509.Certificate) { c.Intermediates = nil }), problem.Mismatch, []string{"chain is broken"}},
		"other issuer":    {with(func(c *x509.Certificate) { c.Intermediates = []string{x509.Encode(stranger.inter)} }), problem.Mismatch, []string{"chain is broken"}},
		"other root":      {with(func(c *x509.Certificate) { c.Root = x509.Encode(stranger.root) }), problem.Mismatch, []string{"chain is broken"}},
		"no root":         {with(func(c *x509.Certificate) { c.Root = "" }), problem.Mismatch, []string{"root is not known"}},
		"unreadable root": {with(func(c *x509.Certificate) { c.Root = "x" }), problem.Mismatch, []string{"root cannot be read"}},
	} {
		_, err := c.LookUpload(t.Context(), "tomcat", tc.cert)
		if p := problem.From(err); p.Kind != tc.kind {
			t.Errorf("%s: got %v, want kind %s", name, err, tc.kind)
			continue
		}
		p := wantProblem(t, err, tc.kind, append(tc.words, pub)...)
		if p.Happened() != problem.NotDone {
			t.Errorf("%s: work is %s", name, p.Happened())
		}
	}
	if a, r := uploads(w, cucmtest.IdentityUpload); a+r != 0 {
		t.Error("something was uploaded")
	}
	if a, r := uploads(w, cucmtest.TrustUpload); a+r != 0 {
		t.Error("something was uploaded to the trust store")
	}

	// Order and case of names don't count; with clientAuth there is no warning.
	fine := w.ca.issue(t, csr, func(c *stdx509.Certificate) {
		c.DNSNames = []string{"VOICE.automate.builders", pub}
		c.ExtKeyUsage = append(c.ExtKeyUsage, stdx509.ExtKeyUsageClientAuth)
	})
	if look, err := c.LookUpload(t.Context(), "tomcat", fine); err != nil || len(look.Warnings) != 0 {
		t.Errorf("a certificate that fits: %+v, %v", look, err)
	}
	// The root may be in the trust store instead.
	if err := w.Node(pub).AddTrust("tomcat", x509.Encode(w.ca.root)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.LookUpload(t.Context(), "tomcat", with(func(c *x509.Certificate) { c.Root = "" })); err != nil {
		t.Errorf("the trust store's root is not used: %v", err)
	}
	// A fresh CSR makes the certificate useless; an upload consumes it.
	_, err = w.client(t, pub).GenerateCSR(t.Context(), CSRRequest{Service: "ipsec"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.LookUpload(t.Context(), "tomcat", good); err != nil {
		t.Errorf("another service's CSR counts: %v", err)
	}
}

func TestUploadWithoutAPendingCSR(t *testing.T) {
	w := newTestCluster(t)
	c := w.client(t, pub)
	first := w.ready(t, c)
	if _, err := c.Upload(t.Context(), "tomcat", first); err != nil {
		t.Fatal(err)
	}
	second := w.ca.issue(t, mustCSR(t, w, sub), nil)
	_, err := c.LookUpload(t.Context(), "tomcat", second)
	wantProblem(t, err, problem.Mismatch, "no signing request is pending", "fresh CSR")
}

func mustCSR(t *testing.T, w *testCluster, host string) *x509.CSR {
	t.Helper()
	csr, err := w.client(t, host).GenerateCSR(t.Context(), CSRRequest{KeyType: "ec"})
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// What the trust store holds already is left alone.
func TestOnlyMissingIssuersAreUploaded(t *testing.T) {
	w := newTestCluster(t)
	c := w.client(t, pub)
	if err := w.Node(pub).AddTrust("tomcat", x509.Encode(w.ca.inter)); err != nil {
		t.Fatal(err)
	}
	cert := w.ready(t, c)
	done, err := c.Upload(t.Context(), "tomcat", cert)
	if err != nil || !slices.Equal(done.Trust, []string{"Test Root R1"}) {
		t.Fatalf("%+v, %v", done, err)
	}
	accepted, refused := uploads(w, cucmtest.TrustUpload)
	if accepted != 1 || refused != 0 {
		t.Errorf("%d trust uploads accepted, %d refused", accepted, refused)
	}
}

// One trust certificate for each common name, replaced only by a newer one.
func TestTrustStoreRule(t *testing.T) {
	w := newTestCluster(t)
	ca := w.ca
	named := func(key any, begin time.Duration, by *authority) *x509.Certificate {
		return x509.From(sign(t, caTemplate("Test Root R1", begin), by.root, key, by.rootKey))
	}
	other := newAuthority(t)
	root := x509.From(ca.root) // begins 48 h ago
	for name, tc := range map[string]struct {
		has    *x509.Certificate
		upload bool
		fails  bool
	}{
		"the very one":              {root, false, false},
		"cross-signed, older":       {named(ca.rootKey.Public(), -72*time.Hour, other), true, false},
		"cross-signed, newer":       {named(ca.rootKey.Public(), -time.Hour, other), false, false},
		"other key, older":          {named(newKey(t).Public(), -72*time.Hour, other), true, false},
		"other key, newer":          {named(newKey(t).Public(), -time.Hour, other), false, true},
		"other key, same beginning": {named(newKey(t).Public(), -48*time.Hour, other), false, true},
	} {
		if name == "other key, same beginning" {
			tc.has.NotBefore = root.NotBefore
		}
		got, err := w.client(t, pub).missing("tomcat", []*x509.Certificate{root}, []*x509.Certificate{tc.has})
		switch {
		case tc.fails:
			if p := problem.From(err); err == nil || p.Kind != problem.Conflict || !strings.Contains(p.Message, "silently keep") || !strings.Contains(p.Hint, "tomcat-trust") {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil || (len(got) == 1) != tc.upload:
			t.Errorf("%s: to upload %v, %v", name, got, err)
		}
	}
	// Through the client the conflict shows before anything is changed.
	c := w.client(t, pub)
	cert := w.ready(t, c)
	if err := w.Node(pub).AddTrust("tomcat", named(newKey(t).Public(), -time.Hour, other).PEM); err != nil {
		t.Fatal(err)
	}
	_, err := c.LookUpload(t.Context(), "tomcat", cert)
	wantProblem(t, err, problem.Conflict, "Test Root R1", pub)
}

// The appliance's refusals, each with its kind; its words are kept.
func TestRefusedUploads(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(*testCluster)
		answer  string
		code    int
		kind    problem.Kind
		work    problem.Work
		words   []string
	}{
		"clientAuth": {
			prepare: func(w *testCluster) { w.configure(t, func(b *cucmtest.Behavior) { b.EKU = cucmtest.EKUReject }) },
			kind:    problem.Refused, work: problem.NotDone, words: []string{"extended key usage clientAuth", "FN74345"},
		},
		"missing CA": {
			answer: `{"key":400,"messages":["CA certificate is not available in the trust-store"],"trackingId":"UC_1"}`, code: 400,
			kind: problem.Refused, work: problem.NotDone, words: []string{"UC_1", "trust store"},
		},
		"names": {
			answer: `{"key":400,"messages":["CSR SAN and Certificate SAN does not match"],"trackingId":"UC_2"}`, code: 400,
			kind: problem.Mismatch, work: problem.NotDone, words: []string{"UC_2", "exactly the names"},
		},
		"500 that may pass": {
			answer: `{"key":500,"messages":["Internal error"],"trackingId":"UC_3"}`, code: 500,
			kind: problem.Unavailable, work: problem.Unknown, words: []string{"Internal error", "fresh CSR"},
		},
		"500 with known words": {
			answer: `{"key":500,"messages":["CSR public key and certificate public key do not match"]}`, code: 500,
			kind: problem.Mismatch, work: problem.Unknown, words: []string{"do not match", "fresh CSR"},
		},
	} {
		w := newTestCluster(t)
		c := w.client(t, pub)
		cert := w.ready(t, c)
		if tc.prepare != nil {
			tc.prepare(w)
		}
		if tc.code != 0 {
			w.fault(t, faults.Fault{Call: cucmtest.CallUploadIdentity, Kind: faults.Status, Code: tc.code, Body: tc.answer})
		}
		_, err := c.Upload(t.Context(), "tomcat", cert)
		p := wantProblem(t, err, tc.kind, append(tc.words, "uploading the certificate for tomcat", pub)...)
		if p.Happened() != tc.work {
			t.Errorf("%s: work is %s", name, p.Happened())
		}
	}
}

// The CSR was used or replaced after the checks: the appliance answers 500.
func TestStaleCSR(t *testing.T) {
	w := newTestCluster(t)
	c := w.client(t, pub)
	cert := w.ready(t, c)
	if _, err := c.GenerateCSR(t.Context(), CSRRequest{KeyType: "ec"}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Upload(t.Context(), "tomcat", cert)
	if p := wantProblem(t, err, problem.Mismatch, "generate a fresh CSR"); p.Happened() != problem.Unknown {
		t.Error("the probe is not asked")
	}
	if _, happened, err := c.ProbeUpload(t.Context(), "tomcat", cert); happened || err != nil {
		t.Errorf("happened %v, %v", happened, err)
	}
	// The same from a release that says nothing.
	w.fault(t, faults.Fault{Call: cucmtest.CallUploadIdentity, Kind: faults.Status, Code: 500})
	_, err = c.Upload(t.Context(), "tomcat", cert)
	wantProblem(t, err, problem.Mismatch, "not pending any more", "empty body", "generate a fresh CSR")
}

func TestLostUpload(t *testing.T) {
	for _, tc := range []struct {
		kind     faults.Kind
		happened bool
	}{{faults.Lost, true}, {faults.Reset, false}} {
		w := newTestCluster(t)
		c := w.client(t, pub)
		cert := w.ready(t, c)
		w.fault(t, faults.Fault{Call: cucmtest.CallUploadIdentity, Kind: tc.kind})
		_, err := c.Upload(t.Context(), "tomcat", cert)
		if p := wantProblem(t, err, problem.Unavailable, pub); p.Happened() != problem.Unknown {
			t.Errorf("%s: work is %s", tc.kind, p.Happened())
		}
		done, happened, err := c.ProbeUpload(t.Context(), "tomcat", cert)
		if err != nil || happened != tc.happened || happened && done.SHA256 != cert.SHA256 {
			t.Errorf("%s: happened %v, %v", tc.kind, happened, err)
		}
	}
	// An answer of 200 that breaks off says enough.
	w := newTestCluster(t)
	c := w.client(t, pub)
	cert := w.ready(t, c)
	w.fault(t, faults.Fault{Call: cucmtest.CallUploadIdentity, Kind: faults.Truncate})
	if _, err := c.Upload(t.Context(), "tomcat", cert); err != nil {
		t.Error(err)
	}
}

// A trust upload whose answer was lost is not an identity that was uploaded,
// and going again finds it done.
func TestLostTrustUpload(t *testing.T) {
	w := newTestCluster(t)
	c := w.client(t, pub)
	cert := w.ready(t, c)
	w.fault(t, faults.Fault{Call: cucmtest.CallUploadTrust, Kind: faults.Lost})
	_, err := c.Upload(t.Context(), "tomcat", cert)
	wantProblem(t, err, problem.Unavailable, "Test Root R1", "trust store")
	if _, happened, err := c.ProbeUpload(t.Context(), "tomcat", cert); happened || err != nil {
		t.Fatalf("happened %v, %v", happened, err)
	}
	done, err := c.Upload(t.Context(), "tomcat", cert)
	if err != nil || !slices.Equal(done.Trust, []string{"Test YR1"}) {
		t.Errorf("%+v, %v", done, err)
	}
}

// A node that takes a trusted certificate and does not file it.
func TestTrustThatIsNotListed(t *testing.T) {
	w := newTestCluster(t)
	c := w.client(t, pub)
	cert := w.ready(t, c)
	w.fault(t, faults.Fault{Call: cucmtest.CallUploadTrust, Kind: faults.Status, Code: 201, Body: "{}", Times: -1})
	_, err := c.Upload(t.Context(), "tomcat", cert)
	p := wantProblem(t, err, problem.Unavailable, "still does not list it")
	if a, r := uploads(w, cucmtest.IdentityUpload); a+r != 0 || p.Happened() != problem.NotDone {
		t.Error("the identity was uploaded without its issuers")
	}
}

func TestUploadPathCanBeOverridden(t *testing.T) {
	w := newTestCluster(t)
	cert := w.ready(t, w.client(t, pub))
	c := w.client(t, pub, func(o *Options) { o.Paths.IdentityUpload = "certificate" })
	_, err := c.Upload(t.Context(), "tomcat", cert)
	wantProblem(t, err, problem.NotFound, "Not Found")
	c = w.client(t, pub, func(o *Options) {
		o.Paths.IdentityUpload = "/platformcom/api/v1/certmgr/config/identity/certificates"
	})
	if _, err := c.Upload(t.Context(), "tomcat", cert); err != nil {
		t.Error(err)
	}
}

// A cluster's certificate that reaches one node and not the other.
func TestMultiServerUpload(t *testing.T) {
	w := newTestCluster(t)
	if err := w.Node(sub).Configure(func(b *cucmtest.Behavior) { b.Unreached = true }); err != nil {
		t.Fatal(err)
	}
	c, other := w.client(t, pub), w.client(t, sub)
	csr, err := c.GenerateCSR(t.Context(), CSRRequest{KeyType: "ec", Distribution: "multi-server"})
	if err != nil {
		t.Fatal(err)
	}
	cert := w.ca.issue(t, csr, nil)
	if _, err := c.LookUpload(t.Context(), "tomcat", cert); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Upload(t.Context(), "tomcat", cert); err != nil {
		t.Fatal(err)
	}
	if has, err := other.Has(t.Context(), "tomcat", cert); err != nil || has {
		t.Errorf("Has on a node that was not reached: %v, %v", has, err)
	}
	_, _, err = other.LookRestart(t.Context(), RestartRequest{Service: "tomcat", Expect: cert}, RestartProgress{})
	wantProblem(t, err, problem.Conflict, "another certificate is installed", cert.SHA256, sub)
}

// One that is on its way is waited for.
func TestMultiServerReplication(t *testing.T) {
	w := newTestCluster(t, func(o *cucmtest.Options) { o.Behavior.ReplicationDelay = 100 * time.Millisecond })
	c, other := w.client(t, pub), w.client(t, sub)
	csr, err := c.GenerateCSR(t.Context(), CSRRequest{KeyType: "ec", Distribution: "multi-server"})
	if err != nil {
		t.Fatal(err)
	}
	cert := w.ca.issue(t, csr, nil)
	if _, err := c.Upload(t.Context(), "tomcat", cert); err != nil {
		t.Fatal(err)
	}
	r := RestartRequest{Service: "tomcat", Expect: cert}
	if _, err := other.Restart(t.Context(), r, mustLook(t, other, r, RestartProgress{}), RestartProgress{}, nil); err != nil {
		t.Fatal(err)
	}
	if ok, _, err := other.Serves(t.Context(), cert); !ok || err != nil {
		t.Errorf("Serves: %v, %v", ok, err)
	}
}

func TestUnreachableNode(t *testing.T) {
	w := newTestCluster(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := closed.Addr().String()
	_ = closed.Close()
	c := w.client(t, pub, func(o *Options) {
		o.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	})
	for _, call := range []func() error{
		func() error { _, err := c.Identity(t.Context(), "tomcat"); return err },
		func() error { _, err := c.Served(t.Context()); return err },
		func() error { _, err := c.Services(t.Context()); return err },
	} {
		if p := wantProblem(t, call(), problem.Unavailable, "cannot connect"); p.Happened() != problem.NotDone {
			t.Errorf("%v: work is not known to be undone", p)
		}
	}
}

package cucm

import (
	"context"
	stdx509 "crypto/x509"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// A certificate goes all the way: CSR, upload, restart, proof.
func TestRenewal(t *testing.T) {
	w := newTestCluster(t, func(o *cucmtest.Options) { o.Behavior.RestartOutage = 100 * time.Millisecond })
	var kept [][]string
	c := w.client(t, pub, func(o *Options) {
		o.OnPins = func(list []string) error { kept = append(kept, list); return nil }
	})
	ctx, old := t.Context(), w.Node(pub).ServedSHA256()

	look, err := c.LookCSR(ctx, CSRRequest{})
	if err != nil || look.Pending != "" {
		t.Fatalf("LookCSR: %+v, %v", look, err)
	}
	csr, err := c.GenerateCSR(ctx, CSRRequest{AltNames: []string{"voice.automate.builders"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{pub, "voice.automate.builders"}; !slices.Equal(csr.Names, want) || csr.CommonName != pub || csr.Host != pub || csr.Service != "tomcat" {
		t.Errorf("CSR %+v", csr)
	}
	cert := w.ca.issue(t, csr, nil)

	up, err := c.LookUpload(ctx, "tomcat", cert)
	if err != nil || up.Installed || up.CSR != csr.SHA256 {
		t.Fatalf("LookUpload: %+v, %v", up, err)
	}
	if len(up.Warnings) != 1 || !strings.Contains(w.logs.String(), "clientAuth") {
		t.Errorf("no warning about clientAuth: %v", up.Warnings)
	}
	if a, r := uploads(w, cucmtest.TrustUpload); a+r != 0 {
		t.Error("LookUpload has changed something")
	}
	done, err := c.Upload(ctx, "tomcat", cert)
	if err != nil || !slices.Equal(done.Trust, []string{"Test Root R1", "Test YR1"}) || done.SHA256 != cert.SHA256 {
		t.Fatalf("Upload: %+v, %v", done, err)
	}
	if up, err := c.LookUpload(ctx, "tomcat", cert); err != nil || !up.Installed {
		t.Errorf("LookUpload of what is installed: %+v, %v", up, err)
	}
	if ok, served, err := c.Serves(ctx, cert); ok || err != nil || served.SHA256 != old {
		t.Errorf("Serves before the restart: %v, %v", ok, err)
	}

	req := RestartRequest{Service: "tomcat", Expect: cert}
	plan, already, err := c.LookRestart(ctx, req, RestartProgress{})
	if err != nil || already != nil || plan.SHA256 != cert.SHA256 || plan.Served != old {
		t.Fatalf("LookRestart: %+v, %v, %v", plan, already, err)
	}
	if _, err := c.Restart(ctx, req, plan, RestartProgress{}, nil); err != nil {
		t.Fatal(err)
	}
	if got := restarts(w, pub); !slices.Equal(got, plan.Services) || got[0] != "Cisco Tomcat" || len(got) != 6 {
		t.Errorf("restarted %v of %v", got, plan.Services)
	}
	ok, served, err := c.Serves(ctx, cert)
	if err != nil || !ok || served.SHA256 != cert.SHA256 {
		t.Fatalf("Serves: %v, %v", ok, err)
	}
	// After the restart both were accepted; the proof leaves the new one.
	if len(kept) != 2 || !slices.Equal(kept[0], []string{old, cert.SHA256}) || !slices.Equal(kept[1], []string{cert.SHA256}) {
		t.Errorf("pins went %v", kept)
	}
	if _, already, err := c.LookRestart(ctx, req, RestartProgress{}); err != nil || already == nil {
		t.Errorf("LookRestart of what is served: %v, %v", already, err)
	}
	if installed, err := c.Identity(ctx, "tomcat"); err != nil || installed.SHA256 != cert.SHA256 {
		t.Errorf("Identity: %v", err)
	}
	if strings.Contains(w.logs.String(), password) {
		t.Error("the password is in the log")
	}
}

func TestTrustAndSnapshot(t *testing.T) {
	for _, shape := range []cucmtest.Shape{cucmtest.ShapeObject, cucmtest.ShapeArray} {
		ca := newAuthority(t)
		w := newTestCluster(t, func(o *cucmtest.Options) {
			o.Trust = []string{x509.Encode(ca.root)}
			o.Behavior.TrustShape = shape
		})
		c := w.client(t, pub)
		trusted, err := c.Trust(t.Context(), "tomcat-ECDSA")
		if err != nil || len(trusted) != 1 || trusted[0].Subject != "Test Root R1" {
			t.Errorf("%s: Trust: %v, %v", shape, trusted, err)
		}
		id, err := c.Identity(t.Context(), "tomcat")
		if err != nil || id.SHA256 != w.Node(pub).InstalledSHA256() {
			t.Errorf("%s: Identity: %v", shape, err)
		}
		w.ready(t, c)
		s, err := c.Snapshot(t.Context())
		if err != nil || s.Server != pub || s.Tracking == "" {
			t.Fatalf("%s: Snapshot: %+v, %v", shape, s, err)
		}
		at := slices.IndexFunc(s.Identities, func(i SnapshotIdentity) bool { return i.Service == "tomcat" })
		if at < 0 || s.Identities[at].Certificate.SHA256 != id.SHA256 || s.Identities[at].CSR != w.Node(pub).PendingCSR("tomcat") {
			t.Errorf("%s: no identity of tomcat in the snapshot", shape)
		}
		at = slices.IndexFunc(s.Trusts, func(i SnapshotTrust) bool { return i.Service == "tomcat-trust" })
		if at < 0 || len(s.Trusts[at].Files) != 1 || s.Trusts[at].Files[0].Filename != "Test_Root_R1.pem" {
			t.Errorf("%s: trust in the snapshot: %+v", shape, s.Trusts)
		}
	}
}

// If the identity call is missing the snapshot answers.
func TestIdentityFromTheSnapshot(t *testing.T) {
	w := newTestCluster(t)
	w.fault(t, faults.Fault{Call: cucmtest.CallIdentity, Kind: faults.Status, Code: 404, Body: "<html>Not Found</html>", Times: -1})
	id, err := w.client(t, pub).Identity(t.Context(), "tomcat")
	if err != nil || id.SHA256 != w.Node(pub).InstalledSHA256() {
		t.Errorf("got %v", err)
	}
	w.fault(t, faults.Fault{Call: cucmtest.CallSnapshot, Kind: faults.Status, Code: 404, Body: "<html>Not Found</html>", Times: -1})
	_, err = w.client(t, pub).Identity(t.Context(), "tomcat")
	wantProblem(t, err, problem.NotFound, "no such API", "release 14", "HTML page")
}

func TestAccounts(t *testing.T) {
	w := newTestCluster(t)
	as := func(user, pw string) *Client {
		return w.client(t, pub, func(o *Options) {
			o.Username, o.Password = user, func(context.Context) (string, error) { return pw, nil }
		})
	}
	_, err := as(admin, "wrong").LookCSR(t.Context(), CSRRequest{})
	p := wantProblem(t, err, problem.Auth, "refused the user name or password", "OS administrator", pub)
	if p.Tracking == "" || p.Happened() != problem.NotDone {
		t.Errorf("tracking %q, work %s", p.Tracking, p.Happened())
	}
	if n := len(w.Ledger().Logins); n != 1 {
		t.Errorf("the wrong password was tried %d times", n)
	}
	reader := as("reader", "reader-1")
	if _, err := reader.Identity(t.Context(), "tomcat"); err != nil {
		t.Errorf("privilege 0 cannot read: %v", err)
	}
	_, err = reader.GenerateCSR(t.Context(), CSRRequest{})
	wantProblem(t, err, problem.Auth, "may not do this", "privilege level 1", "does not have the privilege")
	_, err = reader.Restart(t.Context(), RestartRequest{Service: "tomcat"}, RestartLook{Services: []string{"Cisco Tomcat"}}, RestartProgress{}, nil)
	wantProblem(t, err, problem.Auth, "privilege")

	broken := w.client(t, pub, func(o *Options) {
		o.Password = func(context.Context) (string, error) {
			return "", &problem.Error{Kind: problem.NotFound, Message: "no secret X"}
		}
	})
	_, err = broken.PendingCSR(t.Context(), "tomcat")
	wantProblem(t, err, problem.NotFound, "no secret X")
}

func TestWrongPasswordOverSSHIsTriedOnce(t *testing.T) {
	w := newTestCluster(t)
	c := w.client(t, pub, func(o *Options) { o.Password = func(context.Context) (string, error) { return "wrong", nil } })
	_, err := c.Services(t.Context())
	wantProblem(t, err, problem.Auth, "OS administrator", "listing the services")
	if n := len(w.Ledger().Logins); n != 1 {
		t.Errorf("the wrong password was tried %d times", n)
	}
}

func TestTrustingTheNode(t *testing.T) {
	w := newTestCluster(t)
	c := w.client(t, pub, func(o *Options) { o.Pins = nil })
	seen := w.Node(pub).ServedSHA256()
	_, err := c.Identity(t.Context(), "tomcat")
	p := wantProblem(t, err, problem.Untrusted, seen, "moonseal trust "+pub)
	if p.Happened() != problem.NotDone || len(w.Ledger().Logins) != 0 {
		t.Error("the password went to a node that is not trusted")
	}
	other := strings.Repeat("ab", 32)
	c = w.client(t, pub, func(o *Options) { o.Pins = []string{other} })
	_, err = c.Identity(t.Context(), "tomcat")
	wantProblem(t, err, problem.Untrusted, "expected sha256 "+other, "seen "+seen, "moonseal trust "+pub)

	// The self-signed certificate as root: chain and name verify.
	pinned := w.client(t, pub, func(o *Options) {
		o.Roots = func() *stdx509.CertPool { t.Error("a pinned node needs no roots"); return nil }
	})
	if _, err := pinned.Identity(t.Context(), "tomcat"); err != nil {
		t.Errorf("pinned: %v", err)
	}
	served, err := c.Served(t.Context())
	if err != nil || served.SHA256 != seen {
		t.Fatalf("Served: %v", err)
	}
	leaf, err := served.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	pool := stdx509.NewCertPool()
	pool.AddCert(leaf)
	c = w.client(t, pub, func(o *Options) { o.Pins, o.Roots = nil, func() *stdx509.CertPool { return pool } })
	if _, err := c.Identity(t.Context(), "tomcat"); err != nil {
		t.Errorf("with its root: %v", err)
	}
	// The same certificate under another name.
	c = w.client(t, pub, func(o *Options) {
		o.Host, o.Pins, o.Roots = "other.automate.builders", nil, func() *stdx509.CertPool { return pool }
		o.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return w.dial(ctx, network, pub+":443")
		}
	})
	_, err = c.Identity(t.Context(), "tomcat")
	wantProblem(t, err, problem.Untrusted, "other.automate.builders")

	c = w.client(t, pub, func(o *Options) { o.HostKeys = nil })
	_, err = c.Services(t.Context())
	wantProblem(t, err, problem.Untrusted, "SHA256:", "moonseal trust "+pub)
	if err := w.Node(pub).ChangeHostKey(); err != nil {
		t.Fatal(err)
	}
	c = w.client(t, pub, func(o *Options) { o.HostKeys = []string{"SHA256:old"} })
	_, err = c.Services(t.Context())
	wantProblem(t, err, problem.Untrusted, "expected SHA256:old")
}

func TestPins(t *testing.T) {
	var kept []string
	p := pins{list: []string{"old"}, keep: func(l []string) error { kept = l; return nil }}
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return p.accept("new") }, "old new"},
		{func() error { return p.accept("new") }, "old new"},
		{func() error { return p.retain("old") }, "old new"}, // the old one is still served
		{func() error { return p.retain("new") }, "new"},
		{func() error { return p.retain("other") }, "other"},
	} {
		if err := step.do(); err != nil || strings.Join(p.get(), " ") != step.want || strings.Join(kept, " ") != step.want {
			t.Errorf("pins %v, kept %v, want %s (%v)", p.get(), kept, step.want, err)
		}
	}
	p.keep = func([]string) error { return &problem.Error{Kind: problem.Internal, Message: "disk full"} }
	if err := p.accept("newer"); err == nil || len(p.get()) != 1 {
		t.Error("a pin that cannot be kept counts")
	}
	none := pins{keep: func([]string) error { t.Error("pinned a node that is verified against roots"); return nil }}
	if err := none.accept("new"); err != nil || none.retain("new") != nil || len(none.get()) != 0 {
		t.Error("pinned a node that is verified against roots")
	}
}

func TestNetworkFaults(t *testing.T) {
	for _, tc := range []struct {
		fault faults.Fault
		kind  problem.Kind
		work  problem.Work
		words []string
	}{
		{faults.Fault{Kind: faults.Reset}, problem.Unavailable, problem.Unknown, nil},
		{faults.Fault{Kind: faults.Lost}, problem.Unavailable, problem.Unknown, nil},
		{faults.Fault{Kind: faults.Truncate}, problem.Unavailable, problem.Unknown, nil},
		{faults.Fault{Kind: faults.Timeout}, problem.Timeout, problem.Unknown, nil},
		{faults.Fault{Kind: faults.Status, Code: 503, Body: "<html><body>Starting <b>up</b>"}, problem.Unavailable, problem.Unknown, []string{"Starting up", "503", "HTML page"}},
		{faults.Fault{Kind: faults.Status, Code: 502}, problem.Unavailable, problem.Unknown, []string{"empty body"}},
		{faults.Fault{Kind: faults.Status, Code: 500, Body: "boom"}, problem.Unavailable, problem.Unknown, []string{`"boom"`, "not JSON"}},
		{faults.Fault{Kind: faults.Status, Code: 429, Header: map[string]string{"Retry-After": "60"}}, problem.RateLimited, problem.NotDone, nil},
		{faults.Fault{Kind: faults.Status, Code: 400, Body: `{"key":400,"messages":["Invalid JSON Format"],"trackingId":"UC_24"}`}, problem.Refused, problem.NotDone, []string{"Invalid JSON Format", "UC_24"}},
		{faults.Fault{Kind: faults.Status, Code: 302, Header: map[string]string{"Location": "https://elsewhere.example.com/"}}, problem.Refused, problem.NotDone, []string{"redirects"}},
		{faults.Fault{Kind: faults.Status, Code: 200, Body: "<html>Log in</html>"}, problem.Unavailable, problem.Unknown, []string{"Log in", "HTML"}},
	} {
		w := newTestCluster(t)
		tc.fault.Call = cucmtest.CallCSR
		w.fault(t, tc.fault)
		c := w.client(t, pub, func(o *Options) {
			if tc.fault.Kind == faults.Timeout {
				o.Timeout = 200 * time.Millisecond
			}
		})
		_, err := c.GenerateCSR(t.Context(), CSRRequest{KeyType: "ec"})
		p := wantProblem(t, err, tc.kind, append(tc.words, "generating a CSR for tomcat", pub)...)
		if p.Happened() != tc.work {
			t.Errorf("%s %d: work is %s, want %s", tc.fault.Kind, tc.fault.Code, p.Happened(), tc.work)
		}
		if tc.fault.Code == http.StatusTooManyRequests && p.RetryAfter.IsZero() {
			t.Error("Retry-After is lost")
		}
		if n := w.faults.List()[0].Hits; n != 1 {
			t.Errorf("%s: the client called %d times", tc.fault.Kind, n)
		}
	}
}

func TestNew(t *testing.T) {
	ok := Options{Host: "cucm01.example.com", Username: "a", Password: func(context.Context) (string, error) { return "", nil }}
	for _, change := range []func(*Options){
		func(o *Options) { o.Host = "" }, func(o *Options) { o.Host = "a/b" }, func(o *Options) { o.Host = "user@host" },
		func(o *Options) { o.Host = "host:99" }, func(o *Options) { o.Username = "" }, func(o *Options) { o.Password = nil },
	} {
		o := ok
		change(&o)
		if _, err := New(o); kind(err) != problem.Usage {
			t.Errorf("%q: %v", o.Host, err)
		}
	}
	if c, err := New(ok); err != nil || c.o.Host != "cucm01.example.com" {
		t.Error(err)
	}
}

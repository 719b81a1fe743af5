package cucmtest

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

func trusted(t *testing.T, n *Node) map[string]bool {
	t.Helper()
	list, _ := call(t, n, "GET", "trust/certificate?service=tomcat", nil).body["certificates"].([]any)
	out := map[string]bool{}
	for _, entry := range list {
		out[shaOf(t, entry.(map[string]any)["certificate"].(string))] = true
	}
	return out
}

// One certificate for each common name: only a newer notBefore replaces it, and the
// upload of an older one succeeds silently.
func TestOneTrustCertificateForEachName(t *testing.T) {
	c := start(t, nil)
	n := c.Node(pub)
	key := newECKey(t)
	born := func(at time.Time) string {
		template := caTemplate("Root YR", at)
		return toPEM("CERTIFICATE", certify(t, template, template, key.Public(), key).Raw)
	}
	now := time.Now()
	middle, twin, older, newer := born(now.AddDate(-2, 0, 0)), born(now.AddDate(-2, 0, 0)), born(now.AddDate(-3, 0, 0)), born(now.AddDate(-1, 0, 0))
	for _, test := range []struct {
		name, cert, kept string
		accepted         bool
	}{
		{"first", middle, middle, true},
		{"the same again", middle, middle, false},
		{"as old", twin, middle, false},
		{"older", older, middle, false},
		{"newer", newer, newer, true},
		{"the first again", middle, newer, false},
	} {
		wantStatus(t, uploadTrust(t, n, test.cert), 201, "")
		got := trusted(t, n)
		if len(got) != 1 || !got[shaOf(t, test.kept)] {
			t.Errorf("%s: the wrong certificate is kept", test.name)
		}
		uploads := c.Ledger().Uploads
		last := uploads[len(uploads)-1]
		if last.Accepted != test.accepted || last.Kind != TrustUpload || last.SHA256 != shaOf(t, test.cert) || (last.Reason == "") != test.accepted {
			t.Errorf("%s: ledger has %+v", test.name, last)
		}
	}
}

func TestTrustUploadRejections(t *testing.T) {
	c := start(t, nil)
	n, a := c.Node(pub), newCA(t)
	key := newECKey(t)
	template := caTemplate("Old Root", time.Now().AddDate(-30, 0, 0))
	expired := toPEM("CERTIFICATE", certify(t, template, template, key.Public(), key).Raw)
	wantStatus(t, uploadTrust(t, n, a.rootPEM, "nonsense"), 400, "could not be uploaded")
	wantStatus(t, uploadTrust(t, n, a.rootPEM, expired), 400, "Certificate has expired")
	wantStatus(t, call(t, n, "POST", "trust/certificates", map[string]any{"service": []string{"tomcat", "nginx"}, "certificates": []string{a.rootPEM}}), 400, "Invalid service")
	if got := trusted(t, n); len(got) != 0 {
		t.Fatalf("a refused upload left %v", got)
	}
}

func TestTrustReplicates(t *testing.T) {
	a := newCA(t)
	clock := clockwork.NewFakeClockAt(time.Now())
	c := start(t, func(o *Options) {
		o.Clock = clock
		o.Behavior.ReplicationDelay = time.Minute
	})
	wantStatus(t, uploadTrust(t, c.Node(pub), a.rootPEM), 201, "")
	clock.Advance(59 * time.Second)
	if len(trusted(t, c.Node(pub))) != 1 || len(trusted(t, c.Node(sub))) != 0 {
		t.Fatal("trust must be there at once, and elsewhere only after the delay")
	}
	clock.Advance(time.Second)
	if len(trusted(t, c.Node(sub))) != 1 || len(trusted(t, c.Node(imp))) != 1 {
		t.Fatal("trust did not replicate")
	}
	if err := c.Configure(func(b *Behavior) { b.NoTrustReplication = true }); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, uploadTrust(t, c.Node(sub), a.issuerPEM), 201, "")
	clock.Advance(time.Hour)
	if len(trusted(t, c.Node(sub))) != 2 || len(trusted(t, c.Node(pub))) != 1 {
		t.Fatal("trust replicated though it must not")
	}
}

func TestAddTrust(t *testing.T) {
	a := newCA(t)
	c := start(t, nil)
	n := c.Node(pub)
	if err := n.AddTrust("tomcat", a.rootPEM); err != nil {
		t.Fatal(err)
	}
	if got := trusted(t, n); !got[fingerprint(a.root.Raw)] || len(trusted(t, c.Node(sub))) != 0 || len(c.Ledger().Uploads) != 0 {
		t.Fatal("added trust is this node's alone and no upload")
	}
	for _, bad := range [][2]string{{"tomcat", a.rootPEM}, {"nginx", a.issuerPEM}, {"tomcat", "nonsense"}} {
		if n.AddTrust(bad[0], bad[1]) == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

// The ECDSA twin of a service shares its trust store.
func TestTwinsShareTrust(t *testing.T) {
	a := newCA(t)
	n := start(t, nil).Node(pub)
	wantStatus(t, uploadTrust(t, n, a.rootPEM, a.issuerPEM), 201, "")
	cert := a.sign(t, generate(t, n, func(b map[string]any) { b["service"] = "tomcat-ECDSA" }), nil)
	wantStatus(t, call(t, n, "POST", "identity/certificates", map[string]any{"service": "tomcat-ECDSA", "certificates": []string{cert}}), 200, "")
	if _, err := x509.ParseCertificate(n.identities["tomcat-ECDSA"].cert.Raw); err != nil || n.InstalledSHA256() == shaOf(t, cert) {
		t.Fatal("the twin's certificate went to the wrong place")
	}
}

func TestMultiServerUpload(t *testing.T) {
	a := newCA(t)
	clock := clockwork.NewFakeClockAt(time.Now())
	c := start(t, func(o *Options) {
		o.Clock = clock
		o.Trust = []string{a.rootPEM, a.issuerPEM}
		o.Behavior.ReplicationDelay = time.Minute
		o.Nodes[2].Behavior = &Behavior{Unreached: true}
	})
	csr := generate(t, c.Node(pub), func(b map[string]any) {
		b["distribution"] = "multi-server"
		b["commonName"] = pub
	})
	cert := a.sign(t, csr, nil)
	wantStatus(t, uploadIdentity(t, c.Node(pub), cert), 200, "")
	sha := shaOf(t, cert)
	if c.Node(pub).InstalledSHA256() != sha || c.Node(sub).InstalledSHA256() == sha {
		t.Fatal("the certificate must be here at once and elsewhere after the delay")
	}
	clock.Advance(time.Minute)
	if c.Node(sub).InstalledSHA256() != sha || c.Node(imp).InstalledSHA256() == sha {
		t.Fatal("the certificate must reach the subscriber and not the unreached node")
	}
	if c.Node(sub).ServedSHA256() == sha {
		t.Fatal("the subscriber serves it without a restart")
	}
	login(t, c.Node(sub)).run("utils service restart Cisco Tomcat")
	wantLive(t, c.Node(sub), sha) // the key came with it
	if uploads := c.Ledger().Uploads; len(uploads) != 1 {
		t.Fatalf("uploads %+v", uploads)
	}
}

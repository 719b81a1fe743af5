package cucmtest

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestAuthentication(t *testing.T) {
	c := start(t, nil)
	n := c.Node(pub)
	csr := map[string]any{"service": "tomcat", "distribution": "this-server", "keyType": "ec"}
	for _, test := range []struct {
		name, user, password, method, path string
		body                               any
		status                             int
	}{
		{"no credentials", "", "", "GET", "trust/certificate?service=tomcat", nil, 401},
		{"wrong password", user, "wrong", "GET", "trust/certificate?service=tomcat", nil, 401},
		{"unknown user", "stranger", pass, "GET", "trust/certificate?service=tomcat", nil, 401},
		{"wrong password, unknown path", user, "wrong", "GET", "nothing", nil, 401},
		{"privilege 0 reads", "viewer", "look", "GET", "trust/certificate?service=tomcat", nil, 200},
		{"privilege 0 asks for a CSR", "viewer", "look", "POST", "csr", csr, 403},
		{"privilege 0 uploads", "viewer", "look", "POST", "identity/certificates", "{}", 403},
		{"privilege 1 asks for a CSR", user, pass, "POST", "csr", csr, 201},
	} {
		r, err := as(t.Context(), n, test.user, test.password, test.method, base+test.path, test.body)
		if err != nil {
			t.Fatal(err)
		}
		if r.status != test.status {
			t.Errorf("%s: %d %s, want %d", test.name, r.status, r.text, test.status)
		}
		if r.status == 401 && r.header.Get("WWW-Authenticate") != `Basic realm="CMPlatform"` {
			t.Errorf("%s: WWW-Authenticate is %q", test.name, r.header.Get("WWW-Authenticate"))
		}
		if r.status >= 400 {
			wantStatus(t, r, test.status, "")
		}
	}
	l := c.Ledger()
	if len(l.Uploads) != 0 || len(l.CSRs) != 1 {
		t.Errorf("a refused request did something: %+v", l)
	}
	good := slices.DeleteFunc(slices.Clone(l.Logins), func(l Login) bool { return !l.OK })
	if len(l.Logins) != 8 || len(good) != 4 || l.Logins[0].Via != ViaREST {
		t.Errorf("logins: %+v", l.Logins)
	}
}

func TestNodesHaveAccountsOfTheirOwn(t *testing.T) {
	c := start(t, func(o *Options) { o.Nodes[1].Username, o.Nodes[1].Password = "other", "own" })
	for _, test := range []struct {
		node, user, password string
		status               int
	}{{pub, user, pass, 200}, {pub, "other", "own", 401}, {sub, "other", "own", 200}, {sub, user, pass, 401}} {
		r, err := as(t.Context(), c.Node(test.node), test.user, test.password, "GET", base+"snapshot/server", nil)
		if err != nil || r.status != test.status {
			t.Errorf("%s on %s: %d, %v", test.user, test.node, r.status, err)
		}
	}
}

func TestWrongPasswordsLockTheAccount(t *testing.T) {
	c := start(t, func(o *Options) { o.Behavior.LockAfter = 2 })
	try := func(password string) int {
		r, err := as(t.Context(), c.Node(pub), user, password, "GET", base+"snapshot/server", nil)
		if err != nil {
			t.Fatal(err)
		}
		return r.status
	}
	got := []int{try("wrong"), try(pass), try("wrong"), try("wrong"), try(pass)}
	if !slices.Equal(got, []int{401, 200, 401, 401, 401}) {
		t.Fatalf("statuses %v", got)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	n := start(t, nil).Node(pub)
	for path, status := range map[string]int{
		"POST " + base + "certificate":                                  404, // the singular that no release has
		"GET " + base + "identity":                                      404,
		"GET /":                                                         404,
		"GET /platformcom/api/v1/certmgr/config":                        404,
		"GET " + base + "identity/certificates?service=tomcat":          405,
		"DELETE " + base + "csr":                                        405,
		"GET " + base + "csr?service=tomcat":                            404, // none pending
		"GET " + base + "csr?service=nginx":                             400,
		"GET " + base + "csr":                                           400,
		"GET " + base + "trust/certificate?service=cup":                 400, // only on IM and Presence
		"GET " + base + "identity/certificate?service=" + "CallManager": 200,
	} {
		method, path, _ := strings.Cut(path, " ")
		r, err := as(t.Context(), n, user, pass, method, path, nil)
		if err != nil || r.status != status {
			t.Errorf("%s %s: %d %s %v, want %d", method, path, r.status, r.text, err, status)
			continue
		}
		if status >= 400 {
			wantStatus(t, r, status, "")
		}
	}
}

func TestBadJSONIsRefused(t *testing.T) {
	c := start(t, nil)
	n := c.Node(pub)
	for _, test := range []struct{ path, body string }{
		{"csr", ""},
		{"csr", "{"},
		{"csr", "[]"},
		{"csr", `{"service":["tomcat"],"distribution":"this-server"}`},
		{"csr", `{"service":"tomcat","distribution":"this-server","subjectAltNames":["a.example"]}`},
		{"csr", `{"service":"tomcat","distribution":"this-server"} {}`},
		{"identity/certificates", `{"service":["tomcat"],"certificates":["x"]}`},
		{"identity/certificates", `{"service":"tomcat","certificates":[]}`},
		{"identity/certificates", `{"service":"tomcat","certificates":"x"}`},
		{"trust/certificates", `{"service":"tomcat","certificates":["x"]}`},
		{"trust/certificates", `{"service":[],"certificates":["x"]}`},
		{"trust/certificates", `{"service":["tomcat"],"certificates":[]}`},
	} {
		wantStatus(t, call(t, n, "POST", test.path, test.body), 400, "Invalid JSON Format")
	}
	r := call(t, n, "POST", "csr", `{"service":"`+strings.Repeat("x", maxBody)+`"}`)
	wantStatus(t, r, 413, "too large")
	for _, u := range c.Ledger().Uploads {
		if u.Accepted || u.Reason == "" {
			t.Errorf("upload %+v", u)
		}
	}
}

func TestLists(t *testing.T) {
	a := newCA(t)
	c := start(t, func(o *Options) { o.Trust = []string{a.rootPEM} })
	n := c.Node(pub)
	csr := generate(t, n, nil)

	trust := call(t, n, "GET", "trust/certificate?service=tomcat", nil)
	if list, _ := trust.body["certificates"].([]any); len(list) != 1 || list[0].(map[string]any)["certificate"] != a.rootPEM {
		t.Errorf("trust as object: %s", trust.text)
	}
	identity := call(t, n, "GET", "identity/certificate?service=tomcat", nil)
	if shaOf(t, identity.str("certificate")) != n.InstalledSHA256() {
		t.Errorf("identity as object: %s", identity.text)
	}
	if err := c.Configure(func(b *Behavior) { b.TrustShape = ShapeArray }); err != nil {
		t.Fatal(err)
	}
	trust = call(t, n, "GET", "trust/certificate?service=tomcat", nil)
	if len(trust.list) != 1 || trust.list[0].(map[string]any)["certificate"] != a.rootPEM {
		t.Errorf("trust as array: %s", trust.text)
	}
	identity = call(t, n, "GET", "identity/certificate?service=tomcat", nil)
	if len(identity.list) != 1 {
		t.Errorf("identity as array: %s", identity.text)
	}

	var snapshot struct {
		TrackingID, Server string
		Identities         []snapshotIdentity
		Trusts             []snapshotTrust
		Revoked            []string `json:"revokedCertificates"`
	}
	r := call(t, n, "GET", "snapshot/server", nil)
	if err := json.Unmarshal([]byte(r.text), &snapshot); err != nil {
		t.Fatal(err)
	}
	if snapshot.Server != pub || !strings.HasPrefix(snapshot.TrackingID, "UC_") || snapshot.Revoked == nil {
		t.Errorf("snapshot: %s", r.text)
	}
	i := slices.IndexFunc(snapshot.Identities, func(s snapshotIdentity) bool { return s.Service == "tomcat" })
	if i < 0 || snapshot.Identities[i].CSR != csr || shaOf(t, snapshot.Identities[i].Certificate) != n.InstalledSHA256() {
		t.Errorf("identities: %+v", snapshot.Identities)
	}
	i = slices.IndexFunc(snapshot.Trusts, func(s snapshotTrust) bool { return s.Service == "tomcat-trust" })
	if i < 0 || len(snapshot.Trusts[i].Data) != 1 || snapshot.Trusts[i].Data[0].Filename != "Test_Root.pem" {
		t.Errorf("trusts: %+v", snapshot.Trusts)
	}
}

func TestServedCertificate(t *testing.T) {
	c := start(t, nil)
	for _, n := range c.Nodes() {
		// The first certificate is self-signed for the node's own name.
		pool := x509.NewCertPool()
		pool.AddCert(c.nodes[slices.Index(c.nodes, n)].identities[tomcat].cert)
		wantVerified(t, n, pool)
	}
	// A renewed one comes with its issuer: the root alone verifies it.
	n, a := c.Node(pub), newCA(t)
	renew(t, n, a)
	login(t, n).run("utils service restart Cisco Tomcat")
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	wantVerified(t, n, pool)
}

func wantVerified(t *testing.T, n *Node, roots *x509.CertPool) {
	t.Helper()
	client := httpClient(n)
	config := client.Transport.(*http.Transport).TLSClientConfig
	config.InsecureSkipVerify, config.RootCAs = false, roots
	response, err := client.Get("https://" + n.RESTAddr() + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
}

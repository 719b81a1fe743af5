package lab

import (
	"bytes"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/acme"
	"moonseal/modules/acme/acmetest"
	"moonseal/modules/cucm"
	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/dns/dnstest"
	"moonseal/modules/x509"
	"moonseal/runtime/account"
	"moonseal/runtime/secret"
)

func TestMain(m *testing.M) {
	acmetest.Main()
	os.Exit(m.Run())
}

const pub = "cucm01-pub." + Domain

func start(t testing.TB, change func(*Options)) *World {
	t.Helper()
	o := Options{
		Dir: t.TempDir(), SpareKeys: -1, Behavior: cucmtest.Behavior{RestartOutage: 50 * time.Millisecond},
		PropagationDelay: []time.Duration{0, 20 * time.Millisecond},
		Settings:         map[string]map[string]any{"cucm": {"poll": "5ms"}},
	}
	if change != nil {
		change(&o)
	}
	w, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return w
}

// One whole renewal by what the folder says, and nothing else.
func TestRenewal(t *testing.T) {
	w := start(t, nil)
	u, ctx := newUser(t, w.opt.Dir), t.Context()
	if u.cucm.Settle != 2*time.Second || u.cucm.Poll != 5*time.Millisecond {
		t.Errorf("settings: %+v", u.cucm)
	}
	node := u.node(t, pub)
	before, err := node.Served(ctx)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := node.GenerateCSR(ctx, cucm.CSRRequest{Service: "tomcat", KeyType: "ec"})
	if err != nil {
		t.Fatal(err)
	}
	ca := u.ca(t, acme.CA{Directory: "letsencrypt", Email: "admin@" + Domain})
	cert := u.issue(t, ca, zones()[0], csr)
	if days := cert.NotAfter.Sub(cert.NotBefore).Hours() / 24; days < 89 || days > 91 || cert.Root == "" {
		t.Errorf("a certificate of %.0f days, root %q", days, cert.Root)
	}
	if _, err := node.Upload(ctx, "tomcat", cert); err != nil {
		t.Fatal(err)
	}
	request := cucm.RestartRequest{Service: "tomcat", Expect: cert}
	look, _, err := node.LookRestart(ctx, request, cucm.RestartProgress{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Restart(ctx, request, look, cucm.RestartProgress{}, nil); err != nil {
		t.Fatal(err)
	}
	if ok, _, err := node.Serves(ctx, cert); err != nil || !ok {
		t.Errorf("serves: %v, %v", ok, err)
	}
	// A client without the pin verifies what is served against ca.pem.
	if err := u.store.SavePins(pub, account.Pins{}); err != nil {
		t.Fatal(err)
	}
	if _, err := u.node(t, pub).Identity(ctx, "tomcat"); err != nil {
		t.Errorf("verified against the bundle: %v", err)
	}
	l, err := (&Client{URL: w.ControlURL()}).Ledger(ctx)
	if err != nil {
		t.Fatal(err)
	}
	checkRenewed(t, l, before.SHA256, cert)
	// The CA can be made to suggest its renewal, which counts once it is a day old.
	was := time.Now().Add(-time.Hour)
	if err := client(t, w).ChangeACME(ctx, ACMEChange{Certificate: cert.PEM, RenewalInfo: acmetest.RenewalInfo(was, was.Add(time.Minute))}); err != nil {
		t.Fatal(err)
	}
	later := u.caAt(t, acme.CA{Directory: "letsencrypt"}, clockwork.NewFakeClockAt(time.Now().Add(26*time.Hour)))
	if r, err := later.Renewal(ctx, cert, acme.RenewalOptions{}); err != nil || !r.Due || r.Source != "ari" {
		t.Errorf("%+v, %v", r, err)
	}
}

func checkRenewed(t *testing.T, l *Ledger, before string, cert *x509.Certificate) {
	t.Helper()
	if len(l.Orders) != 1 || l.Orders[0].Status != "valid" || l.Orders[0].Profile != "classic" || !slices.Equal(l.Orders[0].Identifiers, []string{pub}) {
		t.Errorf("orders: %+v", l.Orders)
	}
	if len(l.Certificates) != 1 || l.Certificates[0].SHA256 != cert.SHA256 || strings.TrimLeft(l.Certificates[0].Serial, "0") != strings.TrimLeft(cert.Serial, "0") {
		t.Errorf("certificates: %+v", l.Certificates)
	}
	if len(l.TXT.Present) != 0 || len(l.TXT.History) != 2 || l.TXT.History[0].Name != "_acme-challenge."+pub {
		t.Errorf("txt: %+v", l.TXT)
	}
	identities := slices.DeleteFunc(slices.Clone(l.Uploads), func(u cucmtest.Upload) bool { return u.Kind != cucmtest.IdentityUpload })
	if len(identities) != 1 || !identities[0].Accepted || identities[0].SHA256 != cert.SHA256 || identities[0].Node != pub || len(l.Uploads) != 3 {
		t.Errorf("uploads: %+v", l.Uploads)
	}
	if len(l.Restarts) == 0 || l.Restarts[0].Service != "Cisco Tomcat" || l.Restarts[0].Node != pub {
		t.Errorf("restarts: %+v", l.Restarts)
	}
	if len(l.CSRs) != 1 || len(l.Logins) == 0 {
		t.Errorf("csrs %d, logins %d", len(l.CSRs), len(l.Logins))
	}
	if l.Served[pub] != cert.SHA256 || l.Installed[pub] != cert.SHA256 || before == cert.SHA256 || len(l.Served) != 3 || l.Served["imp01."+Domain] == "" {
		t.Errorf("served %v, installed %v", l.Served, l.Installed)
	}
}

// Every provider and every CA works under its real name; two worlds at a time
// know nothing of each other.
func TestProvidersAndCAsInTwoWorlds(t *testing.T) {
	cas := []acme.CA{
		{Directory: "letsencrypt", Email: "admin@" + Domain},
		{Directory: "letsencrypt-staging"},
		{Directory: "google"},
		{Directory: "zerossl", EAB: acme.EAB{KeyID: EABKeyID, HMAC: secret.Handle{Name: "EAB_HMAC"}}},
	}
	for _, name := range []string{"one", "two"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, func(o *Options) { o.NonceReject = 10 })
			u := newUser(t, w.opt.Dir)
			for i, zone := range zones() {
				text, err := w.Cluster.Node(pub).GenerateCSR("tomcat")
				if err != nil {
					t.Fatal(err)
				}
				csr, err := x509.ParseCSR(text)
				if err != nil {
					t.Fatal(err)
				}
				u.issue(t, u.ca(t, cas[i]), zone, csr)
			}
			l, err := w.Ledger(t.Context())
			if err != nil || len(l.Certificates) != len(cas) || len(l.TXT.Present) != 0 {
				t.Errorf("%d certificates, TXT left %v, %v", len(l.Certificates), l.TXT.Present, err)
			}
		})
	}
}

func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "lab")
	shipped := fstest.MapFS{"demo.lua": {Data: []byte("return {}")}, "lib/x.lua": {Data: []byte("x = 1")}}
	first := start(t, func(o *Options) { o.Dir, o.Scripts = dir, shipped })
	env := read(t, dir, "lab.env")
	if read(t, dir, "scripts", "lib", "x.lua") != "x = 1" || read(t, dir, "control.url") != first.ControlURL()+"\n" {
		t.Error("scripts or control.url")
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		want := os.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s is %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := Start(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "a lab is running in this folder") {
		t.Errorf("a second lab in one folder: %v", err)
	}
	if read(t, dir, "control.url") != first.ControlURL()+"\n" || read(t, dir, "lab.env") != env {
		t.Error("the second lab changed the folder of the first")
	}
	pins := read(t, dir, "state", "accounts", pub, "pins.json")
	account1 := newUser(t, dir)
	if _, err := account1.ca(t, acme.CA{}).Account(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("control.url outlives its lab")
	}
	if err := os.WriteFile(filepath.Join(dir, "scripts", "mine.lua"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, func(o *Options) { o.Dir, o.Scripts = dir, fstest.MapFS{"demo.lua": {Data: []byte("other")}} })
	if read(t, dir, "scripts", "mine.lua") != "mine" || read(t, dir, "scripts", "demo.lua") != "return {}" {
		t.Error("a second start changed the scripts")
	}
	if read(t, dir, "lab.env") == env || read(t, dir, "state", "accounts", pub, "pins.json") == pins {
		t.Error("a second start kept secrets or pins")
	}
	// What is left of the first lab's account does no harm.
	u := newUser(t, dir)
	csr, err := u.node(t, pub).GenerateCSR(t.Context(), cucm.CSRRequest{KeyType: "ec"})
	if err != nil {
		t.Fatal(err)
	}
	u.issue(t, u.ca(t, acme.CA{}), zones()[0], csr)
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A folder that cannot be used is an error, and nothing is left running.
func TestStartFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"no folder":             {},
		"a file":                {Dir: file},
		"others can write it":   {Dir: open},
		"no such percentage":    {Dir: t.TempDir(), NonceReject: 101},
		"a node without a name": {Dir: t.TempDir(), Nodes: []cucmtest.NodeOptions{{}}},
	} {
		if w, err := Start(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
			_ = w.Close()
		}
	}
}

// No secret is in a log, in the ledger, or in a file but lab.env.
func TestSecretsStay(t *testing.T) {
	var log bytes.Buffer
	w := start(t, func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	u := newUser(t, w.opt.Dir)
	csr, err := u.node(t, pub).GenerateCSR(t.Context(), cucm.CSRRequest{KeyType: "ec"})
	if err != nil {
		t.Fatal(err)
	}
	u.issue(t, u.ca(t, acme.CA{}), zones()[0], csr)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if log.Len() == 0 {
		t.Fatal("nothing was logged")
	}
	where := map[string]string{"the log": log.String()}
	for _, f := range []string{"moonseal.yaml", "ca.pem"} {
		where[f] = read(t, w.opt.Dir, f)
	}
	for _, v := range w.env {
		if strings.HasSuffix(v.name, "USERNAME") {
			continue
		}
		for place, text := range where {
			if strings.Contains(text, v.value) {
				t.Errorf("%s holds %s", place, v.name)
			}
		}
	}
}

// Another CA is reached under its own name, also if that is one of the world's.
func TestAnotherCA(t *testing.T) {
	other, err := dnstest.Start(dnstest.Options{Zones: []string{Domain}, Servers: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	ca, err := acmetest.Start(t.Context(), acmetest.Options{DNSAddr: other.Resolver(), Hosts: []string{"ca.example.com", "acme.zerossl.com"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ca.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	at, err := url.Parse(ca.DirectoryURL())
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, func(o *Options) {
		o.DNS = other.Server(1)
		o.Hosts = map[string]string{"ca.example.com:8443": at.Host, "acme.zerossl.com:443": at.Host}
		o.Roots = ca.CAPEM() + ca.RootPEM()
	})
	u := newUser(t, w.opt.Dir)
	u.env["TSIG_KEY"] = other.Credentials().TSIGSecret
	for _, directory := range []string{"https://ca.example.com:8443" + at.Path, "https://acme.zerossl.com" + at.Path} {
		csr, err := u.node(t, pub).GenerateCSR(t.Context(), cucm.CSRRequest{Service: "tomcat", KeyType: "ec"})
		if err != nil {
			t.Fatal(err)
		}
		cert := u.issue(t, u.ca(t, acme.CA{Directory: directory, Email: "admin@" + Domain}), zones()[3], csr)
		ledger, err := ca.Ledger(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if last := len(ledger.Certificates) - 1; last < 0 || ledger.Certificates[last].SHA256 != cert.SHA256 {
			t.Errorf("%s: %+v", directory, ledger.Certificates)
		}
	}
	if l, err := w.Ledger(t.Context()); err != nil || len(l.Certificates) != 0 {
		t.Errorf("the world's CA issued %+v: %v", l.Certificates, err)
	}
}

// The CA validates through another DNS server, and the world's own sees nothing.
func TestAnotherDNS(t *testing.T) {
	other, err := dnstest.Start(dnstest.Options{Zones: []string{Domain}, Servers: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	w := start(t, func(o *Options) { o.DNS = other.Server(1) })
	u := newUser(t, w.opt.Dir)
	u.env["TSIG_KEY"] = other.Credentials().TSIGSecret
	csr, err := u.node(t, pub).GenerateCSR(t.Context(), cucm.CSRRequest{Service: "tomcat", KeyType: "ec"})
	if err != nil {
		t.Fatal(err)
	}
	zone := zones()[3]
	zone.KeyName = strings.ToUpper(zone.KeyName)
	u.issue(t, u.ca(t, acme.CA{Directory: "letsencrypt", Email: "admin@" + Domain}), zone, csr)
	if own, others := w.DNS.TXT().History, other.TXT().History; len(own) != 0 || len(others) < 2 {
		t.Errorf("%d changes in the world's DNS, %d in the other", len(own), len(others))
	}
	for _, bad := range []string{":53", "127.0.0.1:0", "127.0.0.1:dns"} {
		if _, err := (Options{Dir: t.TempDir(), DNS: bad}).withDefaults(); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if o, err := (Options{Dir: t.TempDir(), DNS: "192.0.2.53"}).withDefaults(); err != nil || o.DNS != "192.0.2.53:53" {
		t.Errorf("%q, %v", o.DNS, err)
	}
}

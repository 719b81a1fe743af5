package cucmtest

import (
	"reflect"
	"strings"
	"testing"
)

// The whole way of a renewal: CSR, trust, identity, restart.
func TestRenewal(t *testing.T) {
	c := start(t, nil)
	n, a := c.Node(pub), newCA(t)
	old := n.ServedSHA256()
	wantLive(t, n, old)

	sha := renew(t, n, a)
	if n.InstalledSHA256() != sha {
		t.Fatal("the certificate is not installed")
	}
	wantLive(t, n, old)
	if n.PendingCSR("tomcat") != "" {
		t.Fatal("the upload left the CSR pending")
	}

	s := login(t, n)
	out := s.run("utils service restart Cisco Tomcat")
	want := "Do not press Ctrl+C while the service is restarting. If the service has not restarted properly, execute the same command again.\r\n" +
		"Service Manager is running\r\nCisco Tomcat[STARTING]\r\nCisco Tomcat[STARTED]\r\n"
	if out != want {
		t.Fatalf("restart printed %q", out)
	}
	wantLive(t, n, sha)

	l := c.Ledger()
	if len(l.Restarts) != 1 || l.Restarts[0].Service != "Cisco Tomcat" || l.Restarts[0].Node != pub {
		t.Fatalf("restarts: %+v", l.Restarts)
	}
	if l.Served[pub] != sha || l.Installed[pub] != sha || l.Served[sub] == sha {
		t.Fatalf("served %v, installed %v", l.Served, l.Installed)
	}
	if len(l.CSRs) != 1 || l.CSRs[0].Service != "tomcat" || len(l.CSRs[0].SHA256) != 64 {
		t.Fatalf("csrs: %+v", l.CSRs)
	}
	if last := l.Uploads[len(l.Uploads)-1]; len(l.Uploads) != 3 || last.Kind != IdentityUpload || !last.Accepted || last.SHA256 != sha {
		t.Fatalf("uploads: %+v", l.Uploads)
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no nodes":          func(o *Options) { o.Nodes = nil },
		"no domain":         func(o *Options) { o.Domain = "" },
		"bad domain":        func(o *Options) { o.Domain = "a b" },
		"no password":       func(o *Options) { o.Password = "" },
		"host with dots":    func(o *Options) { o.Nodes[0].Host = "a.b" },
		"host twice":        func(o *Options) { o.Nodes[1].Host = "CUCM01-PUB" },
		"unknown role":      func(o *Options) { o.Nodes[0].Role = "boss" },
		"unknown outage":    func(o *Options) { o.Behavior.Outage = "fire" },
		"no way to log in":  func(o *Options) { o.Behavior.NoPassword, o.Behavior.NoKeyboard = true, true },
		"bad node behavior": func(o *Options) { o.Nodes[0].Behavior = &Behavior{EKU: "perhaps"} },
		"bad trust":         func(o *Options) { o.Trust = []string{"nonsense"} },
	} {
		o := options()
		change(&o)
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), "cucmtest: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAddrs(t *testing.T) {
	c := start(t, nil)
	addrs := c.Addrs()
	seen := map[string]bool{}
	for _, n := range c.Nodes() {
		if addrs[n.FQDN()+":443"] != n.RESTAddr() || addrs[n.FQDN()+":22"] != n.SSHAddr() {
			t.Errorf("%s: %v", n.FQDN(), addrs)
		}
		seen[n.RESTAddr()], seen[n.SSHAddr()] = true, true
	}
	if len(addrs) != 6 || len(seen) != 6 {
		t.Errorf("addresses %v", addrs)
	}
	if c.Node("CUCM01-pub.Automate.Builders") == nil || c.Node("unknown.automate.builders") != nil {
		t.Error("nodes are found by name, whatever its case")
	}
}

// A node may change at any time; a change that cannot be leaves it as it was.
func TestConfigure(t *testing.T) {
	c := start(t, nil)
	n := c.Node(pub)
	if err := n.Configure(func(b *Behavior) { b.Outage, b.PageLines = "fire", 7 }); err == nil {
		t.Error("an unknown outage was taken")
	}
	if got := n.Behavior(); !reflect.DeepEqual(got, Behavior{}) {
		t.Errorf("behavior is %+v", got)
	}
	if err := c.Configure(func(b *Behavior) { b.PageLines = 7 }); err != nil || c.Node(imp).Behavior().PageLines != 7 {
		t.Errorf("behavior did not change: %v", err)
	}
}

func BenchmarkCluster(b *testing.B) {
	for b.Loop() {
		c, err := New(options())
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

package dns

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	mdns "github.com/miekg/dns"

	"moonseal/modules/daemontest"
	"moonseal/modules/dns/nameserver"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// These tests run BIND and Knot DNS.

const realSecret = "bW9vbnNlYWwtbGFiLXRzaWctc2VjcmV0LTMyLWJ5dGU="

func realZone() nameserver.Zone { return nameserver.Zone{Name: "example.com", Secret: realSecret} }

// reality is a client whose names lead to daemons.
type reality struct {
	t      *testing.T
	client *Client
	zone   Zone
}

func newReality(t *testing.T, hosts map[string]*daemontest.Daemon, zone Zone) *reality {
	t.Helper()
	zone.Provider, zone.Key = "rfc2136", secret.Handle{Name: "TSIG"}
	zone.Resolvers = []string{"resolver.test"}
	return &reality{t: t, zone: zone, client: New(Options{
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil || hosts[host] == nil {
				return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("no host %s here", addr)}
			}
			var dialer net.Dialer
			return dialer.DialContext(ctx, network, hosts[host].Addr())
		},
		Secret: func(context.Context, secret.Handle) (string, error) { return realSecret, nil },
		Clock:  clockwork.NewRealClock(),
	})}
}

// cycle writes, waits for and removes challenges.
func (r *reality) cycle(challenges []Challenge) {
	t := r.t
	t.Helper()
	plan, done, err := r.client.LookPresent(t.Context(), r.zone, challenges)
	if err != nil || done != nil {
		t.Fatalf("%+v, %v", done, err)
	}
	records, err := r.client.Present(t.Context(), r.zone, plan)
	if err != nil || len(records) != len(challenges) {
		t.Fatalf("%+v, %v", records, err)
	}
	if _, happened, err := r.client.ProbePresent(t.Context(), r.zone, challenges); !happened || err != nil {
		t.Fatalf("probe: %v, %v", happened, err)
	}
	r.propagated(challenges)
	for _, known := range [][]Record{records, nil} {
		if err := r.client.Remove(t.Context(), r.zone, challenges, known, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, happened, err := r.client.ProbePresent(t.Context(), r.zone, challenges); happened || err != nil {
		t.Fatalf("after the removal: %v, %v", happened, err)
	}
}

func (r *reality) propagated(challenges []Challenge) {
	t := r.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), daemontest.Patience)
	defer cancel()
	every := time.NewTicker(500 * time.Millisecond)
	defer every.Stop()
	for {
		ok, reason, err := r.client.Propagated(ctx, r.zone, challenges, Propagation{})
		if ok {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			t.Fatal(reason)
		}
	}
}

// A hidden primary of BIND answers signed questions only; a BIND and a Knot secondary
// learn of changes late.
func TestRealBINDHiddenPrimary(t *testing.T) {
	nameserver.NeedKnot(t)
	zone := realZone()
	primary, ns1, ns2 := daemontest.New(t), daemontest.New(t), daemontest.New(t)
	zone.BINDPrimary(t, primary, "allow-query { key moonseal-key; key xfer; }; notify-delay 1;", `* IN CNAME web.example.net.
_acme-challenge.away IN CNAME away.example.com.
_acme-challenge.loop IN CNAME loop.example.com.
loop IN CNAME _acme-challenge.loop.example.com.
old IN DNAME new.example.com.
`, ns1, ns2)
	zone.BINDSecondary(t, ns1, primary)
	zone.KnotSecondary(t, ns2, primary)
	hosts := map[string]*daemontest.Daemon{"primary.test": primary, "ns1.example.com": ns1, "ns2.example.com": ns2, "resolver.test": ns1}

	for _, key := range []string{"moonseal-key", "MOONSEAL-KEY.", "Moonseal-Key"} {
		t.Run(key, func(t *testing.T) {
			r := newReality(t, hosts, Zone{Name: "example.com", Server: "primary.test", KeyName: key})
			if zones, err := r.client.Check(t.Context(), r.zone, []string{"www.example.com"}); err != nil || !slices.Equal(zones, []string{"example.com"}) {
				t.Fatal(zones, err)
			}
			r.cycle([]Challenge{challenge("www.example.com", digestA), challenge("www.example.com", digestB), challenge("away.example.com", digestA), challenge("pbx.old.example.com", digestB)})
			if records, err := r.client.Records(t.Context(), r.zone, "", "NS"); err != nil || len(records) != 2 {
				t.Errorf("transfer: %v, %v", records, err)
			}
		})
	}
	r := newReality(t, hosts, Zone{Server: "primary.test", KeyName: "moonseal-key"})
	_, _, err := r.client.LookPresent(t.Context(), r.zone, []Challenge{challenge("loop.example.com", digestA)})
	if e := problem.From(err); err == nil || e.Kind != problem.Mismatch || !strings.Contains(e.Message, "form a loop") {
		t.Errorf("loop: %v", err)
	}
	if err := r.client.Watched(t.Context(), r.zone, "example.com"); err != nil {
		t.Errorf("watched: %v", err)
	}
	for _, tt := range []struct {
		zone Zone
		want string
	}{
		{Zone{Name: "example.com", Server: "primary.test", KeyName: "other"}, "BADKEY"},
		{Zone{Name: "example.com", Server: "primary.test", KeyName: "xfer"}, "BADSIG"},
	} {
		r := newReality(t, hosts, tt.zone)
		plan := &Plan{Missing: []Record{{Zone: "example.com", Name: "_acme-challenge.example.com", Type: "TXT", Value: digestA, TTL: time.Minute}}}
		_, err := r.client.Present(t.Context(), r.zone, plan)
		if e := problem.From(err); err == nil || e.Kind != problem.Auth || e.Happened() != problem.NotDone || !strings.Contains(e.Error(), tt.want) {
			t.Errorf("%s: %+v", tt.zone.KeyName, e)
		}
	}
}

// A view that the key chooses shows other records than the default one.
func TestRealBINDViewsByKey(t *testing.T) {
	server, ns := daemontest.New(t), daemontest.New(t)
	server.Write("inside.db", realZone().File(""))
	server.Write("outside.db", realZone().File(""))
	nameserver.StartBIND(t, server, realZone().BINDKeys()+nameserver.BINDOptions(server, "notify no;")+`
view inside { match-clients { key moonseal-key; }; zone "example.com" { type primary; file "inside.db"; allow-update { key moonseal-key; }; }; };
view outside { match-clients { any; }; zone "example.com" { type primary; file "outside.db"; }; };
`)
	ns.Write("example.com.db", realZone().File(""))
	nameserver.StartBIND(t, ns, nameserver.BINDOptions(ns, "notify no;")+`zone "example.com" { type primary; file "example.com.db"; };`)
	r := newReality(t, map[string]*daemontest.Daemon{"primary.test": server, "ns1.example.com": ns, "ns2.example.com": ns, "resolver.test": ns},
		Zone{Name: "example.com", Server: "primary.test", KeyName: "moonseal-key"})
	want := []Challenge{challenge("www.example.com", digestA)}
	plan, _, err := r.client.LookPresent(t.Context(), r.zone, want)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Present(t.Context(), r.zone, plan); err != nil {
		t.Fatal(err)
	}
	if _, happened, err := r.client.ProbePresent(t.Context(), r.zone, want); !happened || err != nil {
		t.Errorf("in the key's view: %v, %v", happened, err)
	}
	a, err := r.client.ask(t.Context(), r.client.named("primary.test:53"), "_acme-challenge.www.example.com", mdns.TypeTXT, false)
	if err != nil || len(a.Answer) != 0 {
		t.Errorf("in the other view: %v, %v", a, err)
	}
	if ok, reason, err := r.client.Propagated(t.Context(), r.zone, want, Propagation{}); ok || err != nil || !strings.Contains(reason, "does not show") {
		t.Errorf("%v, %q, %v", ok, reason, err)
	}
}

// A challenge's name that the parent refers to another server is in that one's zone.
func TestRealBINDDelegatedChallenge(t *testing.T) {
	parent, child := daemontest.New(t), daemontest.New(t)
	parent.Write("example.com.db", realZone().File("_acme-challenge.www IN NS acme.example.net.\n"))
	nameserver.StartBIND(t, parent, nameserver.BINDOptions(parent, "notify no;")+`zone "example.com" { type primary; file "example.com.db"; };`)
	child.Write("acme.db", "$TTL 60\n@ IN SOA acme.example.net. hostmaster.example.net. 1 3600 600 86400 300\n@ IN NS acme.example.net.\n")
	nameserver.StartBIND(t, child, realZone().BINDKeys()+nameserver.BINDOptions(child, "notify no;")+`zone "_acme-challenge.www.example.com" { type primary; file "acme.db"; allow-update { key moonseal-key; }; };`)
	hosts := map[string]*daemontest.Daemon{"acme.example.net": child, "ns1.example.com": parent, "ns2.example.com": parent, "resolver.test": parent}
	r := newReality(t, hosts, Zone{Server: "acme.example.net", KeyName: "MOONSEAL-KEY"})
	r.cycle([]Challenge{challenge("www.example.com", digestA)})
	r.zone.Name = "example.com"
	_, _, err := r.client.LookPresent(t.Context(), r.zone, []Challenge{challenge("www.example.com", digestA)})
	if e := problem.From(err); err == nil || e.Kind != problem.Mismatch || !strings.Contains(e.Message, "a zone of its own") {
		t.Errorf("%v", err)
	}
}

// A Knot primary, with a Knot and a BIND secondary.
func TestRealKnotPrimary(t *testing.T) {
	nameserver.NeedBIND(t)
	zone := realZone()
	primary, ns1, ns2 := daemontest.New(t), daemontest.New(t), daemontest.New(t)
	zone.KnotPrimary(t, primary, "* IN CNAME web.example.net.\n_acme-challenge.away IN CNAME away.example.com.\n", ns1, ns2)
	zone.KnotSecondary(t, ns1, primary)
	zone.BINDSecondary(t, ns2, primary)
	hosts := map[string]*daemontest.Daemon{"primary.test": primary, "ns1.example.com": ns1, "ns2.example.com": ns2, "resolver.test": ns1}
	for _, key := range []string{"moonseal-key", "MOONSEAL-KEY"} {
		r := newReality(t, hosts, Zone{Name: "example.com", Server: "primary.test", KeyName: key})
		r.cycle([]Challenge{challenge("www.example.com", digestA), challenge("away.example.com", digestB)})
	}
}

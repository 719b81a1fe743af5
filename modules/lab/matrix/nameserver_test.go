package matrix

import (
	"fmt"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"moonseal/modules/daemontest"
	"moonseal/modules/dns/nameserver"
	"moonseal/modules/lab"
	"moonseal/runtime/journal"
)

const primaryName = "primary.automate.builders"

// nameservers are a hidden primary and the two servers that the zone names.
type nameservers struct {
	zone              nameserver.Zone
	primary, ns1, ns2 *daemontest.Daemon
}

// newNameservers returns a site that lives with them, of which none runs yet. The CA asks
// ns2, the one that learns of changes last.
func newNameservers(t *testing.T, change ...func(*lab.Options)) (*site, *nameservers) {
	t.Helper()
	n := &nameservers{primary: daemontest.New(t), ns1: daemontest.New(t), ns2: daemontest.New(t)}
	s := newSite(t, append(change, func(o *lab.Options) {
		o.DNS = n.ns2.Addr()
		o.Hosts = map[string]string{
			primaryName + ":53": n.primary.Addr(), "ns1." + lab.Domain + ":53": n.ns1.Addr(), "ns2." + lab.Domain + ":53": n.ns2.Addr(),
		}
	})...)
	n.zone = nameserver.Zone{Name: lab.Domain, Secret: s.world.Env("TSIG_KEY")}
	return s, n
}

// dropIn writes with a key of this name.
func (n *nameservers) dropIn(key string) dropIn {
	return dropIn{zone: fmt.Sprintf(`{ provider = "rfc2136", server = %q, key_name = %q, key = secret "TSIG_KEY" }`, primaryName, key)}
}

// left returns the TXT records that the primary has.
func (n *nameservers) left(t *testing.T) (out []string) {
	t.Helper()
	m := new(mdns.Msg)
	m.SetAxfr(lab.Domain + ".")
	m.SetTsig(nameserver.Key+".", mdns.HmacSHA256, 300, time.Now().Unix())
	tr := &mdns.Transfer{TsigSecret: map[string]string{nameserver.Key + ".": n.zone.Secret}}
	answers, err := tr.In(m, n.primary.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for a := range answers {
		if a.Error != nil {
			t.Fatal(a.Error)
		}
		for _, rr := range a.RR {
			if rr.Header().Rrtype == mdns.TypeTXT {
				out = append(out, rr.String())
			}
		}
	}
	return out
}

// renewals run the whole pipeline, with the name of the TSIG key in different cases.
func (n *nameservers) renewals(t *testing.T, s *site) {
	t.Helper()
	for _, key := range []string{nameserver.Key, strings.ToUpper(nameserver.Key) + "."} {
		t.Run(key, func(t *testing.T) {
			s.reset(t)
			r := s.renewal(t, n.dropIn(key), patient())
			if out := r.toTheEnd(t); out.Status != journal.Done {
				t.Fatalf("%s: %v", out.Status, out.Error)
			}
			l := s.look(t)
			r.spotless(t, l)
			if len(l.Certificates) != 1 || l.Served[pub] != l.Installed[pub] || l.Served[pub] != l.Certificates[0].SHA256 {
				t.Errorf("%d certificates; installed %s, served %s", len(l.Certificates), l.Installed[pub], l.Served[pub])
			}
			if left := n.left(t); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if e := r.errors(); len(e) > 0 {
				t.Errorf("went wrong on the way: %v", e)
			}
		})
	}
}

// A hidden primary that is BIND, answers signed questions only and notifies its
// secondaries of changes late; one is BIND, the other Knot. The CA is strict and refuses every second
// nonce.
func TestPipelineWithBIND(t *testing.T) {
	nameserver.NeedBIND(t)
	nameserver.NeedKnot(t)
	s, n := newNameservers(t, func(o *lab.Options) { o.Strict, o.NonceReject = true, 50 })
	n.zone.BINDPrimary(t, n.primary, "allow-query { key moonseal-key; key xfer; }; notify-delay 2;", "", n.ns1, n.ns2)
	n.zone.BINDSecondary(t, n.ns1, n.primary)
	n.zone.KnotSecondary(t, n.ns2, n.primary)
	n.renewals(t, s)
}

// A BIND that has a view of its own for requests signed with the key; its secondaries follow
// that one.
func TestPipelineWithBINDViews(t *testing.T) {
	nameserver.NeedBIND(t)
	s, n := newNameservers(t)
	n.primary.Write("inside.db", n.zone.File(""))
	n.primary.Write("outside.db", n.zone.File(""))
	nameserver.StartBIND(t, n.primary, n.zone.BINDKeys()+nameserver.BINDOptions(n.primary, "notify-delay 1;")+fmt.Sprintf(`
view inside { match-clients { key moonseal-key; key xfer; };
	zone %[1]q { type primary; file "inside.db"; notify explicit; also-notify { 127.0.0.1 port %[2]s; 127.0.0.1 port %[3]s; };
		allow-transfer { key xfer; key moonseal-key; }; update-policy { grant moonseal-key zonesub TXT; }; }; };
view outside { match-clients { any; }; zone %[1]q { type primary; file "outside.db"; notify no; }; };
`, lab.Domain, n.ns1.Port, n.ns2.Port))
	n.zone.BINDSecondary(t, n.ns1, n.primary)
	n.zone.BINDSecondary(t, n.ns2, n.primary)
	n.renewals(t, s)
}

// A hidden primary that is Knot, whose NOTIFY reaches one of its secondaries late.
func TestPipelineWithKnot(t *testing.T) {
	nameserver.NeedBIND(t)
	nameserver.NeedKnot(t)
	s, n := newNameservers(t)
	n.zone.KnotPrimary(t, n.primary, "", n.ns1, late(t, n.ns2, 2*time.Second))
	n.zone.BINDSecondary(t, n.ns1, n.primary)
	n.zone.KnotSecondary(t, n.ns2, n.primary)
	n.renewals(t, s)
}

// late returns what passes connections on to a daemon after a delay.
func late(t *testing.T, to *daemontest.Daemon, delay time.Duration) *daemontest.Daemon {
	t.Helper()
	d := daemontest.New(t)
	r := &relay{to: to.Addr(), late: delay}
	r.listen(t, d.Addr())
	return d
}

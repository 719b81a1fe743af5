package dnstest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/miekg/dns"

	"moonseal/modules/faults"
)

func start(t *testing.T, opt Options) *World {
	t.Helper()
	if opt.Zones == nil {
		opt.Zones = []string{"example.com", "sub.example.com", "acme.example.net"}
	}
	w, err := Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func ask(t *testing.T, network, addr, name string, typ uint16) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), typ)
	c := dns.Client{Net: network, Timeout: 5 * time.Second}
	a, _, err := c.Exchange(q, addr)
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.TypeToString[typ], err)
	}
	return a
}

// line returns an answer as one line: RCODE, flags, and the answers' data.
func line(a *dns.Msg) string {
	parts := []string{dns.RcodeToString[a.Rcode]}
	if a.Authoritative {
		parts = append(parts, "aa")
	}
	if a.Truncated {
		parts = append(parts, "tc")
	}
	for _, rr := range a.Answer {
		r := recordOf(rr)
		parts = append(parts, r.Type+"="+r.Value)
	}
	if len(a.Answer) == 0 && len(a.Ns) > 0 {
		parts = append(parts, "soa "+a.Ns[0].Header().Name)
	}
	return strings.Join(parts, " ")
}

func mustAdd(t *testing.T, w *World, name, typ, value string) {
	t.Helper()
	if _, err := w.Add(Record{Name: name, Type: typ, Value: value}); err != nil {
		t.Fatal(err)
	}
}

func TestAnswers(t *testing.T) {
	w := start(t, Options{})
	mustAdd(t, w, "www.example.com", "A", "192.0.2.1")
	mustAdd(t, w, "a.b.example.com", "AAAA", "2001:db8::1")
	mustAdd(t, w, "_acme-challenge.www.example.com", "CNAME", "www.acme.example.net.")
	mustAdd(t, w, "www.acme.example.net", "TXT", `quo"te \ and ü`)
	mustAdd(t, w, "out.example.com", "CNAME", "elsewhere.test.")
	tests := []struct{ name, typ, want string }{
		{"www.example.com", "A", "NOERROR aa A=192.0.2.1"},
		{"WWW.Example.COM", "A", "NOERROR aa A=192.0.2.1"},
		{"www.example.com", "TXT", "NOERROR aa soa example.com."},
		{"b.example.com", "A", "NOERROR aa soa example.com."}, // an empty non-terminal
		{"none.example.com", "A", "NXDOMAIN aa soa example.com."},
		{"none.sub.example.com", "A", "NXDOMAIN aa soa sub.example.com."},
		{"_acme-challenge.www.example.com", "TXT", `NOERROR aa CNAME=www.acme.example.net. TXT=quo"te \ and ü`},
		{"_acme-challenge.www.example.com", "CNAME", "NOERROR aa CNAME=www.acme.example.net."},
		{"out.example.com", "A", "NOERROR aa CNAME=elsewhere.test."},
		{"ns2.example.com", "A", "NOERROR aa A=127.0.0.1"},
		{"example.com", "NS", "NOERROR aa NS=ns1.example.com. NS=ns2.example.com."},
		{"elsewhere.test", "A", "REFUSED"},
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, tt := range tests {
			if got := line(ask(t, network, w.Server(1), tt.name, dns.StringToType[tt.typ])); got != tt.want {
				t.Errorf("%s: %s %s: got %s, want %s", network, tt.name, tt.typ, got, tt.want)
			}
		}
	}
	if got := line(ask(t, "tcp", w.Resolver(), "elsewhere.test", dns.TypeA)); got != "NXDOMAIN soa ." {
		t.Errorf("resolver: %s", got)
	}
	if soa := ask(t, "udp", w.Server(1), "example.com", dns.TypeSOA).Answer[0].(*dns.SOA); soa.Serial != 6 {
		t.Errorf("serial %d after five changes, want 6", soa.Serial)
	}
}

func TestTruncatesOverUDP(t *testing.T) {
	w := start(t, Options{})
	for i := range 12 {
		mustAdd(t, w, "big.example.com", "TXT", fmt.Sprintf("%02d%s", i, strings.Repeat("x", 60)))
	}
	if a := ask(t, "udp", w.Server(1), "big.example.com", dns.TypeTXT); !a.Truncated {
		t.Error("a big answer over UDP is not truncated")
	}
	if a := ask(t, "tcp", w.Server(1), "big.example.com", dns.TypeTXT); a.Truncated || len(a.Answer) != 12 {
		t.Errorf("over TCP: truncated %v, %d answers", a.Truncated, len(a.Answer))
	}
}

func TestPropagation(t *testing.T) {
	clock := clockwork.NewFakeClock()
	w := start(t, Options{Clock: clock, PropagationDelay: []time.Duration{0, time.Minute}})
	mustAdd(t, w, "x.example.com", "TXT", "v")
	see := func() []string {
		var out []string
		for _, addr := range []string{w.Server(1), w.Server(2), w.Resolver()} {
			out = append(out, strings.Fields(line(ask(t, "udp", addr, "x.example.com", dns.TypeTXT)))[0])
		}
		return out
	}
	if got := see(); !slices.Equal(got, []string{"NOERROR", "NXDOMAIN", "NXDOMAIN"}) {
		t.Errorf("at once: %v", got)
	}
	clock.Advance(time.Minute)
	if got := see(); !slices.Equal(got, []string{"NOERROR", "NOERROR", "NOERROR"}) {
		t.Errorf("after the delay: %v", got)
	}
	if n := w.Remove("X.example.com.", "TXT", "v"); n != 1 {
		t.Errorf("removed %d", n)
	}
	if got := see(); !slices.Equal(got, []string{"NXDOMAIN", "NOERROR", "NOERROR"}) {
		t.Errorf("after removal: %v", got)
	}
	w.SetPropagationDelay(2, 0)
	if got := see(); !slices.Equal(got, []string{"NXDOMAIN", "NXDOMAIN", "NXDOMAIN"}) {
		t.Errorf("without delay: %v", got)
	}
	l := w.TXT()
	if len(l.Present) != 0 || len(l.History) != 2 || l.History[0].Action != "add" || l.History[1].Action != "remove" ||
		l.History[1].Text != (Text{"x.example.com", "v"}) || !l.History[1].At.Equal(clock.Now()) {
		t.Errorf("ledger: %+v", l)
	}
}

func TestResolverCachesAbsence(t *testing.T) {
	clock := clockwork.NewFakeClock()
	w := start(t, Options{Clock: clock, NegativeTTL: time.Minute})
	if got := line(ask(t, "tcp", w.Resolver(), "x.example.com", dns.TypeTXT)); got != "NXDOMAIN soa example.com." {
		t.Error(got)
	}
	mustAdd(t, w, "x.example.com", "TXT", "v")
	if got := line(ask(t, "tcp", w.Resolver(), "x.example.com", dns.TypeTXT)); got != "NXDOMAIN soa example.com." {
		t.Errorf("absence is not cached: %s", got)
	}
	clock.Advance(time.Minute)
	if got := line(ask(t, "tcp", w.Resolver(), "x.example.com", dns.TypeTXT)); got != "NOERROR TXT=v" {
		t.Errorf("absence is cached for too long: %s", got)
	}
}

func TestQueryFaults(t *testing.T) {
	set := faults.New()
	w := start(t, Options{Faults: set})
	for _, f := range []faults.Fault{
		{Call: "dns.query", Kind: faults.Status},
		{Call: "dns.query", Kind: faults.Status, Code: dns.RcodeRefused},
		{Call: "dns.query.ns2", Kind: faults.Status},
	} {
		if _, err := set.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, n := range []int{1, 1, 1, 2} {
		got = append(got, strings.Fields(line(ask(t, "udp", w.Server(n), "example.com", dns.TypeSOA)))[0])
	}
	if !slices.Equal(got, []string{"SERVFAIL", "REFUSED", "NOERROR", "SERVFAIL"}) {
		t.Error(got)
	}
	if _, err := set.Add(faults.Fault{Call: "dns.query.ns1", Kind: faults.Reset}); err != nil {
		t.Fatal(err)
	}
	c := dns.Client{Net: "tcp"}
	if _, _, err := c.Exchange(new(dns.Msg).SetQuestion("example.com.", dns.TypeSOA), w.Server(1)); err == nil {
		t.Error("a reset gave an answer")
	}
}

// A question that is held when its client goes away is dropped.
func TestHeldQuestionIsDropped(t *testing.T) {
	set := faults.New()
	w := start(t, Options{Faults: set})
	id, err := set.Add(faults.Fault{Call: "dns.query", Kind: faults.HoldBefore})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := net.Dial("tcp", w.Server(1))
	if err != nil {
		t.Fatal(err)
	}
	conn := dns.Conn{Conn: raw}
	if err := conn.WriteMsg(new(dns.Msg).SetQuestion("example.com.", dns.TypeSOA)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := set.WaitHeld(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	for set.List()[0].Held {
		if ctx.Err() != nil {
			t.Fatal("still held")
		}
	}
}

func TestDialRefusesOthers(t *testing.T) {
	w := start(t, Options{})
	if _, err := w.Dial(t.Context(), "tcp", "api.example.org:443"); err == nil {
		t.Error("dialled out of the world")
	}
}

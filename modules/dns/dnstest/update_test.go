package dnstest

import (
	"testing"
	"time"

	"github.com/libdns/libdns"
	"github.com/libdns/rfc2136"
	"github.com/miekg/dns"
)

func rfcProvider(w *World) *rfc2136.Provider {
	c := w.Credentials()
	return &rfc2136.Provider{KeyName: c.TSIGName, KeyAlg: c.TSIGAlgorithm, Key: c.TSIGSecret, Server: w.Server(1)}
}

func TestUpdateRoundTrip(t *testing.T) {
	w := start(t, Options{})
	p := rfcProvider(w)
	txt := []libdns.Record{libdns.TXT{Name: "_acme-challenge.a", TTL: time.Minute, Text: "one"}, libdns.TXT{Name: "_acme-challenge.a", TTL: time.Minute, Text: "two"}}
	for range 2 { // a second time changes nothing, RFC 2136 section 3.4.2.2
		if _, err := p.AppendRecords(t.Context(), "example.com.", txt); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.TXT(); len(got.Present) != 2 || len(got.History) != 2 {
		t.Fatalf("%+v", got)
	}
	all, err := p.GetRecords(t.Context(), "example.com.")
	if err != nil || len(all) != 8 { // SOA, 2 NS, 2 A, 2 TXT, and the SOA that closes
		t.Fatalf("transfer: %d records, %v", len(all), err)
	}
	if _, err := p.DeleteRecords(t.Context(), "example.com.", txt[:1]); err != nil {
		t.Fatal(err)
	}
	if got := w.TXT().Present; len(got) != 1 || got[0].Value != "two" {
		t.Fatalf("%+v", got)
	}
}

func TestUpdateIsStrict(t *testing.T) {
	w := start(t, Options{NoTransfer: true})
	c := w.Credentials()
	send := func(zone, owner, key, secret string) string {
		m := new(dns.Msg).SetUpdate(dns.Fqdn(zone))
		rr, err := dns.NewRR(owner + ` 60 IN TXT "v"`)
		if err != nil {
			t.Fatal(err)
		}
		m.Insert([]dns.RR{rr})
		client := dns.Client{Net: "tcp"}
		if key != "" {
			client.TsigSecret = map[string]string{dns.Fqdn(key): secret}
			m.SetTsig(dns.Fqdn(key), dns.HmacSHA256, 300, time.Now().Unix())
		}
		a, _, err := client.Exchange(m, w.Server(1))
		if a == nil {
			t.Fatal(err)
		}
		out := dns.RcodeToString[a.Rcode]
		if ts := a.IsTsig(); ts != nil && ts.Error != 0 {
			out += " " + dns.RcodeToString[int(ts.Error)]
		}
		return out
	}
	const other = "b3RoZXItc2VjcmV0LW90aGVyLXNlY3JldC1vdGhlcg=="
	for _, tt := range []struct{ zone, owner, key, secret, want string }{
		{"example.com", "a.example.com.", "", "", "REFUSED"},
		{"example.com", "a.example.com.", "other", other, "NOTAUTH BADKEY"},
		{"example.com", "a.example.com.", c.TSIGName, other, "NOTAUTH BADSIG"},
		{"example.org", "a.example.org.", c.TSIGName, c.TSIGSecret, "NOTAUTH"},
		{"example.com", "a.example.org.", c.TSIGName, c.TSIGSecret, "NOTZONE"},
		{"example.com", "a.sub.example.com.", c.TSIGName, c.TSIGSecret, "NOTZONE"},
		{"example.com", "a.example.com.", c.TSIGName, c.TSIGSecret, "NOERROR"},
	} {
		if got := send(tt.zone, tt.owner, tt.key, tt.secret); got != tt.want {
			t.Errorf("%s in %s by %q: got %s, want %s", tt.owner, tt.zone, tt.key, got, tt.want)
		}
	}
	if got := len(w.TXT().History); got != 1 {
		t.Errorf("%d changes, want 1", got)
	}
	if _, err := rfcProvider(w).GetRecords(t.Context(), "example.com."); err == nil {
		t.Error("a transfer that is refused succeeded")
	}
}

package dns

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	mdns "github.com/miekg/dns"

	"moonseal/modules/dns/dnstest"
	"moonseal/modules/faults"
	"moonseal/runtime/problem"
)

const (
	digestA = "gfj9Xq-Rg85nM_QpQ0mF3zSx1v0bXUj3k2TqYwL9aBc"
	digestB = "2kT-u7WcJ5mN_0dQhE8sVx4yZ6lR1pG3oBfAaKiCjDe"
)

// texts returns the values that the world holds at a name, sorted.
func (s *scene) texts(name string) []string {
	var out []string
	for _, x := range s.TXT().Present {
		if x.Name == name {
			out = append(out, x.Value)
		}
	}
	slices.Sort(out)
	return out
}

func TestPresentAndRemove(t *testing.T) {
	forEach(t, func(t *testing.T, s *scene, z Zone) {
		s.add("_acme-challenge.www.example.com", "TXT", "foreign")
		want := []Challenge{challenge("www.example.com", digestA), challenge("www.example.com", digestB), challenge("mail.example.com", digestA)}
		records := s.mustPresent(z, want)
		if len(records) != 3 {
			t.Fatalf("%+v", records)
		}
		if got := s.texts("_acme-challenge.www.example.com"); !slices.Equal(got, []string{digestB, "foreign", digestA}) {
			t.Fatalf("present: %v", got)
		}
		if ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{}); !ok || err != nil {
			t.Errorf("propagated: %v, %q, %v", ok, reason, err)
		}

		// A second time finds the work done, and nothing is doubled.
		_, done, err := s.client.LookPresent(t.Context(), z, want)
		if err != nil || len(done) != 3 {
			t.Fatalf("a second look: %+v, %v", done, err)
		}
		if n := len(s.TXT().History); n != 4 {
			t.Errorf("%d changes, want 4", n)
		}

		// Another process removes with what the journal kept.
		raw, err := json.Marshal(records)
		if err != nil {
			t.Fatal(err)
		}
		var kept []Record
		if err := json.Unmarshal(raw, &kept); err != nil || !reflect.DeepEqual(kept, records) {
			t.Fatalf("round trip: %+v, %v", kept, err)
		}
		for range 2 { // what is gone is not an error
			if err := s.fresh().Remove(t.Context(), z, want, kept, nil); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.TXT().Present; len(got) != 1 || got[0].Value != "foreign" {
			t.Errorf("left: %+v", got)
		}
	})
}

// A plan that is carried out twice, as after a crash, doubles nothing.
func TestPresentTwiceByOnePlan(t *testing.T) {
	forEach(t, func(t *testing.T, s *scene, z Zone) {
		want := []Challenge{challenge("www.example.com", digestA), challenge("www.example.com", digestB)}
		plan, _, err := s.client.LookPresent(t.Context(), z, want)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			records, err := s.fresh().Present(t.Context(), z, plan)
			if err != nil || len(records) != 2 {
				t.Fatalf("%+v, %v", records, err)
			}
		}
		if l := s.TXT(); len(l.Present) != 2 || len(l.History) != 2 {
			t.Errorf("%+v", l)
		}
	})
}

func TestLostAnswerIsFoundByTheProbe(t *testing.T) {
	forEach(t, func(t *testing.T, s *scene, z Zone) {
		want := []Challenge{challenge("www.example.com", digestA)}
		s.fault(faults.Fault{Call: op(z.Provider, "create"), Kind: faults.Lost})
		_, err := s.present(z, want)
		if e := problem.From(err); err == nil || e.Happened() != problem.Unknown || !e.Kind.Retryable() {
			t.Fatalf("lost answer: %+v", e)
		}
		records, happened, err := s.fresh().ProbePresent(t.Context(), z, want)
		if err != nil || !happened || len(records) != 1 {
			t.Fatalf("probe: %+v, %v, %v", records, happened, err)
		}
		// The undo knows no records.
		s.fault(faults.Fault{Call: op(z.Provider, "delete"), Kind: faults.Lost})
		if err := s.fresh().Remove(t.Context(), z, want, nil, nil); err == nil {
			t.Error("a lost answer to the removal is not an error")
		}
		if err := s.fresh().Remove(t.Context(), z, want, nil, nil); err != nil {
			t.Fatal(err)
		}
		if l := s.TXT(); len(l.Present) != 0 || len(l.History) != 2 {
			t.Errorf("%+v", l)
		}
	})
}

func TestCutRequestDidNotHappen(t *testing.T) {
	forEach(t, func(t *testing.T, s *scene, z Zone) {
		want := []Challenge{challenge("www.example.com", digestA), challenge("mail.example.com", digestB)}
		s.fault(faults.Fault{Call: op(z.Provider, "create"), Kind: faults.Reset, Skip: 1})
		_, err := s.present(z, want)
		if e := problem.From(err); err == nil || e.Happened() != problem.Unknown {
			t.Fatalf("%+v", e)
		}
		if _, happened, err := s.client.ProbePresent(t.Context(), z, want); happened || err != nil {
			t.Fatalf("probe of half the work: %v, %v", happened, err)
		}
		if got := s.mustPresent(z, want); len(got) != 2 {
			t.Fatalf("%+v", got)
		}
		if l := s.TXT(); len(l.Present) != 2 || len(l.History) != 2 {
			t.Errorf("%+v", l)
		}
	})
}

// A refusal of the second write does not hide the first one.
func TestRefusalAfterHalfTheWorkIsUnknown(t *testing.T) {
	forEach(t, func(t *testing.T, s *scene, z Zone) {
		code := http.StatusBadRequest
		if z.Provider == "rfc2136" {
			code = mdns.RcodeRefused
		}
		s.fault(faults.Fault{Call: op(z.Provider, "create"), Kind: faults.Status, Code: code, Skip: 1})
		_, err := s.present(z, []Challenge{challenge("www.example.com", digestA), challenge("mail.example.com", digestB)})
		if e := problem.From(err); err == nil || e.Happened() != problem.Unknown {
			t.Fatalf("%+v", e)
		}
	})
}

func TestHeldValuesStay(t *testing.T) {
	forEach(t, func(t *testing.T, s *scene, z Zone) {
		want := []Challenge{challenge("www.example.com", digestA), challenge("www.example.com", digestB)}
		records := s.mustPresent(z, want)
		held := func(key string) bool { return key == "_acme-challenge.www.example.com "+digestA }
		for _, known := range [][]Record{records, nil} {
			if err := s.client.Remove(t.Context(), z, want, known, held); err != nil {
				t.Fatal(err)
			}
			if got := s.texts("_acme-challenge.www.example.com"); !slices.Equal(got, []string{digestA}) {
				t.Errorf("%v", got)
			}
		}
	})
}

func TestDelegatedByCNAME(t *testing.T) {
	forEach(t, func(t *testing.T, s *scene, z Zone) {
		z.Name = "acme.example.net"
		s.add("_acme-challenge.www.example.com", "CNAME", "hop.example.com.")
		s.add("hop.example.com", "CNAME", "www.acme.example.net.")
		want := []Challenge{challenge("WWW.example.com", digestA)}
		records := s.mustPresent(z, want)
		if got := s.texts("www.acme.example.net"); !slices.Equal(got, []string{digestA}) {
			t.Fatalf("%+v", s.TXT())
		}
		if records[0].Zone != "acme.example.net" || records[0].Name != "www.acme.example.net" {
			t.Errorf("%+v", records)
		}
		if ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{Resolvers: []string{dnstest.ResolverHost}}); !ok || err != nil {
			t.Errorf("%v, %q, %v", ok, reason, err)
		}
		if err := s.client.Remove(t.Context(), z, want, nil, nil); err != nil {
			t.Fatal(err)
		}
		if got := s.TXT().Present; len(got) != 0 {
			t.Errorf("left: %+v", got)
		}
	})
}

func TestZoneIsFoundBySOA(t *testing.T) {
	s := newScene(t, dnstest.Options{Zones: []string{"example.com", "sub.example.com", "acme.example.net"}})
	z := zoneAt("cloudflare")
	z.Name = ""
	s.add("_acme-challenge.b.example.com", "CNAME", "b.acme.example.net.")
	records := s.mustPresent(z, []Challenge{challenge("a.sub.example.com", digestA), challenge("b.example.com", digestA), challenge("c.d.example.com", digestA)})
	var zones []string
	for _, r := range records {
		zones = append(zones, r.Zone)
	}
	if !slices.Equal(zones, []string{"sub.example.com", "acme.example.net", "example.com"}) {
		t.Errorf("%v", zones)
	}
}

func TestNamesThatCannotBeServed(t *testing.T) {
	s := newScene(t, dnstest.Options{})
	s.add("_acme-challenge.away.example.com", "CNAME", "x.acme.example.net.")
	s.add("_acme-challenge.loop.example.com", "CNAME", "loop.example.com.")
	s.add("loop.example.com", "CNAME", "_acme-challenge.loop.example.com.")
	named, found := zoneAt("cloudflare"), zoneAt("cloudflare")
	found.Name = ""
	for _, tt := range []struct {
		zone Zone
		name string
		kind problem.Kind
		want string
	}{
		{named, "away.example.com", problem.Mismatch, "a CNAME leads to x.acme.example.net, which is not in the zone example.com"},
		{named, "x.acme.example.net", problem.Mismatch, "the name is not in the zone example.com"},
		{found, "loop.example.com", problem.Mismatch, "its CNAMEs form a loop: _acme-challenge.loop.example.com -> loop.example.com -> _acme-challenge.loop.example.com"},
		{found, "nowhere.test", problem.NotFound, "no zone holds this name"},
		{found, "b ad", problem.Usage, "is not a valid domain name"},
	} {
		_, err := s.present(tt.zone, []Challenge{challenge(tt.name, digestA)})
		if e := problem.From(err); err == nil || e.Kind != tt.kind || !strings.Contains(e.Error(), tt.want) || e.Happened() != problem.NotDone {
			t.Errorf("%s: %v, want %s %q", tt.name, err, tt.kind, tt.want)
		}
	}
	for _, bad := range []Challenge{{}, challenge("a.example.com", ""), challenge("a.example.com", `a"b`), challenge("a.example.com", "a\nb")} {
		if _, err := s.present(named, []Challenge{bad}); problem.From(err).Kind != problem.Usage {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if out, err := s.present(named, nil); err != nil || len(out) != 0 {
		t.Errorf("no challenges: %v, %v", out, err)
	}
	if n := s.requests.n.Load(); n != 0 {
		t.Errorf("the API was asked %d times", n)
	}
}

// Runs are processes of their own: no lock of ours keeps them apart.
func TestRunsAtTheSameTimeAtOneName(t *testing.T) {
	forEach(t, func(t *testing.T, s *scene, z Zone) {
		values := []string{"one", "two", "three", "four"}
		clients := make([]*Client, len(values))
		for i := range values {
			clients[i] = s.fresh()
		}
		errs := make([]error, len(values))
		var all sync.WaitGroup
		for i, v := range values {
			all.Go(func() {
				plan, _, err := clients[i].LookPresent(t.Context(), z, []Challenge{challenge("www.example.com", v)})
				if err == nil {
					_, err = clients[i].Present(t.Context(), z, plan)
				}
				errs[i] = err
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		if got := s.texts("_acme-challenge.www.example.com"); len(got) != 4 {
			t.Errorf("%v", got)
		}
	})
}

// A record that a lost answer has doubled is removed with its twin.
func TestDigitalOceanRemovesTwins(t *testing.T) {
	s := newScene(t, dnstest.Options{})
	z := zoneAt("digitalocean")
	want := []Challenge{challenge("www.example.com", digestA)}
	records := s.mustPresent(z, want)
	s.add("_acme-challenge.www.example.com", "TXT", digestA)
	if err := s.client.Remove(t.Context(), z, want, records, nil); err != nil {
		t.Fatal(err)
	}
	if got := s.TXT().Present; len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
}

func TestRecords(t *testing.T) {
	forEach(t, func(t *testing.T, s *scene, z Zone) {
		s.add("a.example.com", "TXT", "one")
		s.add("a.example.com", "A", "192.0.2.1")
		s.add("b.example.com", "TXT", "two")
		for range 120 {
			s.add("many.example.com", "TXT", strings.Repeat("x", 1+len(s.Records())))
		}
		for _, tt := range []struct {
			name, typ string
			want      int
		}{{"a.example.com", "TXT", 1}, {"A.example.com.", "", 2}, {"", "A", 1}, {"", "TXT", 122}, {"c.example.com", "TXT", 0}} {
			got, err := s.client.Records(t.Context(), z, tt.name, tt.typ)
			n := 0
			for _, r := range got {
				if !strings.HasPrefix(r.Name, "ns") { // a transfer shows the name servers' addresses too
					n++
				}
			}
			if err != nil || n != tt.want {
				t.Errorf("%q %q: %d records, %v, want %d", tt.name, tt.typ, n, err, tt.want)
			}
		}
		got, err := s.client.Records(t.Context(), z, "a.example.com", "TXT")
		if err != nil || len(got) != 1 || got[0].Value != "one" || got[0].Zone != "example.com" || got[0].Name != "a.example.com" || got[0].TTL != defaultTTL {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

package dns

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"moonseal/modules/dns/dnstest"
	"moonseal/modules/faults"
	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
)

func TestPropagatedAsksAllServers(t *testing.T) {
	s := newScene(t, dnstest.Options{Servers: 3, PropagationDelay: []time.Duration{0, time.Minute, 2 * time.Minute}})
	z := zoneAt("cloudflare")
	want := []Challenge{challenge("www.example.com", digestA), challenge("www.example.com", digestB)}
	expect := func(wantOK bool, wantReason string) {
		t.Helper()
		ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{})
		if ok != wantOK || reason != wantReason || err != nil {
			t.Errorf("got %v, %q, %v; want %v, %q", ok, reason, err, wantOK, wantReason)
		}
	}
	const name = "_acme-challenge.www.example.com"
	expect(false, fmt.Sprintf("ns1.example.com does not show %[1]s yet; ns2.example.com does not show %[1]s yet; ns3.example.com does not show %[1]s yet", name))
	s.mustPresent(z, want[:1])
	expect(false, fmt.Sprintf("ns1.example.com shows only 1 of 2 values of %[1]s; ns2.example.com does not show %[1]s yet; ns3.example.com does not show %[1]s yet", name))
	s.mustPresent(z, want)
	s.clock.Advance(time.Minute)
	expect(false, fmt.Sprintf("ns3.example.com does not show %s yet", name))
	s.clock.Advance(time.Minute)
	expect(true, "")
}

func TestPropagatedWithTroubledServers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault faults.Fault
		want  string
	}{
		{"failing", faults.Fault{Kind: faults.Status}, "ns2.example.com answers SERVFAIL for _acme-challenge.www.example.com"},
		{"refusing", faults.Fault{Kind: faults.Status, Code: 5}, "ns2.example.com answers REFUSED for _acme-challenge.www.example.com"},
		{"silent", faults.Fault{Kind: faults.Timeout}, "ns2.example.com does not answer: no answer in time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, dnstest.Options{})
			z, want := zoneAt("cloudflare"), []Challenge{challenge("www.example.com", digestA)}
			s.mustPresent(z, want)
			tt.fault.Call, tt.fault.Times = "dns.query.ns2", -1
			s.fault(tt.fault)
			ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{})
			if ok || reason != tt.want || err != nil {
				t.Errorf("%v, %q, %v", ok, reason, err)
			}
			s.faults.Clear()
			if ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{}); !ok || err != nil {
				t.Errorf("afterwards: %v, %q, %v", ok, reason, err)
			}
		})
	}
}

// UDP that does not get through is made up for by TCP.
func TestPropagatedOverTCP(t *testing.T) {
	s := newScene(t, dnstest.Options{})
	z, want := zoneAt("cloudflare"), []Challenge{challenge("www.example.com", digestA)}
	s.mustPresent(z, want)
	for i := range 40 { // more than fits into a datagram
		s.add("_acme-challenge.www.example.com", "TXT", strconv.Itoa(i)+strings.Repeat("x", 60))
	}
	if ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{}); !ok || err != nil {
		t.Errorf("truncated: %v, %q, %v", ok, reason, err)
	}
	s.fault(faults.Fault{Call: "dns.query.ns1", Kind: faults.Reset}) // the CNAME question, over UDP
	if ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{}); !ok || err != nil {
		t.Errorf("lost datagram: %v, %q, %v", ok, reason, err)
	}
}

func TestPropagatedAtResolvers(t *testing.T) {
	s := newScene(t, dnstest.Options{NegativeTTL: time.Minute})
	z, want := zoneAt("cloudflare"), []Challenge{challenge("www.example.com", digestA)}
	both := Propagation{Resolvers: []string{dnstest.ResolverHost}}
	only := Propagation{Mode: "resolvers", Resolvers: both.Resolvers}

	// Asked too early, the resolver would cache the absence: it is asked only once the
	// servers show the value.
	if ok, _, err := s.client.Propagated(t.Context(), z, want, both); ok || err != nil {
		t.Fatal(ok, err)
	}
	s.mustPresent(z, want)
	if ok, reason, err := s.client.Propagated(t.Context(), z, want, both); !ok || err != nil {
		t.Errorf("%v, %q, %v", ok, reason, err)
	}

	other := []Challenge{challenge("mail.example.com", digestB)}
	if ok, reason, err := s.client.Propagated(t.Context(), z, other, only); ok || err != nil || reason != "resolver.test does not show _acme-challenge.mail.example.com yet" {
		t.Errorf("%v, %q, %v", ok, reason, err)
	}
	s.mustPresent(z, other)
	if ok, _, err := s.client.Propagated(t.Context(), z, other, only); ok || err != nil {
		t.Error("the resolver did not remember the absence", err)
	}
	s.clock.Advance(time.Minute)
	if ok, reason, err := s.client.Propagated(t.Context(), z, other, only); !ok || err != nil {
		t.Errorf("%v, %q, %v", ok, reason, err)
	}
	// Unless set it is the zone's resolvers, here the config's.
	if ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{Mode: "resolvers"}); !ok || err != nil {
		t.Errorf("%v, %q, %v", ok, reason, err)
	}
}

func TestLookupsThatFail(t *testing.T) {
	s := newScene(t, dnstest.Options{})
	z, want := zoneAt("cloudflare"), []Challenge{challenge("www.example.com", digestA)}
	s.fault(faults.Fault{Call: "dns.query.resolver", Kind: faults.Status, Times: -1})
	_, _, err := s.client.Propagated(t.Context(), z, want, Propagation{})
	if e := problem.From(err); err == nil || e.Kind != problem.Unavailable || !strings.Contains(e.Error(), "resolver.test:53 answered SERVFAIL") {
		t.Errorf("%v", err)
	}
	s.faults.Clear()
	z.Name = "nowhere.test"
	_, _, err = s.client.LookPresent(t.Context(), z, []Challenge{challenge("nowhere.test", digestA)})
	if e := problem.From(err); err == nil || e.Kind != problem.NotFound || !strings.Contains(e.Error(), "has no name servers") {
		t.Errorf("%v", err)
	}
	z.Name = "example.com"
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.client.Propagated(ctx, z, want, Propagation{}); err == nil {
		t.Error("a cancelled question has an answer")
	}
	z.Resolvers = []string{"not a host"}
	if _, _, err := s.client.Propagated(t.Context(), z, want, Propagation{}); problem.From(err).Kind != problem.Usage {
		t.Errorf("%v", err)
	}
}

// If no authoritative server can be reached the resolvers show a CNAME.
func TestCNAMEBehindAFirewall(t *testing.T) {
	s := newScene(t, dnstest.Options{})
	z := zoneAt("cloudflare")
	z.Name, z.Propagation.Mode = "acme.example.net", "resolvers"
	s.add("_acme-challenge.www.example.com", "CNAME", "www.acme.example.net.")
	for _, call := range []string{"dns.query.ns1", "dns.query.ns2"} {
		s.fault(faults.Fault{Call: call, Kind: faults.Reset, Times: -1})
	}
	records := s.mustPresent(z, []Challenge{challenge("www.example.com", digestA)})
	if records[0].Name != "www.acme.example.net" {
		t.Errorf("%+v", records)
	}
}

// The process is killed in a wait for nothing but time, or freed in it: the next one
// waits for what is left since the start of the poll, and a clock that was ahead then
// does not make it longer.
func TestWaitIsNotRestarted(t *testing.T) {
	s := newScript(t, dnstest.Options{})
	z, want := zoneAt("cloudflare"), []Challenge{challenge("a.example.com", digestA)}
	z.Propagation = Propagation{Mode: modeWait, Wait: 2 * time.Minute}
	began := s.clock.Now()
	// ask asks in a process of its own.
	ask := func(pollBegan time.Time) bind.Verdict {
		t.Helper()
		b := &binding{settings: &Settings{}}
		c := &bind.Call{Context: t.Context(), Clock: s.clock, Network: s.net, PollBegan: pollBegan}
		v, err := b.propagated().Impl.Run(c, &z, &propagatedArgs{Challenges: want, Options: propagatedOptions{Authoritative: true}})
		if err != nil {
			t.Fatal(err)
		}
		return v.(bind.Verdict)
	}
	for _, tt := range []struct {
		after     time.Duration
		pollBegan time.Time
		want      string
	}{
		{0, began, "nothing is asked for another 2m"},
		{90 * time.Second, began, "nothing is asked for another 30s"},
		{90 * time.Second, began.Add(time.Hour), "nothing is asked for another 2m"},
		{90 * time.Second, time.Time{}, "nothing is asked for another 2m"},
		{2 * time.Minute, began, ""},
	} {
		s.clock.Advance(began.Add(tt.after).Sub(s.clock.Now()))
		if v := ask(tt.pollBegan); v.OK != (tt.want == "") || v.Reason != tt.want {
			t.Errorf("after %s of a poll from %s: %+v", tt.after, tt.pollBegan, v)
		}
	}
}

package matrix

import (
	"strings"
	"testing"
	"time"

	"moonseal/modules/faults"
	"moonseal/modules/lab"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// An account that is rate limited is left alone for as long as the CA says.
func TestRateLimitedAccount(t *testing.T) {
	s := newSite(t)
	r := s.renewal(t, dropIn{}, patient())
	limit := s.fault(t, faults.Fault{
		Call: "acme.new-order", Kind: faults.Status, Code: 429, Times: -1, Header: map[string]string{"Retry-After": "10800"},
		Body: `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many new orders (300) from this account in the last 3h0m0s"}`,
	})
	out, id := r.begin(t)
	for range 2 {
		e := out.Error
		if out.Status != journal.Waiting || e == nil || e.Kind != problem.RateLimited || !strings.Contains(e.Error(), "acme.Account:order: acme-v02.api.letsencrypt.org: ") ||
			!strings.Contains(e.Server, "too many new orders") {
			t.Fatalf("%+v: %v", out, e)
		}
		if wait := out.Until.Sub(r.clock.Now()); wait < 3*time.Hour-time.Minute || wait > 3*time.Hour {
			t.Errorf("it comes again in %s", wait)
		}
		out = r.proceed(t, out, id)
	}
	if n := s.hits(limit); n != 3 {
		t.Errorf("asked %d times", n)
	}
	s.world.Faults().Clear()
	if out = r.proceed(t, out, id); out.Status != journal.Done {
		t.Fatalf("%+v: %v", out, out.Error)
	}
	r.spotless(t, s.look(t))
}

// A CA that stays down is asked after 1, 10 and 100 minutes, then daily, and
// given up after a week.
func TestGivesUpAfterAWeek(t *testing.T) {
	s := newSite(t)
	r := s.renewal(t, dropIn{}, patient())
	s.fault(t, faults.Fault{Call: "acme.new-order", Kind: faults.Status, Code: 503, Times: -1, Body: body("acme.new-order", 503)})
	out, waits := r.patiently(t)
	if got := strings.Join(waits, " "); got != "1m0s 10m0s 1h40m0s"+strings.Repeat(" 24h0m0s", 7) {
		t.Errorf("waited %s", got)
	}
	e := out.Error
	if out.Status != journal.Failed || e == nil || !strings.HasPrefix(e.Message, "given up after 7d of trying: answered 503") || !strings.Contains(e.Server, words) {
		t.Fatalf("%+v: %v", out, e)
	}
	r.spotless(t, s.look(t))
}

// An order does not live as long as a run continues: a CA that was down for a day
// has forgotten it. The challenge's record stays until then, and no longer.
func TestOrderThatExpiresInAnOutage(t *testing.T) {
	s := newSite(t)
	r := s.renewal(t, dropIn{}, patient())
	s.fault(t, faults.Fault{Call: "acme.challenge", Kind: faults.Status, Code: 503, Times: -1, Body: body("acme.challenge", 503)})
	out, waits := r.patiently(t)
	if got := strings.Join(waits, " "); got != "1m0s 10m0s 1h40m0s 24h0m0s" {
		t.Errorf("waited %s", got)
	}
	if out.Status != journal.Failed || out.Error.Kind != problem.OrderGone || !strings.Contains(out.Error.Hint, "a new run places a new one") {
		t.Fatalf("%+v: %v", out, out.Error)
	}
	r.spotless(t, s.look(t))
}

// patiently continues after each wait, until the run has ended.
func (r *renewal) patiently(t *testing.T) (out *run.Outcome, waits []string) {
	t.Helper()
	presented := len(r.world.DNS.TXT().Present)
	out, id := r.begin(t)
	for ; out.Status == journal.Waiting && len(waits) < 20; out = r.proceed(t, out, id) {
		if now := len(r.world.DNS.TXT().Present); now < presented {
			t.Error("cleaned up though the run continues")
		} else {
			presented = now
		}
		waits = append(waits, out.Until.Sub(r.clock.Now()).Round(time.Minute).String())
	}
	return out, waits
}

// A CA that reuses a proof asks for none: nothing is published, and the renewal
// goes through the same steps.
func TestReusedAuthorization(t *testing.T) {
	s := newSite(t, func(o *lab.Options) { o.AuthzReuse = 100 })
	for i := range 2 {
		s.reset(t)
		r := s.renewal(t, dropIn{}, patient())
		if out := r.toTheEnd(t); out.Status != journal.Done {
			t.Fatalf("%s: %v", out.Status, out.Error)
		}
		s.keepAccount(t, r.state)
		l := s.look(t)
		if published := len(l.TXT.History) > 0; published != (i == 0) {
			t.Errorf("renewal %d: %+v", i, l.TXT.History)
		}
		r.spotless(t, l)
	}
}

// A CA that asks for a later retry is asked later, in the same step.
func TestCAThatTakesItsTime(t *testing.T) {
	s := newSite(t, func(o *lab.Options) { o.RetryAuthz, o.RetryOrder = 20, 20 })
	r := s.renewal(t, dropIn{}, patient())
	began := r.clock.Now()
	if out := r.toTheEnd(t); out.Status != journal.Done {
		t.Fatalf("%s: %v", out.Status, out.Error)
	}
	// A Retry-After that is a date has whole seconds.
	if e := r.errors(); len(e) > 0 || r.clock.Since(began) < 19*time.Second {
		t.Errorf("after %s: %v", r.clock.Since(began), e)
	}
	r.spotless(t, s.look(t))
}

// The pipeline goes through unchanged with CAs that are strict, and that keep to the
// letter of the protocol in less usual ways.
func TestCAsOfOtherKinds(t *testing.T) {
	const eab = `eab = { kid = "lab", hmac = secret "EAB_HMAC" }`
	all := func(o *lab.Options) {
		o.Strict, o.NonceReject, o.RequireEAB, o.StandardEAB, o.AlternateRoots, o.RelativeLinks = true, 50, true, true, 2, true
	}
	for name, tc := range map[string]struct {
		ca     string
		change func(*lab.Options)
	}{
		"strict":              {"", func(o *lab.Options) { o.Strict = true }},
		"half of the nonces":  {"", func(o *lab.Options) { o.NonceReject = 50 }},
		"binding":             {eab, func(o *lab.Options) { o.RequireEAB = true }},
		"binding in base64":   {eab, func(o *lab.Options) { o.RequireEAB, o.StandardEAB = true, true }},
		"alternate roots":     {`preferred_chain = "no such root"`, func(o *lab.Options) { o.AlternateRoots = 2 }},
		"relative links":      {`preferred_chain = "no such root"`, func(o *lab.Options) { o.RelativeLinks, o.AlternateRoots = true, 2 }},
		"a day for its order": {"", func(o *lab.Options) { o.RetryOrder = 86400 }},
		"all of them":         {eab + `, preferred_chain = "no such root"`, all},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, tc.change)
			r := s.renewal(t, dropIn{ca: tc.ca}, patient())
			began := r.clock.Now()
			if out := r.toTheEnd(t); out.Status != journal.Done {
				t.Fatalf("%s: %v", out.Status, out.Error)
			}
			if took := r.clock.Since(began); took > time.Hour {
				t.Errorf("took %s", took)
			}
			r.spotless(t, s.look(t))
		})
	}
}

// A provider that is down when a run cleans up: the run ends well, and what is
// left is known until it is gone.
func TestCleanUpThatFails(t *testing.T) {
	s := newSite(t)
	r := s.renewal(t, dropIn{}, patient())
	s.fault(t, faults.Fault{Call: "dns.cloudflare.delete", Kind: faults.Status, Code: 503, Times: -1, Body: body("dns.cloudflare.delete", 503)})
	out, id := r.begin(t)
	undos, err := r.journal.Undos(t.Context(), journal.UndoPending)
	if out.Status != journal.Done || err != nil || len(undos) != 1 || len(s.world.DNS.TXT().Present) != 1 {
		t.Fatalf("%+v, %+v, %v", out, undos, err)
	}
	if u := undos[0]; len(u.Holds) != 1 || !strings.HasPrefix(u.Holds[0], "_acme-challenge."+pub+" ") || !strings.Contains(u.Error.Server, words) || u.Error.Target != "api.cloudflare.com" {
		t.Errorf("it is kept as %+v: %v", u, u.Error)
	}
	alerted := false
	for _, rec := range r.seen() {
		line, ok := rec.(journal.Logged)
		alerted = alerted || ok && line.Level == "error" && strings.Contains(string(line.Fields), "moonseal cleanup")
	}
	if !alerted {
		t.Error("the log does not say what to do")
	}
	s.world.Faults().Clear()
	r.job.Mode = run.Cleanup
	if _, err := r.parent.Resume(t.Context(), r.job, id); err != nil {
		t.Fatal(err)
	}
	r.spotless(t, s.look(t))
}

package acme

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/faults"
	"moonseal/modules/x509"
	"moonseal/runtime/account"
	"moonseal/runtime/problem"
)

// asked is a CA whose answers to questions for a window are set, and which counts them,
// and all requests.
type asked struct {
	status  int
	body    string
	header  http.Header
	err     error
	windows int
	all     int
}

func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	a.all++
	res, err := ari(func() (int, string, error) {
		a.windows++
		return a.status, a.body, a.err
	}).RoundTrip(r)
	if err == nil && strings.Contains(r.URL.Path, "/ari/") && a.header != nil {
		res.Header = a.header
	}
	return res, err
}

// nextRun decides as the process of a run does that begins at now.
func (a *asked) nextRun(t *testing.T, store Store, directory string, cert *x509.Certificate, now time.Time) *Renewal {
	t.Helper()
	return must(a.process(t, store, directory, now).Renewal(t.Context(), cert, RenewalOptions{}))(t)
}

func (a *asked) process(t *testing.T, store Store, directory string, now time.Time) *Client {
	t.Helper()
	c := must(New(CA{Directory: directory}, Options{Clock: clockwork.NewFakeClockAt(now), Store: store}))(t)
	c.transport = a
	return c
}

const someDirectory = "https://ca.example/dir"

// After an answer that will not change soon, no run asks that CA about that certificate
// for six hours (RFC 9773 section 4.3.3), and each says so.
func TestALongTermErrorIsAskedForOnceInSixHours(t *testing.T) {
	now := time.Date(2026, 11, 1, 3, 17, 0, 0, time.UTC)
	ca := newIssuer(t, "Ours")
	cert, other := ca.issue(now.Add(-40*day), 90*day), ca.issue(now.Add(-41*day), 90*day)
	for name, tt := range map[string]struct {
		ca   asked
		word string
	}{
		"404":              {asked{status: 404}, "answered 404 Not Found"},
		"404 and document": {asked{status: 404, body: `{"type":"urn:ietf:params:acme:error:malformed","detail":"no such certificate"}`}, "no such certificate"},
		"404, Retry-After": {asked{status: 404, header: http.Header{"Retry-After": {"60"}}}, "answered 404 Not Found"},
		"400":              {asked{status: 400}, "answered 400 Bad Request"},
		"403":              {asked{status: 403}, "answered 403 Forbidden"},
		"HTML page":        {asked{status: 200, body: "<!DOCTYPE html><html>Sign in</html>"}, "is malformed"},
		"204":              {asked{status: 204}, "is malformed"},
		"no window":        {asked{status: 200, body: `{}`}, "the CA's renewal window is not valid"},
		"window reversed":  {asked{status: 200, body: acmetest.RenewalInfo(now, now.Add(-day))}, "the CA's renewal window is not valid"},
		"endless":          {asked{status: 200, body: strings.Repeat("x", maxAnswer+1)}, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca, store := &tt.ca, account.Open(t.TempDir(), "")
			check := func(what string, r *Renewal, windows int) {
				t.Helper()
				if ca.windows != windows {
					t.Errorf("%s: asked %d times, expected %d", what, ca.windows, windows)
				}
				if r.Due || r.Source != byLifetime || !strings.Contains(r.ARIError, tt.word) {
					t.Errorf("%s: %+v", what, r)
				}
			}
			r := ca.nextRun(t, store, someDirectory, cert, now)
			check("first", r, 1)
			if !r.LookAgain.Equal(now.Add(6*time.Hour)) || !strings.HasSuffix(r.ARIError, "; not asked again before 2026-11-01 09:17 UTC") {
				t.Errorf("%v, %s", r.LookAgain, r.ARIError)
			}
			ca.all = 0
			again := ca.nextRun(t, store, someDirectory, cert, now.Add(6*time.Hour-time.Second))
			check("within six hours", again, 1)
			if ca.all != 0 || again.ARIError != r.ARIError || !again.LookAgain.Equal(r.LookAgain) || !again.At.Equal(r.At) {
				t.Errorf("%d requests, %+v", ca.all, again)
			}
			check("another certificate", ca.nextRun(t, store, someDirectory, other, now), 2)
			check("another directory", ca.nextRun(t, store, "https://ca.example/other", cert, now), 3)
			check("after six hours", ca.nextRun(t, store, someDirectory, cert, now.Add(6*time.Hour)), 4)
		})
	}
}

// What may be gone at the next question is asked for again in the next run, or when the
// CA says, but for at most six hours.
func TestATemporaryErrorIsAskedForAgain(t *testing.T) {
	now := time.Date(2026, 11, 1, 3, 17, 0, 0, time.UTC)
	cert := newIssuer(t, "Ours").issue(now.Add(-40*day), 90*day)
	in := func(seconds string) http.Header { return http.Header{"Retry-After": {seconds}} }
	for name, tt := range map[string]struct {
		ca   asked
		wait time.Duration
	}{
		"503":                         {asked{status: 503}, 0},
		"503 in no time":              {asked{status: 503, header: in("0")}, 0},
		"503 in an hour":              {asked{status: 503, header: in("3600")}, time.Hour},
		"503 in a day":                {asked{status: 503, header: in("86400")}, 6 * time.Hour},
		"429":                         {asked{status: 429}, 0},
		"429 in an hour":              {asked{status: 429, header: in("3600")}, time.Hour},
		"408":                         {asked{status: 408}, 0},
		"rate limited as a 403":       {asked{status: 403, body: `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"slower"}`}, 0},
		"reset":                       {asked{err: errors.New("connection reset")}, 0},
		"a proxy refuses to connect":  {asked{err: &problem.Error{Kind: problem.Auth, Status: 407, Target: "proxy p.example:3128", Message: "answered 407"}}, 0},
		"it has a window (no error)":  {asked{status: 200, body: acmetest.RenewalInfo(now.Add(10*day), now.Add(11*day))}, 0},
		"and says when to look again": {asked{status: 200, body: acmetest.RenewalInfo(now.Add(10*day), now.Add(11*day)), header: in("3600")}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca, store := &tt.ca, account.Open(t.TempDir(), "")
			r := ca.nextRun(t, store, someDirectory, cert, now)
			shown := strings.Contains(r.ARIError, "not asked again before "+moment(now.Add(tt.wait)))
			if shown != (tt.wait > 0) || tt.wait > 0 && !r.LookAgain.Equal(now.Add(tt.wait)) {
				t.Errorf("%+v", r)
			}
			if tt.wait > 0 {
				ca.nextRun(t, store, someDirectory, cert, now.Add(tt.wait-time.Second))
			}
			if ca.windows != 1 {
				t.Errorf("asked %d times before it was time", ca.windows)
			}
			if ca.nextRun(t, store, someDirectory, cert, now.Add(tt.wait)); ca.windows != 2 {
				t.Errorf("asked %d times in two runs", ca.windows)
			}
		})
	}
}

// A moment that was kept while the clock was ahead, or a file that is damaged, keeps no
// run from asking; neither does one that cannot be written.
func TestWhatIsKeptIsNotTrustedBlindly(t *testing.T) {
	now := time.Date(2026, 11, 1, 3, 17, 0, 0, time.UTC)
	cert := newIssuer(t, "Ours").issue(now.Add(-40*day), 90*day)
	ca, dir := &asked{status: 404}, t.TempDir()
	store := account.Open(dir, "")
	ca.nextRun(t, store, someDirectory, cert, now.Add(30*day))
	if ca.nextRun(t, store, someDirectory, cert, now); ca.windows != 2 {
		t.Errorf("the clock was ahead: asked %d times", ca.windows)
	}
	path := filepath.Join(dir, "accounts", "_acme", "ca.example", "dir", "renewal-info.json")
	if err := os.WriteFile(path, []byte(`{"a`), 0o600); err != nil {
		t.Fatal(err)
	}
	if ca.nextRun(t, store, someDirectory, cert, now); ca.windows != 3 {
		t.Errorf("a damaged file: asked %d times", ca.windows)
	}
	full := unwritable{store}
	for n := range 2 {
		r := ca.nextRun(t, full, "https://ca.example/other", cert, now)
		if ca.windows != 4+n || strings.Contains(r.ARIError, "not asked again") || !strings.Contains(r.ARIError, "404") {
			t.Errorf("asked %d times: %+v", ca.windows, r)
		}
	}
}

type unwritable struct{ *account.Store }

func (unwritable) SaveDeferral(string, string, account.Deferral, time.Time) error {
	return errors.New("disk full")
}

func (unwritable) Deferral(string, string, time.Time) (account.Deferral, error) {
	return account.Deferral{}, errors.New("i/o error")
}

// An order asks as little whether the CA knows the certificate that it replaces.
func TestAnOrderDoesNotAskWhatIsPostponed(t *testing.T) {
	now := time.Date(2026, 11, 1, 3, 17, 0, 0, time.UTC)
	cert := newIssuer(t, "Ours").issue(now.Add(-40*day), 90*day)
	ca, store := &asked{status: 404}, account.Open(t.TempDir(), "")
	replaces := func() string {
		c := ca.process(t, store, someDirectory, now)
		dir := must(c.getDirectory(t.Context()))(t)
		return c.replaces(context.WithoutCancel(t.Context()), dir, cert, false)
	}
	for range 2 {
		if id := replaces(); id != "" || ca.windows != 1 {
			t.Errorf("%q, asked %d times", id, ca.windows)
		}
	}
	if ca.nextRun(t, store, someDirectory, cert, now); ca.windows != 1 {
		t.Errorf("the decision asks again: %d times", ca.windows)
	}
}

// A forced run is due, asked for or not.
func TestForceNeedsNoWindow(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	cert := w.issue(w.client(), newCSR(t, "", "a.example.com"), nil)
	w.fault(faults.Fault{Call: "acme.renewal-info", Kind: faults.Status, Code: 404, Times: -1})
	for _, force := range []bool{false, true, true} {
		s := newScript(t, w)
		s.force = force
		s.clock = clockwork.NewFakeClockAt(cert.NotBefore.Add(40 * day))
		s.global("cert", cert)
		if err := s.run(`r = acme.ca { directory = "letsencrypt", email = "admin@example.com" }:renewal(cert)`); err != nil {
			t.Fatal(err)
		}
		want := `assert(not r.due and not r.forced)`
		if force {
			want = `assert(r.due and r.forced)`
		}
		if err := s.run(want + ` assert(r.ari_error:find("not asked again before", 1, true), r.ari_error)`); err != nil {
			t.Error(err)
		}
	}
	if n := w.faults.List()[0].Hits; n != 1 {
		t.Errorf("asked %d times", n)
	}
}

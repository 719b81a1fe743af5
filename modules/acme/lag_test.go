package acme

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/faults"
	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// patient is for how long a client polls whose clock is quick: Pebble needs its time.
const patient = time.Hour

// stale changes the first answers under one path: a replica that is behind.
type stale struct {
	next  http.RoundTripper
	path  string
	times atomic.Int64 // answers that are still changed; negative: all
	edit  func(status int, body string) (int, string)
}

func (s *stale) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := s.next.RoundTrip(r)
	if err != nil || !strings.HasPrefix(r.URL.Path, s.path) || s.times.Load() == 0 {
		return res, err
	}
	s.times.Add(-1)
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	code, text := s.edit(res.StatusCode, string(body))
	res.StatusCode, res.Body = code, io.NopCloser(bytes.NewReader([]byte(text)))
	return res, err
}

// behind returns a client whose CA answers so under path, times times.
func (w *testCA) behind(path string, times int64, edit func(status int, body string) (int, string)) *Client {
	c := w.client()
	s := &stale{next: c.transport, path: path, edit: edit}
	s.times.Store(times)
	c.transport = s
	return c
}

// pendingOrder is the order as it was before its names were validated.
func pendingOrder(status int, body string) (int, string) {
	return status, strings.NewReplacer(`"status": "ready"`, `"status": "pending"`, `"status": "invalid"`, `"status": "pending"`).Replace(body)
}

// What a CA named a moment ago may be unknown to the replica that is asked.
func TestReplicasThatAreBehind(t *testing.T) {
	w := newTestCA(t, acmetest.Options{AlternateRoots: 1})
	w.spec.PreferredChain = must(x509.Parse(w.RootPEMs()[1]))(t).Subject
	for call, documents := range map[string][]string{
		"acme.new-order":     {"", "<html>not found</html>", `{"type":"urn:ietf:params:acme:error:accountDoesNotExist","detail":"no such account"}`},
		"acme.authorization": {"", "<html>not found</html>"},
		"acme.order":         {"", "<html>not found</html>"},
		"acme.challenge":     {"", "<html>not found</html>"},
		"acme.finalize":      {"", "<html>not found</html>"},
		"acme.certificate":   {"", "<html>not found</html>"},
	} {
		for i, document := range documents {
			t.Run(fmt.Sprint(call, i), func(t *testing.T) {
				w := &testCA{CA: w.CA, t: t, faults: w.faults, store: accountStore(t), spec: w.spec, opts: w.opts}
				w.opts.Store, w.opts.Clock, w.opts.Within = w.store, newQuick(), patient
				w.faults.Clear()
				w.fault(faults.Fault{Call: call, Kind: faults.Status, Code: 404, Body: document, Times: 7})
				before := len(w.ledger().Certificates)
				cert := w.issue(w.client(), newCSR(t, "", "a.example.com", "b.example.com"), nil)
				if n := len(w.ledger().Certificates) - before; n != 1 || cert.Root != w.RootPEMs()[1] {
					t.Errorf("%d certificates", n)
				}
				if n := len(w.requests("POST sign-me-up")); n != 1 {
					t.Errorf("registered %d times", n)
				}
				if left := w.faults.List(); left[0].Hits != 7 {
					t.Errorf("%d of 7 answers came", left[0].Hits)
				}
			})
		}
	}
}

// An order is not lost for what stays unknown: the next attempt continues with it.
func TestWhatStaysUnknownIsAskedForLater(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	w.opts.Clock, w.opts.Within = newQuick(), patient
	ctx, csr := t.Context(), newCSR(t, "", "a.example.com")
	acct := must(w.client().Account(ctx))(t)
	order := must(w.client().Order(ctx, acct, OrderRequest{CSR: csr}))(t)
	must(w.client().Validate(ctx, acct, order))(t)
	for name, f := range map[string]faults.Fault{
		"unknown": {Kind: faults.Status, Code: 404, Times: -1},
		"a page":  {Kind: faults.Status, Code: 200, Body: "<html>Sign in</html>"},
	} {
		w.faults.Clear()
		f.Call = "acme.certificate"
		w.fault(f)
		start := w.opts.Clock.Now()
		_, err := w.client().Finalize(ctx, acct, order, csr)
		if p := wantKind(t, err, problem.Unavailable, "certificate"); p.Happened() != problem.Unknown {
			t.Errorf("%s: %+v", name, p)
		}
		if took := w.opts.Clock.Since(start); name == "unknown" && (took < lagTime || took > lagTime+time.Minute) {
			t.Errorf("%s: asked for %v", name, took)
		}
	}
	w.faults.Clear()
	must(w.client().Finalize(ctx, acct, order, csr))(t)
	if n := len(w.ledger().Certificates); n != 1 {
		t.Errorf("%d certificates", n)
	}
}

// A URL that was good for longer than a replica is behind, is gone.
func TestWhatIsOldIsGoneAtOnce(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	clock := newQuick()
	w.opts.Clock = clock
	ctx, c := t.Context(), w.client()
	acct := must(c.Account(ctx))(t)
	order := must(c.Order(ctx, acct, OrderRequest{CSR: newCSR(t, "", "a.example.com")}))(t)
	must(c.Get(ctx, acct, order.URL))(t)
	clock.Advance(lagTime + time.Second)
	w.requests("")
	w.fault(faults.Fault{Call: "acme.order", Kind: faults.Status, Code: 404, Times: -1})
	_, err := c.Get(ctx, acct, order.URL)
	wantKind(t, err, problem.OrderGone)
	if n := len(w.requests("POST my-order")); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// An order may follow its authorizations late.
func TestOrderThatIsStillPending(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	w.opts.Clock, w.opts.Within = newQuick(), patient
	ctx := t.Context()
	acct := must(w.client().Account(ctx))(t)
	const notReady = `{"type":"urn:ietf:params:acme:error:orderNotReady","detail":"Order's status (\"pending\") is not acceptable for finalization"}`
	for _, names := range [][]string{{"a.example.com"}, {"a.example.com", "b.example.com"}} {
		csr := newCSR(t, "", names...)
		order := must(w.client().Order(ctx, acct, OrderRequest{CSR: csr}))(t)
		c := w.behind("/my-order", 12, pendingOrder)
		if o := must(c.Validate(ctx, acct, order))(t); o.Status != "ready" {
			t.Errorf("%v: %+v", names, o)
		}
		w.faults.Clear()
		w.fault(faults.Fault{Call: "acme.finalize", Kind: faults.Status, Code: 403, Body: notReady, Times: 3})
		must(c.Finalize(ctx, acct, order, csr))(t)

		order = must(w.client().Order(ctx, acct, OrderRequest{CSR: csr}))(t)
		must(w.client().Validate(ctx, acct, order))(t)
		must(w.behind("/my-order", 12, pendingOrder).Finalize(ctx, acct, order, csr))(t)
	}
	if n := len(w.ledger().Certificates); n != 4 {
		t.Errorf("%d certificates", n)
	}
}

// An order that stays pending though its names are validated is not a script's fault.
func TestOrderThatStaysPending(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	w.opts.Clock, w.opts.Within = newQuick(), patient
	ctx, csr := t.Context(), newCSR(t, "", "a.example.com")
	acct := must(w.client().Account(ctx))(t)
	order := must(w.client().Order(ctx, acct, OrderRequest{CSR: csr}))(t)
	must(w.client().Validate(ctx, acct, order))(t)
	_, err := w.behind("/my-order", -1, pendingOrder).Finalize(ctx, acct, order, csr)
	wantKind(t, err, problem.Timeout, "the order")
}

// An authorization's own state decides over its order's.
func TestAuthorizationDecidesOverItsOrder(t *testing.T) {
	zone := newZone(t)
	w := newTestCA(t, acmetest.Options{DNSAddr: zone.addr})
	clock := newQuick()
	w.opts.Clock, w.opts.Within = clock, patient
	ctx := t.Context()
	acct := must(w.client().Account(ctx))(t)
	for _, names := range [][]string{{"alone.example.com"}, {"bad.example.com", "good.example.com"}} {
		csr := newCSR(t, "", names...)
		order := must(w.client().Order(ctx, acct, OrderRequest{CSR: csr}))(t)
		for _, ch := range order.Challenges {
			if ch.Identifier == "good.example.com" {
				zone.publish(ch)
			}
		}
		start := clock.Now()
		_, err := w.behind("/my-order", -1, pendingOrder).Validate(ctx, acct, order)
		p := wantKind(t, err, problem.Refused, names[0], "unauthorized", "TXT")
		if p.Target != names[0] || clock.Since(start) > patient/2 {
			t.Errorf("after %v: %+v", clock.Since(start), p)
		}
		for what, look := range map[string]func(*Client) error{
			"Validated": func(c *Client) error { _, err := c.Validated(ctx, acct, order); return err },
			"Validate":  func(c *Client) error { _, err := c.Validate(ctx, acct, order); return err },
			"Finalize":  func(c *Client) error { _, err := c.Finalize(ctx, acct, order, csr); return err },
		} {
			p := wantKind(t, look(w.behind("/my-order", -1, pendingOrder)), problem.Refused, "unauthorized")
			if p.Target != names[0] {
				t.Errorf("%s: %+v", what, p)
			}
		}
	}
}

// An authorization that has ended without a word names its name.
func TestAuthorizationThatHasEnded(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	w.opts.Clock = newQuick()
	ctx := t.Context()
	acct := must(w.client().Account(ctx))(t)
	order := must(w.client().Order(ctx, acct, OrderRequest{CSR: newCSR(t, "", "a.example.com")}))(t)
	for _, status := range []string{"deactivated", "expired", "revoked", "invalid"} {
		c := w.behind("/authZ", -1, func(code int, body string) (int, string) {
			return code, strings.Replace(body, `"status": "pending"`, `"status": "`+status+`"`, 1)
		})
		_, err := c.Validate(ctx, acct, order)
		if p := wantKind(t, err, problem.OrderGone, "the authorization is "+status); p.Target != "a.example.com" {
			t.Errorf("%+v", p)
		}
	}
}

// authorization is what a CA shows of the order's only name.
func authorization(o *Order, status, problem string) string {
	ch := o.Challenges[0]
	return fmt.Sprintf(`{"status":%q,"identifier":{"type":"dns","value":%q},"challenges":[{"type":"dns-01","status":%[1]q,"url":%[3]q,"token":%[4]q,"error":%[5]s}]}`,
		status, ch.Identifier, ch.URL, ch.Token, problem)
}

// step-ca leaves a challenge pending with an error in it, until it is answered again.
func TestChallengeThatStaysPendingWithAnError(t *testing.T) {
	const words = "error looking up TXT records for domain a.example.com: no such host"
	w := newTestCA(t, acmetest.Options{})
	clock, log := newQuick(), &logged{}
	w.opts.Clock = clock
	ctx := withLogger(t.Context(), slog.New(slog.NewTextHandler(log, nil)))
	acct := must(w.client().Account(ctx))(t)
	for name, tc := range map[string]struct {
		document string
		times    int // answers of the CA's; -1: for good
		answers  int
	}{
		"fixed":     {`{"type":"urn:ietf:params:acme:error:dns","detail":"` + words + `"}`, 15, 2},
		"not":       {`{"type":"urn:ietf:params:acme:error:dns","detail":"` + words + `"}`, -1, 4},
		"forbidden": {`{"type":"urn:ietf:params:acme:error:caa","detail":"` + words + `"}`, -1, 1},
	} {
		w.faults.Clear()
		order := must(w.client().Order(ctx, acct, OrderRequest{CSR: newCSR(t, "", name+".example.com")}))(t) // a name of its own: Pebble reuses one authorization in a hundred
		w.requests("")
		w.fault(faults.Fault{Call: "acme.authorization", Kind: faults.Status, Code: 200, Body: authorization(order, "pending", tc.document), Times: tc.times})
		w.opts.Within = time.Minute
		if tc.times > 0 {
			w.opts.Within = patient
		}
		c := w.client()
		c.remember(order)
		_, err := c.Validate(ctx, acct, order)
		if tc.times < 0 {
			wantKind(t, err, problem.Timeout, words)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := len(w.requests("POST chalZ")); n < tc.answers || tc.answers == 1 && n > 1 || n > 6 {
			t.Errorf("%s: answered %d times", name, n)
		}
	}
	if n := strings.Count(log.String(), words); n != 3 {
		t.Errorf("logged %d times: %s", n, log)
	}
}

// What a CA says of a name for good is shown with its subproblems, which decide.
func TestCompoundProblemOfAChallenge(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	w.opts.Clock = newQuick()
	ctx := t.Context()
	acct := must(w.client().Account(ctx))(t)
	order := must(w.client().Order(ctx, acct, OrderRequest{CSR: newCSR(t, "", "a.example.com")}))(t)
	w.fault(faults.Fault{Call: "acme.authorization", Kind: faults.Status, Code: 200, Times: -1, Body: authorization(order, "invalid", `{
		"type":"urn:ietf:params:acme:error:compound","detail":"two perspectives failed","subproblems":[
		{"type":"urn:ietf:params:acme:error:dns","detail":"SERVFAIL for TXT","identifier":{"type":"dns","value":"a.example.com"}}]}`)})
	_, err := w.client().Validate(ctx, acct, order)
	if p := wantKind(t, err, problem.Refused, "two perspectives failed", "SERVFAIL for TXT", "name servers"); p.Target != "a.example.com" {
		t.Errorf("%+v", p)
	}
}

// A refusal of what was sent may come after the CA took it.
func TestRefusedThoughItHappened(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	w.opts.Clock, w.opts.Within = newQuick(), patient
	ctx, csr := t.Context(), newCSR(t, "", "a.example.com")
	acct := must(w.client().Account(ctx))(t)
	refused := func(int, string) (int, string) {
		return http.StatusConflict, `{"type":"urn:ietf:params:acme:error:conflict","detail":"another request is at it"}`
	}
	order := must(w.client().Order(ctx, acct, OrderRequest{CSR: csr}))(t)
	must(w.behind("/chalZ", 1, refused).Validate(ctx, acct, order))(t)
	must(w.behind("/finalize-order", 1, refused).Finalize(ctx, acct, order, csr))(t)
	if l := w.ledger(); len(l.Certificates) != 1 || len(l.Orders) != 1 {
		t.Errorf("%d certificates of %d orders", len(l.Certificates), len(l.Orders))
	}
	// One that did not happen is an error.
	order = must(w.client().Order(ctx, acct, OrderRequest{CSR: newCSR(t, "", "b.example.com")}))(t)
	w.fault(faults.Fault{Call: "acme.challenge", Kind: faults.Status, Code: 403})
	_, err := w.client().Validate(ctx, acct, order)
	wantKind(t, err, problem.Auth, "unauthorized")
}

// An alternate chain that cannot be downloaded costs nothing but a warning.
func TestAlternateThatCannotBeHad(t *testing.T) {
	w := newTestCA(t, acmetest.Options{AlternateRoots: 2})
	log := &logged{}
	ctx := withLogger(t.Context(), slog.New(slog.NewTextHandler(log, nil)))
	acct := must(w.client().Account(ctx))(t)
	for name, edit := range map[string]func(int, string) (int, string){
		"404": func(int, string) (int, string) {
			return 404, `{"type":"urn:ietf:params:acme:error:malformed","detail":"no"}`
		},
		"503":  func(int, string) (int, string) { return 503, "" },
		"page": func(int, string) (int, string) { return 200, "<html>" },
	} {
		for preferred, want := range map[int]int{1: 0, 2: 2} { // the first alternate cannot be downloaded
			w.spec.PreferredChain = must(x509.Parse(w.RootPEMs()[preferred]))(t).Subject
			w.opts.Clock, w.opts.Within = newQuick(), patient
			csr := newCSR(t, "", "a.example.com")
			order := must(w.client().Order(ctx, acct, OrderRequest{CSR: csr}))(t)
			must(w.client().Validate(ctx, acct, order))(t)
			c := w.client()
			c.transport = &oneAlternate{next: c.transport, edit: edit}
			if cert := must(c.Finalize(ctx, acct, order, csr))(t); cert.Root != w.RootPEMs()[want] {
				t.Errorf("%s: preferred %d, not root %d", name, preferred, want)
			}
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 6 {
		t.Errorf("%d warnings: %s", n, log)
	}
	if n := len(w.ledger().Certificates); n != 6 {
		t.Errorf("%d certificates", n)
	}
}

// oneAlternate changes the answers under the second URL of a certificate's.
type oneAlternate struct {
	next http.RoundTripper
	edit func(int, string) (int, string)
	urls []string
}

func (o *oneAlternate) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := o.next.RoundTrip(r)
	if err != nil || !strings.HasPrefix(r.URL.Path, "/certZ") {
		return res, err
	}
	if len(o.urls) == 0 || o.urls[len(o.urls)-1] != r.URL.Path {
		o.urls = append(o.urls, r.URL.Path)
	}
	if len(o.urls) != 2 {
		return res, nil
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	code, text := o.edit(res.StatusCode, string(body))
	res.StatusCode, res.Body = code, io.NopCloser(strings.NewReader(text))
	return res, err
}

// ZeroSSL asks to retry in a day for what takes it a minute.
func TestRetryAfterOfADayOnAnOrder(t *testing.T) {
	w := newTestCA(t, acmetest.Options{RetryOrder: 86400})
	clock := newQuick()
	w.opts.Clock, w.opts.Within = clock, patient
	start := clock.Now()
	w.issue(w.client(), newCSR(t, "", "a.example.com"), nil)
	if took := clock.Since(start); took > 2*patient {
		t.Errorf("waited %v", took)
	}
}

// A strict CA whose headers hold relative URLs: the account, the order and the
// alternates are found all the same.
func TestRelativeLinks(t *testing.T) {
	w := newTestCA(t, acmetest.Options{RelativeLinks: true, AlternateRoots: 2, Strict: true})
	w.spec.PreferredChain = must(x509.Parse(w.RootPEMs()[2]))(t).Subject
	cert := w.issue(w.client(), newCSR(t, "", "a.example.com"), nil)
	acct := must(w.client().Account(t.Context()))(t)
	if cert.Root != w.RootPEMs()[2] || !strings.HasPrefix(acct.URL, "https://") {
		t.Errorf("the preferred chain %v, account %s", cert.Root == w.RootPEMs()[2], acct.URL)
	}
	if o := w.ledger().Orders[0]; !strings.HasPrefix(o.URL, "https://") {
		t.Errorf("ledger: %+v", o)
	}
}

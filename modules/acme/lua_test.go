package acme

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/jonboulle/clockwork"
	lua "github.com/yuin/gopher-lua"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/faults"
	"moonseal/modules/x509"
	"moonseal/runtime/bind"
	"moonseal/runtime/grant"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// script runs Lua with the module bound, without an engine: an effect is looked at, not
// journaled, and done.
type script struct {
	t     *testing.T
	w     *testCA
	reg   *bind.Registry
	state *lua.LState
	b     *bind.Binding
	net   *grant.Network
	clock clockwork.Clock
	log   *slog.Logger
	force bool
	err   error

	bundle string   // the CA's roots
	did    []string // functions whose Do ran
}

func newScript(t *testing.T, w *testCA) *script {
	t.Helper()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, []byte(w.CAPEM()+w.RootPEM()), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, w: w, bundle: bundle, net: must(grant.New(grant.Options{CABundle: bundle}))(t), state: lua.NewState(), clock: clockwork.NewRealClock(), log: slog.New(slog.DiscardHandler)}
	t.Cleanup(s.state.Close)
	m := Module()
	m.Settings.(*Settings).Directories = w.opts.Directories
	s.reg = must(bind.NewRegistry(m))(t)
	s.b = s.reg.Bind(s.state, s, func(l *lua.LState, err error) {
		s.err = err
		l.RaiseError("%s", err.Error())
	})
	s.state.SetGlobal("acme", s.b.Module("acme"))
	for name, v := range s.b.Globals() {
		s.state.SetGlobal(name, v)
	}
	return s
}

func (s *script) call(f *bind.Func) *bind.Call {
	return &bind.Call{
		Context: context.WithoutCancel(s.t.Context()), Clock: s.clock, Log: s.log,
		Network: s.net, Account: s.w.store, Secrets: secret.Map{"HMAC": "bm90IHRoZSBrZXk"}, Redactor: &secret.Redactor{}, Run: "r1", Function: f.Full(), Force: s.force,
	}
}

func (s *script) Invoke(inv *bind.Invocation) (any, error) {
	c, e := s.call(inv.Func), inv.Func.Impl.Effect
	if e == nil {
		v, err := inv.Func.Impl.Run(c, inv.Recv, inv.Args)
		return s.through(inv.Func, v, err)
	}
	look, result, done, err := e.Look(c, inv.Recv, inv.Args)
	if err != nil || done {
		return s.through(inv.Func, result, err)
	}
	s.did = append(s.did, inv.Func.Name)
	if result, err = e.Do(c, inv.Recv, inv.Args, look); err != nil {
		return nil, err
	}
	if again, err := e.Do(c, inv.Recv, inv.Args, look); err != nil || !e.Repeatable || again == nil {
		s.t.Errorf("%s: after a lost answer it cannot be done again: %v, %v", inv.Func.Full(), again, err)
	}
	return s.through(inv.Func, result, nil)
}

// through sends a result through the journal's encoding.
func (s *script) through(f *bind.Func, v any, err error) (any, error) {
	if err != nil || v == nil || reflect.ValueOf(v).Kind() == reflect.Pointer && reflect.ValueOf(v).IsNil() {
		return nil, err
	}
	raw, err := s.reg.EncodeResult(v)
	if err != nil {
		return nil, err
	}
	return s.reg.DecodeResult(f, raw)
}

func (s *script) run(src string) error {
	s.t.Helper()
	s.err = nil
	if err := s.state.DoString(src); err != nil {
		if s.err == nil {
			s.t.Fatalf("not raised through bind: %v", err)
		}
		return s.err
	}
	return nil
}

func (s *script) global(name string, v any) {
	s.t.Helper()
	plain := must(s.reg.ToPlain(v))(s.t)
	s.state.SetGlobal(name, must(s.b.ToLua(plain))(s.t))
}

func TestScriptGetsACertificate(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	s := newScript(t, w)
	csr := newCSR(t, "cucm01.example.com", "cucm01.example.com")
	csr.Host, csr.Service = "cucm01.example.com", "tomcat"
	s.global("csr", csr)
	err := s.run(`
		local ca = acme.ca { directory = "letsencrypt", email = "admin@example.com" }
		local none = ca:renewal(nil, { renew_before = "30d" })
		assert(none.due and none.source == "certificate")
		assert(ca:issued(csr) == nil)
		local acct = ca:account()
		local order = acct:order { csr = csr }
		assert(order.status == "pending" and #order.challenges == 1)
		assert(order.challenges[1].name == "_acme-challenge.cucm01.example.com.")
		assert(acct:state(order).status == "pending")
		acct:validate(order)
		assert(acct:state(order).status == "ready")
		cert = acct:finalize(order, csr)
		assert(#cert.intermediates == 1 and cert.root ~= "")
		local again = acct:finalize(order, csr)
		assert(again.sha256 == cert.sha256)
		assert(ca:issued(csr).sha256 == cert.sha256)
		local r = ca:renewal(cert)
		assert(not r.due and r.source == "ari" and r.at > r.window_start)
		assert(acct:order { csr = csr, replaces = cert }.replaces ~= "")
		assert(ca:account().url == acct.url and acct.ca.email == "admin@example.com")`)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.did, " "); got != "account order validate finalize order" {
		t.Errorf("done: %s", got)
	}
	if n := len(w.ledger().Certificates); n != 1 {
		t.Errorf("%d certificates", n)
	}
}

func TestPlacedOrderIsResumed(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	s := newScript(t, w)
	s.clock = newQuick()
	ctx := t.Context()
	acct := must(w.client().Account(ctx))(t)
	f := s.reg.Func("acme.Account:order")
	c, args := s.call(f), &OrderRequest{CSR: newCSR(t, "", "a.example.com")}
	c.Progress = func(v any) (err error) {
		c.Earlier, err = json.Marshal(v)
		return err
	}
	for _, code := range []int{429, 503, 429} { // from the second on the order is looked at again, in vain
		w.fault(faults.Fault{Call: "acme.authorization", Kind: faults.Status, Code: code})
		_, err := f.Impl.Effect.Do(c, acct, args, nil)
		if p := problem.From(err); p == nil || p.Happened() != problem.Unknown || !p.Kind.Retryable() {
			t.Fatalf("%d: %v", code, err)
		}
	}
	got := must(f.Impl.Effect.Do(c, acct, args, nil))(t).(*Order)
	if orders := w.ledger().Orders; len(orders) != 1 || orders[0].URL != got.URL || len(got.Challenges) != 1 {
		t.Errorf("%d orders, got %+v", len(orders), got)
	}
	// One that is gone is of no use.
	c.Earlier = []byte(`{"url":"` + got.URL + `x"}`)
	if other := must(f.Impl.Effect.Do(c, acct, args, nil))(t).(*Order); other.URL == got.URL {
		t.Error("no new order")
	}
}

func TestScriptErrors(t *testing.T) {
	s := newScript(t, newTestCA(t, acmetest.Options{}))
	s.global("csr", newCSR(t, "cucm01-ms.example.com", "cucm01.example.com"))
	for _, c := range []struct {
		src  string
		kind problem.Kind
		say  string
	}{
		{`acme.ca { directory = "letsencrpt" }`, problem.Usage, "letsencrpt"},
		{`acme.ca { directori = "letsencrypt" }`, problem.Usage, `did you mean "directory"`},
		{`acme.ca { eab = { kid = "x" } }`, problem.Usage, "kid and hmac"},
		{`acme.ca { eab = { kid = "x", hmac = "y" } }`, problem.Usage, "eab.hmac must be a secret"},
		{`acme.ca { trusted_roots = "x" }`, problem.Usage, "trusted_roots"},
		{`acme.ca {}:account():order { csr = csr }`, problem.Mismatch, "-ms"},
		{`acme.ca {}:account():order { cert = csr }`, problem.Usage, `cert is not a known key; it knows csr`},
	} {
		wantKind(t, s.run(c.src), c.kind, c.say)
	}
	if got := strings.Join(s.did, " "); got != "account" {
		t.Errorf("done: %s", got)
	}
}

func TestTypesHaveNames(t *testing.T) {
	for _, typ := range x509.Types() {
		if !strings.HasPrefix(typ.Name, "x509.") {
			t.Errorf("type %s", typ.Name)
		}
	}
}

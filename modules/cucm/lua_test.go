package cucm

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	lua "github.com/yuin/gopher-lua"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/modules/x509"
	"moonseal/runtime/account"
	"moonseal/runtime/bind"
	"moonseal/runtime/grant"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// script runs Lua with the module bound. What an effect saw, reported and gave
// goes through JSON, as it does through the journal.
type script struct {
	*world
	t        *testing.T
	reg      *bind.Registry
	net      *grant.Network
	store    *account.Store
	redactor *secret.Redactor
	state    *lua.LState
	issued   *x509.Certificate
	name     string // the run's
	err      error

	// What was journaled of the last effect, to continue from it.
	function string
	call     json.RawMessage
	look     json.RawMessage
	progress json.RawMessage
	stop     string // progress that says this is the last before a crash
}

func newScript(t *testing.T, change ...func(*cucmtest.Options)) *script {
	t.Helper()
	s := &script{world: newWorld(t, change...), t: t, state: lua.NewState(), redactor: &secret.Redactor{}, store: account.Open(t.TempDir(), ""), name: "r1"}
	t.Cleanup(s.state.Close)
	var err error
	if s.net, err = grant.New(grant.Options{Hosts: s.Addrs()}); err != nil {
		t.Fatal(err)
	}
	m := Module()
	*m.Settings.(*Settings) = Settings{PromptSettle: 10 * time.Millisecond, Settle: 200 * time.Millisecond, Replication: 400 * time.Millisecond, Poll: 10 * time.Millisecond, Timeout: 5 * time.Second}
	if s.reg, err = bind.NewRegistry(m); err != nil {
		t.Fatal(err)
	}
	b := s.reg.Bind(s.state, s, func(l *lua.LState, err error) {
		s.err = err
		l.RaiseError("%s", err.Error())
	})
	s.state.SetGlobal("cucm", b.Module("cucm"))
	for name, v := range b.Globals() {
		s.state.SetGlobal(name, v)
	}
	s.state.SetGlobal("issue", s.state.NewFunction(func(l *lua.LState) int {
		csr, err := x509.ParseCSR(l.CheckTable(1).RawGetString("pem").String())
		if err != nil {
			l.RaiseError("%s", err)
		}
		s.issued = s.ca.issue(t, csr, nil)
		plain, err := s.reg.ToPlain(s.issued)
		if err != nil {
			l.RaiseError("%s", err)
		}
		v, err := b.ToLua(plain)
		if err != nil {
			l.RaiseError("%s", err)
		}
		l.Push(v)
		return 1
	}))
	s.trust(pub)
	return s
}

// The administrator's name is in many messages of an appliance.
func TestUserNameIsNotMasked(t *testing.T) {
	s := newScript(t)
	s.must(node + `node:identity "tomcat"`)
	if got := s.redactor.Redact(admin + " has " + password); got != admin+" has [secret]" {
		t.Errorf("masked: %q", got)
	}
}

// trust stores what a node shows, as "moonseal trust" does.
func (s *script) trust(host string) {
	s.t.Helper()
	key, err := s.Node(host).HostKeyFingerprint()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.store.SavePins(host, account.Pins{TLS: []string{s.Node(host).ServedSHA256()}, SSH: []string{key}}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *script) newCall(f *bind.Func) *bind.Call {
	return &bind.Call{
		Context: s.t.Context(), Clock: clockwork.NewRealClock(), Log: slog.New(s.redactor.Handler(s.logs.handler())), Network: s.net, Account: s.store,
		Secrets: secret.Map(map[string]string{"USER": admin, "PASS": password, "WRONG": "wrong-1"}), Redactor: s.redactor, Run: s.name, Function: f.Full(),
		Earlier: s.progress, LogHost: func(string) {},
		Progress: func(v any) error {
			raw, err := json.Marshal(v)
			if err != nil {
				return err
			}
			s.progress = raw
			if s.stop != "" && strings.Contains(string(raw), s.stop) {
				return errKilled
			}
			return nil
		},
	}
}

// Invoke implements [bind.Host].
func (s *script) Invoke(inv *bind.Invocation) (any, error) {
	e := inv.Func.Impl.Effect
	if e == nil {
		return inv.Func.Impl.Run(s.newCall(inv.Func), inv.Recv, inv.Args)
	}
	s.function, s.progress = inv.Func.Full(), nil
	var err error
	if s.call, err = s.reg.EncodeCall(inv); err != nil {
		return nil, err
	}
	return s.lookAndDo(s.newCall(inv.Func), inv)
}

func (s *script) lookAndDo(c *bind.Call, inv *bind.Invocation) (any, error) {
	e := inv.Func.Impl.Effect
	look, result, done, err := e.Look(c, inv.Recv, inv.Args)
	if err != nil || done {
		return result, err
	}
	s.look = slices.Clone(look)
	return e.Do(c, inv.Recv, inv.Args, s.look)
}

// resume continues with the last effect as another process would: the probe
// first, then, where it has not happened, the call anew.
func (s *script) resume() (result any, happened bool, err error) {
	inv, err := s.reg.DecodeCall(s.function, s.call)
	if err != nil {
		return nil, false, err
	}
	c := s.newCall(inv.Func)
	result, happened, err = inv.Func.Impl.Effect.Probe(c, inv.Recv, inv.Args, s.look)
	if err != nil || happened {
		return result, happened, err
	}
	s.progress = nil // a new effect
	result, err = s.lookAndDo(c, inv)
	return result, false, err
}

const node = `local node = cucm.node { host = "cucm01-pub", domain = "automate.builders", username = secret "USER", password = secret "PASS" }
`

func (s *script) run(src string) error {
	s.t.Helper()
	s.err = nil
	if err := s.state.DoString(node + src); err != nil {
		if s.err == nil {
			s.t.Fatalf("not raised through bind: %v", err)
		}
		return s.err
	}
	return nil
}

func (s *script) must(src string) {
	s.t.Helper()
	if err := s.run(src); err != nil {
		s.t.Fatal(err)
	}
}

func (s *script) pins() []string {
	s.t.Helper()
	p, err := s.store.Pins(pub)
	if err != nil || len(p.SSH) != 1 {
		s.t.Fatalf("%+v, %v", p, err)
	}
	return p.TLS
}

func TestScriptRenews(t *testing.T) {
	s := newScript(t)
	old := s.Node(pub).ServedSHA256()
	s.must(`
		assert(node.host == "cucm01-pub.automate.builders" and node.port == 443)
		local installed, served = node:identity "tomcat", node:served()
		assert(installed.sha256 == served.sha256 and installed.self_signed)
		assert(node:pending_csr "tomcat" == nil)
		local csr = node:csr { service = "tomcat", key_type = "ec" }
		assert(node:pending_csr("tomcat").sha256 == csr.sha256 and csr.host == node.host)
		csr = node:csr { service = "tomcat", key_type = "ec" } -- ours may be overwritten
		cert = issue(csr)
		local ok, why = node:has("tomcat", cert)
		assert(ok == false and why:find("another tomcat certificate", 1, true), why)
		local up = node:upload("tomcat", cert)
		assert(up.sha256 == cert.sha256 and #up.trust == 2)
		assert(#node:upload("tomcat", cert).trust == 0) -- done already
		assert(node:has("tomcat", cert) == true and #node:trust "tomcat" == 2)
		ok, why = node:serves(cert)
		assert(ok == false and why:find(served.sha256, 1, true), why)
	`)
	if got := s.pins(); !slices.Equal(got, []string{old, s.issued.SHA256}) {
		t.Errorf("between upload and restart these are accepted: %v", got)
	}
	s.must(`
		local done = node:restart("tomcat", { expect = cert })
		assert(done.services[1].service == "Cisco Tomcat" and done.services[1].state == "done" and #done.services == 6)
		local served = node:serves(cert)
		assert(served.sha256 == cert.sha256 and #served.intermediates == 1)
		assert(#node:restart("tomcat", { expect = cert }).services == 0)
		assert(#node:services() > 10)
		local snapshot = node:snapshot()
		assert(snapshot.server == node.host and #snapshot.identities > 3)
	`)
	if got := s.pins(); !slices.Equal(got, []string{s.issued.SHA256}) {
		t.Errorf("after the proof these are accepted: %v", got)
	}
	if n := len(restarts(s.world, pub)); n != 6 {
		t.Errorf("%d restarts", n)
	}
	if text := s.logs.String(); strings.Contains(text, password) || strings.Contains(text, admin) {
		t.Error("a secret is in the log")
	}
}

func TestScriptErrors(t *testing.T) {
	s := newScript(t)
	for _, tc := range []struct {
		src   string
		kind  problem.Kind
		words string
	}{
		{`cucm.node { host = "a b", username = "u", password = secret "PASS" }`, problem.Usage, "host must be a host name"},
		{`cucm.node { host = "a", username = "", password = secret "PASS" }`, problem.Usage, "username is empty"},
		{`cucm.node { host = "a", username = 7, password = secret "PASS" }`, problem.Usage, "a string or a secret"},
		{`cucm.node { host = "a", username = "u", password = "plain" }`, problem.Usage, "password must be a secret"},
		{`cucm.node { host = "a", username = "u", password = secret "PASS", pins = { "xy" } }`, problem.Usage, "pins[1] must be"},
		{`cucm.node { host = "a", username = "u", password = secret "PASS", ca = "x" }`, problem.Usage, "ca must be certificates in PEM"},
		{`cucm.node { host = "a", username = "u", password = secret "PASS", hostname = "b" }`, problem.Usage, "hostname"},
		{`node:csr { service = "CallManager" }`, problem.Usage, "allow_phone_lockout"},
		{`node:csr { alt_names = { "*.automate.builders" } }`, problem.Usage, "takes no wildcard"},
		{`check(node.csr, node, { service = "tomcat-ECDSA", key_type = "rsa" })`, problem.Usage, "key_type must be"},
		{`check(node.restart, node, "CallManager")`, problem.Usage, "allow_phone_lockout"},
		{`check(node.restart, node, "tomcat", { services = { "Cisco Tomcat\nutils system restart" } })`, problem.Usage, "options.services[1] must be"},
		{`node:restart("tomcat", { expect = issue(node:csr { key_type = "ec" }) })`, problem.Conflict, "another certificate is installed"},
		{`cucm.node { host = "cucm01-pub.automate.builders", username = "administrator", password = secret "WRONG" }:identity "tomcat"`, problem.Auth, "refused"},
		{`cucm.node { host = "cucm02-sub", domain = "automate.builders", username = secret "USER", password = secret "PASS" }:identity "tomcat"`, problem.Untrusted, "not trusted"},
		{`cucm.node { host = "cucm01-pub.automate.builders", username = secret "USER", password = secret "NONE" }:identity "tomcat"`, problem.NotFound, "NONE"},
	} {
		err := s.run(tc.src)
		if p := problem.From(err); err == nil || p.Kind != tc.kind || !strings.Contains(p.Error()+p.Hint, tc.words) {
			t.Errorf("%s\n returns %v, want %s with %q", tc.src, err, tc.kind, tc.words)
		}
	}
}

// A CSR of somebody else's is left alone; pins may be written in a script.
func TestScriptSparesAForeignCSR(t *testing.T) {
	s := newScript(t)
	if _, err := s.client(t, pub).GenerateCSR(t.Context(), CSRRequest{KeyType: "ec"}); err != nil {
		t.Fatal(err)
	}
	if p := problem.From(s.run(`node:csr { service = "tomcat" }`)); p.Kind != problem.Conflict {
		t.Errorf("got %v", p)
	}
	s.must(`node:csr { service = "tomcat", key_type = "ec", replace_pending = true }`)

	upper := strings.ToUpper(s.Node(sub).ServedSHA256())
	s.must(`local other = cucm.node { host = "cucm02-sub.automate.builders", username = "administrator", password = secret "PASS", pins = { "` + upper + `" } }
		assert(other:identity("tomcat").sha256 == other:served().sha256)`)
}

func TestScriptFindsWhatWasIssued(t *testing.T) {
	s := newScript(t)
	s.must(`assert(node:issued "tomcat" == nil) cert = issue(node:csr { key_type = "ec" })`)
	leaf := s.issued.PEM
	if err := s.store.SaveCertificate(pub, "tomcat", leaf, s.issued.ChainPEM()); err != nil {
		t.Fatal(err)
	}
	s.must(`local ours = node:issued "tomcat" assert(ours.sha256 == cert.sha256 and #ours.intermediates == 1)`)
	s.must(`issue(node:csr { key_type = "ec" })`)
	if err := s.store.SaveCertificate(pub, "tomcat", leaf, s.issued.ChainPEM()); err != nil {
		t.Fatal(err)
	}
	s.must(`local ours = node:issued "tomcat" assert(ours.sha256 == cert.sha256 and #ours.intermediates == 0)`)
}

func TestScriptFindsALostCSR(t *testing.T) {
	s := newScript(t)
	s.fault(t, faults.Fault{Call: cucmtest.CallCSR, Kind: faults.Lost})
	if p := problem.From(s.run(`node:csr { key_type = "ec" }`)); p.Happened() != problem.Unknown {
		t.Fatalf("got %v", p)
	}
	got, happened, err := s.resume()
	if err != nil || !happened || got.(*x509.CSR).PEM != s.Node(pub).PendingCSR("tomcat") {
		t.Fatalf("happened %v, %v", happened, err)
	}
	s.must(`node:csr { key_type = "ec" }`) // it was kept as ours
}

func TestScriptFindsALostUpload(t *testing.T) {
	s := newScript(t)
	s.fault(t, faults.Fault{Call: cucmtest.CallUploadIdentity, Kind: faults.Lost})
	if err := s.run(`node:upload("tomcat", issue(node:csr { key_type = "ec" }))`); err == nil {
		t.Fatal("not lost")
	}
	got, happened, err := s.resume()
	if err != nil || !happened || got.(*Uploaded).SHA256 != s.issued.SHA256 {
		t.Fatalf("happened %v, %v", happened, err)
	}
}

// Killed during a restart, and again before the next pass has reported anything.
func TestScriptGoesOnWithARestart(t *testing.T) {
	s := newScript(t)
	s.must(`cert = issue(node:csr { key_type = "ec" }) node:upload("tomcat", cert)`)
	s.stop = `"Cisco Tomcat","state":"begun"`
	if err := s.run(`node:restart("tomcat", { expect = cert })`); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	s.stop = `"Cisco UDS Tomcat","state":"sending"`
	if _, _, err := s.resume(); !errors.Is(err, errKilled) {
		t.Fatalf("got %v", err)
	}
	s.stop, s.progress = "", nil // as if it had been killed right after the mark
	got, happened, err := s.resume()
	if err != nil || happened || got.(*Restarted).Services[0].State != Begun {
		t.Fatalf("%+v, happened %v, %v", got, happened, err)
	}
	if list := restarts(s.world, pub); len(list) != 6 || list[0] != tomcatService || slices.Contains(list[1:], tomcatService) {
		t.Errorf("restarted %v", list)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if ok, _, err := s.client(t, pub).Serves(ctx, s.issued); ok || ctx.Err() != nil {
			if err != nil {
				t.Error(err)
			}
			break
		}
	}
}

package dns

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"

	"moonseal/modules/dns/dnstest"
	"moonseal/runtime/bind"
	"moonseal/runtime/grant"
	"moonseal/runtime/secret"
)

// script runs Lua with the module bound: an effect is looked at, its mark and its
// result go through JSON, and its undo is kept.
type script struct {
	*scene
	reg   *bind.Registry
	net   *grant.Network
	state *lua.LState
	undos []func(result any) error
	last  any
	held  map[string]string
	err   error
}

func newScript(t *testing.T, opt dnstest.Options) *script { return newGranted(t, opt, nil) }

// newGranted is newScript for a playbook that is granted g; nil is everything.
func newGranted(t *testing.T, opt dnstest.Options, g *grant.Grant) *script {
	t.Helper()
	s := &script{scene: newScene(t, opt), state: lua.NewState()}
	t.Cleanup(s.state.Close)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, []byte(s.CA()), 0o600); err != nil {
		t.Fatal(err)
	}
	var rules grant.Rules
	if g != nil {
		rules = grant.Rules{"p": *g}
	}
	var err error
	if s.net, err = grant.New(grant.Options{CABundle: bundle, Hosts: s.Hosts(), Allowed: rules.For("p")}); err != nil {
		t.Fatal(err)
	}
	m := Module()
	m.Settings.(*Settings).Resolvers = []string{dnstest.ResolverHost}
	if s.reg, err = bind.NewRegistry(m); err != nil {
		t.Fatal(err)
	}
	b := s.reg.Bind(s.state, s, func(l *lua.LState, err error) {
		s.err = err
		l.RaiseError("%s", err.Error())
	})
	s.state.SetGlobal("dns", b.Module("dns"))
	for name, v := range b.Globals() {
		s.state.SetGlobal(name, v)
	}
	return s
}

func (s *script) Invoke(inv *bind.Invocation) (any, error) {
	c := &bind.Call{
		Context: s.t.Context(), Clock: s.clock, Log: slog.New(slog.DiscardHandler), Network: s.net, Secrets: secret.Map(s.secrets),
		Redactor: &secret.Redactor{}, Run: "r1", Function: inv.Func.Full(),
		HeldElsewhere: func(values []string) (map[string]string, error) {
			out := map[string]string{}
			for _, v := range values {
				if run, ok := s.held[v]; ok {
					out[v] = run
				}
			}
			return out, nil
		},
	}
	e := inv.Func.Impl.Effect
	if e == nil {
		return inv.Func.Impl.Run(c, inv.Recv, inv.Args)
	}
	look, result, done, err := e.Look(c, inv.Recv, inv.Args)
	if err != nil {
		return nil, err
	}
	if e.Undo != nil {
		s.undos = append(s.undos, func(result any) error { return e.Undo(c, inv.Recv, inv.Args, result) })
	}
	if !done {
		if result, err = e.Do(c, inv.Recv, inv.Args, slices.Clone(look)); err != nil {
			return nil, err
		}
	}
	s.last = result
	return result, nil
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

const order = `
	local order = { challenges = {
		{ name = "_acme-challenge.www.example.com.", value = "` + digestA + `", token = "t", type = "dns-01", wildcard = false },
		{ name = "_acme-challenge.www.example.com.", value = "` + digestB + `", token = "u", type = "dns-01", wildcard = true },
	} }
	local zone = dns.zone { provider = "cloudflare", api_token = secret "CF" }
`

func TestScriptPresents(t *testing.T) {
	s := newScript(t, dnstest.Options{})
	if err := s.run(order + `
		local ok, why = zone:propagated(order.challenges)
		assert(ok == false and why:find("ns1.example.com does not show", 1, true), why)
		local records = zone:present(order.challenges)
		assert(#records == 2 and records[1].name == "_acme-challenge.www.example.com" and records[1].zone == "example.com")
		assert(#zone:present(order.challenges) == 2)
		assert(zone:propagated(order.challenges, { resolvers = { "resolver.test" } }) == true)
		assert(#zone:records("_acme-challenge.www.example.com", "TXT") == 2)
	`); err != nil {
		t.Fatal(err)
	}
	if len(s.TXT().Present) != 2 || len(s.undos) != 2 {
		t.Fatalf("%+v", s.TXT())
	}
	// Another run holds one value.
	s.held = map[string]string{Challenge{Name: "_acme-challenge.www.example.com.", Value: digestB}.Held(): "r2"}
	if err := s.undos[0](s.last); err != nil {
		t.Fatal(err)
	}
	if got := s.texts("_acme-challenge.www.example.com"); !slices.Equal(got, []string{digestB}) {
		t.Errorf("%v", got)
	}
	s.held = nil
	if err := s.undos[0](nil); err != nil { // its answer was lost
		t.Fatal(err)
	}
	if got := s.TXT().Present; len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
}

func TestScriptRemoves(t *testing.T) {
	s := newScript(t, dnstest.Options{})
	if err := s.run(order + `zone:present(order.challenges) zone:remove(order.challenges) zone:remove(order.challenges)`); err != nil {
		t.Fatal(err)
	}
	if got := s.TXT(); len(got.Present) != 0 || len(got.History) != 4 {
		t.Errorf("%+v", got)
	}
}

// A CA that still has an earlier proof returns an order without challenges.
func TestScriptWithoutChallenges(t *testing.T) {
	s := newScript(t, dnstest.Options{})
	if err := s.run(`local zone = dns.zone { provider = "cloudflare", api_token = secret "CF" }
		assert(#zone:present({}) == 0)
		assert(zone:propagated({}) == true)
		zone:remove({})`); err != nil {
		t.Error(err)
	}
}

func TestScriptMistakes(t *testing.T) {
	s := newScript(t, dnstest.Options{})
	for _, tt := range []struct{ src, want string }{
		{`dns.zone { provider = "cloudflair", api_token = secret "CF" }`, `did you mean "cloudflare"?`},
		{`dns.zone { provider = "cloudflare" }`, `dns.zone: api_token is missing: a zone at cloudflare needs it`},
		{`dns.zone { provider = "route53", access_key_id = secret "A" }`, `secret_access_key is missing`},
		{`dns.zone { provider = "rfc2136", server = "ns1", key = secret "K" }`, `key_name is missing`},
		{`dns.zone { provider = "cloudflare", api_token = "tok" }`, `api_token must be a secret`},
		{`dns.zone { provider = "cloudflare", api_token = secret "CF", name = "a b" }`, `name must be a domain name such as "example.com", got "a b"`},
		{`dns.zone { provider = "cloudflare", api_token = secret "CF", ttl = "30d" }`, `between 1s and 24h`},
		{`dns.zone { provider = "cloudflare", api_token = secret "NONE" }:present({ { name = "a.example.com", value = "v" } })`, `NONE`},
		{`dns.zone { provider = "cloudflare", api_token = secret "CF" }:present({ { name = "a.example.com" } })`, `value`},
	} {
		if err := s.run(tt.src); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s\n got %v\nwant %s", tt.src, err, tt.want)
		}
	}
}

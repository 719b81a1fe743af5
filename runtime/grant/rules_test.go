package grant

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"moonseal/runtime/problem"
)

func TestWithoutRulesAllIsGranted(t *testing.T) {
	a := Rules(nil).For("dfw")
	if a != nil || a.Secret("X") != nil || a.Module("cucm") != nil || a.Host("example.com:443") != nil {
		t.Error("refused")
	}
}

func TestWhatNoRuleGrantsIsRefused(t *testing.T) {
	rules := Rules{
		"dfw":   {Secrets: []string{"CUCM_*"}, Hosts: []string{"cucm01.example.com"}, Modules: []string{"cucm"}},
		"lab/*": {Secrets: []string{"LAB"}},
		"*":     {Modules: []string{"log"}},
	}
	for _, c := range []struct {
		playbook, kind, name string
		want                 bool
	}{
		{"dfw", "secret", "CUCM_PASSWORD", true},
		{"dfw", "secret", "CF_API_TOKEN", false},
		{"dfw", "module", "cucm", true},
		{"dfw", "module", "log", true}, // of the rule for all
		{"dfw", "module", "acme", false},
		{"dfw", "host", "cucm01.example.com:443", true},
		{"dfw", "host", "cucm02.example.com:443", false},
		{"lab/one", "secret", "LAB", true},
		{"lab/one", "module", "log", true},
		{"lab/one", "module", "cucm", false},
		{"lab/one", "host", "cucm01.example.com:443", false},
		{"other", "secret", "LAB", false},
		{"other", "secret", "CUCM_PASSWORD", false},
		{"", "secret", "CUCM_PASSWORD", false},
	} {
		// It travels to the run's process as JSON.
		text, err := json.Marshal(rules.For(c.playbook))
		var a *Allowed
		if err == nil {
			err = json.Unmarshal(text, &a)
		}
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]func(string) error{"secret": a.Secret, "module": a.Module, "host": a.Host}[c.kind](c.name)
		if (got == nil) != c.want {
			t.Errorf("%s %s for %s: %v", c.kind, c.name, c.playbook, got)
		}
	}
}

func TestRefusalSaysWhatToAdd(t *testing.T) {
	err := Rules{"dfw": {}}.For("dfw").Host("10.0.0.5:22")
	e, ok := errors.AsType[*problem.Error](err)
	if !ok || e.Kind != problem.Refused || e.Work != problem.NotDone || e.Error() != "host 10.0.0.5: the config does not grant it to the playbook dfw" ||
		!strings.HasSuffix(e.Hint, `grants: { "dfw": { hosts: ["10.0.0.5"] } }`) {
		t.Errorf("got %v, %+v", err, e)
	}
}

func TestHosts(t *testing.T) {
	for _, c := range []struct {
		granted, addr string
		want          bool
	}{
		{"example.com", "example.com:443", true},
		{"Example.COM", "example.com.:443", true},
		{"example.com", "www.example.com:443", false},
		{"*.example.com", "www.example.com:443", true},
		{"*.example.com", "a.b.example.com:22", true},
		{"*.example.com", "example.com:443", false},
		{"*.example.com", "badexample.com:443", false},
		{"example.com:22", "example.com:22", true},
		{"example.com:22", "example.com:443", false},
		{"*", "anything.org:443", true},
		{"*:443", "anything.org:443", true},
		{"*:443", "anything.org:22", false},
		{"10.0.0.5", "10.0.0.5:443", true},
		{"10.0.0.0/8", "10.9.8.7:443", true},
		{"10.0.0.0/8", "[::ffff:10.9.8.7]:443", true},
		{"10.0.0.0/8", "11.0.0.1:443", false},
		{"10.0.0.0/8", "ten.example.com:443", false},
		{"10.0.0.0/8:22", "10.1.1.1:22", true},
		{"2001:db8::/32", "[2001:db8::1]:443", true},
		{"2001:db8::1", "[2001:0db8::0001]:443", true},
		{"[2001:db8::1]:443", "[2001:db8::1]:443", true},
		{"[2001:db8::1]:443", "[2001:db8::1]:22", false},
	} {
		a := Rules{"*": {Hosts: []string{c.granted}}}.For("x")
		if err := (Rules{"*": {Hosts: []string{c.granted}}}).Check(); err != nil {
			t.Errorf("%s: %v", c.granted, err)
		}
		if got := a.Host(c.addr) == nil; got != c.want {
			t.Errorf("%s, granted %s: %t", c.addr, c.granted, got)
		}
	}
}

func TestRulesThatFitNothingAreRefused(t *testing.T) {
	for _, r := range []Rules{
		{"[": {}},
		{"": {}},
		{"x": {Secrets: []string{"[a"}}},
		{"x": {Hosts: []string{"https://example.com"}}},
		{"x": {Hosts: []string{"a*b.example.com"}}},
		{"x": {Hosts: []string{""}}},
		{"x": {Hosts: []string{"10.0.0.0/99"}}},
		{"x": {Names: []string{""}}},
		{"x": {Names: []string{"*."}}},
		{"x": {Names: []string{"a.*.example.com"}}},
		{"x": {Names: []string{"example.com:443"}}},
	} {
		if r.Check() == nil {
			t.Errorf("%v is taken", r)
		}
	}
}

func TestNames(t *testing.T) {
	rules := Rules{
		"dfw":  {Names: []string{"automate.builders", "*.automate.builders"}},
		"two*": {Names: []string{"a.example.com"}},
		"twos": {Names: []string{"B.example.com."}},
		"free": {Names: []string{"*"}},
		"none": {},
	}
	if err := rules.Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		playbook, name string
		want           bool
	}{
		{"dfw", "automate.builders", true},
		{"dfw", "cucm01-pub.Automate.builders.", true},
		{"dfw", "a.b.automate.builders", true},
		{"dfw", "*.automate.builders", true},
		{"dfw", "badautomate.builders", false},
		{"dfw", "builders", false},
		{"dfw", "automate.builders.attacker.test", false},
		{"two", "a.example.com", true},
		{"two", "b.example.com", false},
		{"two", "*.example.com", false},
		{"twos", "a.example.com", true}, // of both rules
		{"twos", "b.example.com", true},
		{"free", "anything.test", true},
		{"none", "anything.test", true}, // no rule that fits lists any
	} {
		a := rules.For(c.playbook)
		if err := a.Name(c.name); (err == nil) != c.want {
			t.Errorf("%s for %s: %v", c.name, c.playbook, err)
		}
		if a.BoundsNames() != (c.playbook != "none") {
			t.Errorf("%s: %t", c.playbook, a.BoundsNames())
		}
	}
	if e := problem.From(rules.For("two").Name("www.example.com")); !strings.HasSuffix(e.Hint, `grants: { "two": { names: ["www.example.com"] } }`) {
		t.Errorf("hint %q", e.Hint)
	}
}

func FuzzName(f *testing.F) {
	f.Add("*.example.com", "www.example.com")
	f.Add("*", "")
	f.Fuzz(func(t *testing.T, granted, name string) {
		r := Rules{"*": {Names: []string{granted}}}
		if r.Check() != nil || granted == "*" {
			return
		}
		if below := strings.TrimPrefix(cleanName(granted), "*"); r.For("x").Name(name) == nil && !strings.HasSuffix(cleanName(name), below) {
			t.Errorf("%q is granted by %q", name, granted)
		}
	})
}

func FuzzHost(f *testing.F) {
	f.Add("*.example.com:22", "a.example.com:22")
	f.Fuzz(func(t *testing.T, granted, addr string) {
		_ = Rules{"*": {Hosts: []string{granted}}}.Check()
		_ = Rules{"*": {Hosts: []string{granted}}}.For("x").Host(addr)
		if (Rules{"*": {}}).For("x").Host(addr) == nil {
			t.Errorf("%q is in reach of a playbook that is granted nothing", addr)
		}
	})
}

// The name counts that was asked for, not where Hosts sends it.
func TestDialerKeepsToTheGrant(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	to := s.Listener.Addr().String()
	n, err := New(Options{
		Hosts:   map[string]string{"granted.example.com:80": to, "other.example.com:80": to},
		Allowed: Rules{"x": {Hosts: []string{"granted.example.com"}}}.For("x"),
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := n.Dial(t.Context(), "tcp", "granted.example.com:80")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if conn, err = n.DialConfigured(t.Context(), "tcp", to); err != nil { // a resolver of the config would be asked so
		t.Fatal(err)
	}
	_ = conn.Close()
	for _, addr := range []string{"other.example.com:80", to} {
		if _, err := n.Dial(t.Context(), "tcp", addr); problem.Network(err).Kind != problem.Refused {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestProxyKeepsToTheGrant(t *testing.T) {
	asked := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Host }))
	defer proxy.Close()
	n, err := New(Options{Proxy: proxy.URL, Allowed: Rules{"x": {Hosts: []string{"granted.example.com"}}}.For("x")})
	if err != nil {
		t.Fatal(err)
	}
	transport := n.Transport()
	defer transport.CloseIdleConnections()
	get := func(url string) error {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: transport}).Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	if err := get("http://granted.example.com/"); err != nil || <-asked != "granted.example.com" {
		t.Errorf("granted: %v", err)
	}
	if err := get("http://other.example.com/"); problem.Network(err).Kind != problem.Refused || len(asked) != 0 {
		t.Errorf("other: %v", err)
	}
	for what, addr := range map[string]string{"past the proxy": net.JoinHostPort("127.0.0.1", "1"), "the proxy as a host": strings.TrimPrefix(proxy.URL, "http://")} {
		if _, err := n.Dial(t.Context(), "tcp", addr); problem.Network(err).Kind != problem.Refused {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := get(proxy.URL); problem.Network(err).Kind != problem.Refused || len(asked) != 0 {
		t.Errorf("the proxy as a host: %v", err)
	}
}

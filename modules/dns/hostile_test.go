package dns

import (
	"net"
	"strings"
	"testing"

	"moonseal/modules/dns/dnstest"
	"moonseal/runtime/grant"
	"moonseal/runtime/problem"
)

// What a script tries that is granted the provider's API, and the names below
// www.example.com.
func TestScriptsKeepToTheirGrants(t *testing.T) {
	target := newTarget(t)
	s := newGranted(t, dnstest.Options{}, &grant.Grant{
		Hosts: []string{"api.cloudflare.com", "granted.test"}, Names: []string{"www.example.com", "*.www.example.com"},
	})
	const www, other = `{ { name = "_acme-challenge.www.example.com.", value = "v" } }`, `{ { name = "_acme-challenge.mail.example.com.", value = "v" } }`
	const cloudflare = `dns.zone { provider = "cloudflare", api_token = secret "CF" }`
	rfc2136 := func(server string) string {
		return `dns.zone { provider = "rfc2136", name = "example.com", key_name = "moonseal", key = secret "TSIG", server = "` + server + `" }`
	}
	asking := func(resolver string) string {
		return `dns.zone { provider = "cloudflare", api_token = secret "CF", resolvers = { "` + resolver + `" } }`
	}
	for _, c := range []struct{ attack, src, refused string }{
		{"a server's SSH port, asked for records", rfc2136(target.addr) + `:records("www.example.com", "TXT")`, "host 127.0.0.1"},
		{"a server's SSH port, updated", rfc2136(target.addr) + `:present(` + www + `)`, "host 127.0.0.1"},
		{"a server's SSH port, checked", rfc2136(target.addr) + `:check { "www.example.com" }`, "host 127.0.0.1"},
		{"a zone transfer from another host", rfc2136(target.addr) + `:records()`, "host 127.0.0.1"},
		{"a resolver on another port", asking(target.addr) + `:check { "www.example.com" }`, "host 127.0.0.1"},
		{"a resolver on port 53", asking("127.0.0.1") + `:check { "www.example.com" }`, "host 127.0.0.1"},
		{"a resolver to wait for", cloudflare + `:propagated(` + www + `, { authoritative = false, resolvers = { "` + target.addr + `" } })`, "host 127.0.0.1"},
		{"a resolver that looks up the servers", asking(target.addr) + `:propagated(` + www + `)`, "host 127.0.0.1"},
		{"another name's challenge", cloudflare + `:present(` + other + `)`, "name mail.example.com"},
		{"a record that is not a challenge", cloudflare + `:present { { name = "example.com", value = "v=spf1 +all" } }`, "name example.com"},
		{"another name's challenge, removed", cloudflare + `:remove(` + other + `)`, "name mail.example.com"},
		{"a message in a name, looked up", cloudflare + `:records("stolen.attacker.test", "TXT")`, "name stolen.attacker.test"},
		{"a message in a name, polled", cloudflare + `:propagated { { name = "_acme-challenge.stolen.attacker.test", value = "v" } }`, "name stolen.attacker.test"},
		{"a message in a name, checked", cloudflare + `:check { "stolen.attacker.test" }`, "name stolen.attacker.test"},
	} {
		err := s.run(c.src)
		if p := problem.From(err); p == nil || p.Kind != problem.Refused || p.Target != c.refused || !strings.Contains(p.Hint, "grants:") {
			t.Errorf("%s: %v, want that %s is refused", c.attack, err, c.refused)
		}
	}
	if n := target.reached(); n != 0 {
		t.Errorf("the host was reached %d times", n)
	}
	if got := s.TXT(); len(got.History) != 0 {
		t.Errorf("written: %+v", got)
	}
	// What is granted works.
	if err := s.run(`local zone = ` + cloudflare + ` zone:present(` + www + `) zone:present { { name = "_acme-challenge.a.www.example.com", value = "v" } }
		assert(#zone:check { "www.example.com", "mail.example.com" } == 1)`); err != nil {
		t.Error(err)
	}
}

// A zone's owner says which servers have it, and so where questions go: to their
// port for DNS only.
func TestServersOfAZoneAreAskedOnTheirPortOnly(t *testing.T) {
	n, err := grant.New(grant.Options{})
	if err != nil {
		t.Fatal(err)
	}
	target := newTarget(t)
	for _, network := range []string{"tcp", "udp"} {
		if _, err := n.DialDNS(t.Context(), network, target.addr); problem.From(err) == nil || problem.From(err).Kind != problem.Refused {
			t.Errorf("%s: %v", network, err)
		}
	}
	if n := target.reached(); n != 0 {
		t.Errorf("it was reached %d times", n)
	}
}

// target is a host that nothing may connect to.
type target struct {
	t    *testing.T
	addr string
	tcp  net.Listener
	udp  net.PacketConn
}

func newTarget(t *testing.T) *target {
	t.Helper()
	var listen net.ListenConfig
	tcp, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	udp, err := listen.ListenPacket(t.Context(), "udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	return &target{t: t, addr: tcp.Addr().String(), tcp: tcp, udp: udp}
}

// reached counts connections and datagrams so far: those before one of its own.
func (g *target) reached() int {
	g.t.Helper()
	var dialer net.Dialer
	n := 0
	for _, network := range []string{"tcp", "udp"} {
		own, err := dialer.DialContext(g.t.Context(), network, g.addr)
		if err != nil {
			g.t.Fatal(err)
		}
		defer func() { _ = own.Close() }()
		if _, err := own.Write([]byte("x")); err != nil {
			g.t.Fatal(err)
		}
		for {
			from, err := g.next(network)
			if err != nil {
				g.t.Fatal(err)
			}
			if from == own.LocalAddr().String() {
				break
			}
			n++
		}
	}
	return n
}

func (g *target) next(network string) (from string, err error) {
	if network == "udp" {
		_, addr, err := g.udp.ReadFrom(make([]byte, 2048))
		if err != nil {
			return "", err
		}
		return addr.String(), nil
	}
	conn, err := g.tcp.Accept()
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	return conn.RemoteAddr().String(), nil
}

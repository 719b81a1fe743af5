package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/acme"
	"moonseal/modules/cucm"
	"moonseal/modules/dns"
	"moonseal/modules/x509"
	"moonseal/runtime/account"
	"moonseal/runtime/config"
	"moonseal/runtime/grant"
	"moonseal/runtime/secret"
)

// user is what moonseal is to a lab: it knows the folder and the environment.
type user struct {
	conf  *config.Config
	net   *grant.Network
	store *account.Store
	env   secret.Map
	dns   *dns.Client
	cucm  cucm.Settings
}

func newUser(t testing.TB, dir string) *user {
	t.Helper()
	u := &user{env: secret.Map{}}
	text, err := os.ReadFile(filepath.Join(dir, "lab.env"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		u.env[name] = value
	}
	if u.conf, err = config.Load(filepath.Join(dir, "moonseal.yaml"), os.Getenv); err != nil {
		t.Fatal(err)
	}
	if u.net, err = grant.New(u.conf.Network()); err != nil {
		t.Fatal(err)
	}
	u.store = account.Open(u.conf.State, "")
	settings := struct {
		dns  dns.Settings
		cucm cucm.Settings
	}{}
	for module, into := range map[string]any{"dns": &settings.dns, "cucm": &settings.cucm} {
		node := u.conf.Modules[module]
		if err := config.DecodeNode(&node, into, u.conf.Path); err != nil {
			t.Fatal(err)
		}
	}
	u.cucm = settings.cucm
	transport := u.net.Transport()
	t.Cleanup(transport.CloseIdleConnections)
	u.dns = dns.New(dns.Options{
		Dial: u.net.Dial, HTTP: transport, Resolvers: settings.dns.Resolvers,
		Secret: func(ctx context.Context, h secret.Handle) (string, error) { return u.env.Value(ctx, h.Name) },
	})
	return u
}

func (u *user) node(t testing.TB, host string) *cucm.Client {
	t.Helper()
	pins, err := u.store.Pins(host)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cucm.New(cucm.Options{
		Host: host, Username: u.env["CUCM_USERNAME"], Pins: pins.TLS, HostKeys: pins.SSH, Roots: u.net.Roots, Dial: u.net.Dial,
		Password: func(ctx context.Context) (string, error) { return u.env.Value(ctx, "CUCM_PASSWORD") },
		Settle:   u.cucm.Settle, Poll: u.cucm.Poll,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (u *user) ca(t testing.TB, ca acme.CA) *acme.Client {
	t.Helper()
	return u.caAt(t, ca, clockwork.NewRealClock())
}

func (u *user) caAt(t testing.TB, ca acme.CA, clock clockwork.Clock) *acme.Client {
	t.Helper()
	c, err := acme.New(ca, acme.Options{
		Clock: clock,
		Store: u.store, Dial: u.net.Dial, RootCAs: u.net.Roots(), Bundle: u.net.Bundle(), SystemRoots: u.net.SystemRootsOf,
		HMAC: hmac(u, ca),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func hmac(u *user, ca acme.CA) func(context.Context) (string, error) {
	if ca.EAB.KeyID == "" {
		return nil
	}
	return func(ctx context.Context) (string, error) { return u.env.Value(ctx, "EAB_HMAC") }
}

func zones() []dns.Zone {
	handle := func(name string) secret.Handle { return secret.Handle{Name: name} }
	return []dns.Zone{
		{Provider: "cloudflare", APIToken: handle("CF_API_TOKEN")},
		{Provider: "digitalocean", APIToken: handle("DO_API_TOKEN")},
		{Provider: "route53", AccessKeyID: handle("AWS_ACCESS_KEY_ID"), SecretAccessKey: handle("AWS_SECRET_ACCESS_KEY")},
		{Provider: "rfc2136", Server: "ns1." + Domain, KeyName: "moonseal", Key: handle("TSIG_KEY")},
	}
}

// issue gets a certificate for a CSR by dns-01 and cleans up.
func (u *user) issue(t testing.TB, ca *acme.Client, zone dns.Zone, csr *x509.CSR) *x509.Certificate {
	t.Helper()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	acct, err := ca.Account(ctx)
	check(err)
	order, err := ca.Order(ctx, acct, acme.OrderRequest{CSR: csr})
	check(err)
	challenges := make([]dns.Challenge, 0, len(order.Challenges))
	for _, ch := range order.Challenges {
		challenges = append(challenges, dns.Challenge{Name: ch.Name, Value: ch.Value})
	}
	plan, records, err := u.dns.LookPresent(ctx, zone, challenges)
	check(err)
	if plan != nil {
		records, err = u.dns.Present(ctx, zone, plan)
		check(err)
	}
	for seen := false; !seen; {
		seen, _, err = u.dns.Propagated(ctx, zone, challenges, dns.Propagation{})
		check(err)
	}
	_, err = ca.Validate(ctx, acct, order)
	check(err)
	cert, err := ca.Finalize(ctx, acct, order, csr)
	check(err)
	check(u.dns.Remove(ctx, zone, challenges, records, nil))
	return cert
}

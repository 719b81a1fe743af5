package dns

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/dns/dnstest"
	"moonseal/modules/faults"
	"moonseal/runtime/secret"
)

// scene is a world and a client in it.
type scene struct {
	*dnstest.World
	t        *testing.T
	faults   *faults.Set
	clock    *clockwork.FakeClock
	secrets  map[string]string
	client   *Client
	requests *counter
}

// counter counts the requests to the providers' APIs.
type counter struct {
	next http.RoundTripper
	n    atomic.Int64
}

func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.next.RoundTrip(r)
}

func newScene(t *testing.T, opt dnstest.Options) *scene {
	t.Helper()
	s := &scene{t: t, faults: faults.New(), clock: clockwork.NewFakeClockAt(time.Now())}
	opt.Faults, opt.Clock = s.faults, s.clock
	if opt.Zones == nil {
		opt.Zones = []string{"example.com", "acme.example.net"}
	}
	world, err := dnstest.Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(world.Close)
	s.World = world
	c := world.Credentials()
	s.secrets = map[string]string{"CF": c.CloudflareToken, "DO": c.DigitalOceanToken, "AWS_ID": c.Route53AccessKeyID, "AWS_KEY": c.Route53SecretKey, "TSIG": c.TSIGSecret}
	s.client = s.fresh()
	return s
}

// fresh returns another client, as another process would have it.
func (s *scene) fresh() *Client {
	transport := s.HTTPClient().Transport.(*http.Transport)
	s.t.Cleanup(transport.CloseIdleConnections)
	s.requests = &counter{next: transport}
	return New(Options{
		Dial: s.Dial, HTTP: s.requests, Clock: s.clock, Resolvers: []string{dnstest.ResolverHost}, QueryTimeout: 300 * time.Millisecond,
		Secret: func(_ context.Context, h secret.Handle) (string, error) {
			if v, ok := s.secrets[h.Name]; ok {
				return v, nil
			}
			return "", secret.NotFound(h.Name)
		},
	})
}

func handle(name string) secret.Handle { return secret.Handle{Name: name} }

func zoneAt(provider string) Zone {
	z := Zone{Provider: provider, Name: "example.com"}
	switch provider {
	case "cloudflare":
		z.APIToken = handle("CF")
	case "digitalocean":
		z.APIToken = handle("DO")
	case "route53":
		z.AccessKeyID, z.SecretAccessKey = handle("AWS_ID"), handle("AWS_KEY")
	case "rfc2136":
		z.Server, z.KeyName, z.Key = "ns1.example.com", "moonseal", handle("TSIG")
	}
	return z
}

func providers() []string { return []string{"cloudflare", "digitalocean", "route53", "rfc2136"} }

// forEach runs a test with each provider in a scene of its own.
func forEach(t *testing.T, do func(t *testing.T, s *scene, z Zone)) {
	t.Helper()
	for _, p := range providers() {
		t.Run(p, func(t *testing.T) {
			t.Parallel()
			do(t, newScene(t, dnstest.Options{}), zoneAt(p))
		})
	}
}

func (s *scene) fault(f faults.Fault) {
	s.t.Helper()
	if _, err := s.faults.Add(f); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) add(name, typ, value string) {
	s.t.Helper()
	if _, err := s.Add(dnstest.Record{Name: name, Type: typ, Value: value}); err != nil {
		s.t.Fatal(err)
	}
}

// present looks and does.
func (s *scene) present(z Zone, challenges []Challenge) ([]Record, error) {
	plan, done, err := s.client.LookPresent(s.t.Context(), z, challenges)
	if err != nil || done != nil {
		return done, err
	}
	return s.client.Present(s.t.Context(), z, plan)
}

func (s *scene) mustPresent(z Zone, challenges []Challenge) []Record {
	s.t.Helper()
	records, err := s.present(z, challenges)
	if err != nil {
		s.t.Fatal(err)
	}
	return records
}

func challenge(name, value string) Challenge {
	return Challenge{Name: "_acme-challenge." + name + ".", Value: value}
}

// op returns the name of the fault for a provider's operation.
func op(provider, op string) string {
	if provider == "rfc2136" {
		return "dns.rfc2136.update"
	}
	return "dns." + provider + "." + op
}

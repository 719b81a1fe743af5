package lab_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	stdx509 "crypto/x509"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-acme/lego/v4/certificate"
	"github.com/go-acme/lego/v4/challenge/dns01"
	"github.com/go-acme/lego/v4/lego"
	legolog "github.com/go-acme/lego/v4/log"
	"github.com/go-acme/lego/v4/registration"
	"golang.org/x/sync/errgroup"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/dns/dnstest"
	"moonseal/runtime/journal/journaltest"
)

// runs is how many renewals are under way at once.
const runs = 64

// renewScript gets a certificate as a renewal does: the record is published over
// the provider's API, watched at the authoritative servers, and removed.
const renewScript = `local acme, dns = require "acme", require "dns"
local csr = %s
return playbook { run = function(ctx)
	local ca = acme.ca { directory = "lab", email = "` + email + `" }
	local zone = dns.zone { provider = "cloudflare", api_token = secret "CF_API_TOKEN" }
	local acct = ctx:step("creating_account", function() return ca:account() end)
	local order = ctx:step("requesting_certificate", function() return acct:order { csr = csr } end)
	ctx:step("creating_dns_challenge", function() return zone:present(order.challenges) end)
	ctx:poll("waiting_dns_propagation", { within = "1m" }, function() return zone:propagated(order.challenges) end)
	ctx:step("completing_validation", function() return acct:validate(order) end)
	ctx:step("downloading_certificate", function() return acct:finalize(order, csr) end)
end }`

// BenchmarkSixtyFourRuns: 64 journaled runs at once, each from its order to a
// certificate on the disk and no record left, against lego's own
// Certificate.ObtainForCSR, 64 at once in the same process against the same Pebble
// and DNS. lego has its defaults, but for the resolver, without which it would ask
// the internet, and its check of authoritative servers, which it makes at port 53
// only. A lego client each, because one delays the requests of all. Goal: at least
// 20 times its throughput.
func BenchmarkSixtyFourRuns(b *testing.B) {
	const zone = "automate.builders"
	world, err := dnstest.Start(dnstest.Options{Zones: []string{zone}})
	if err != nil {
		b.Fatal(err)
	}
	defer world.Close()
	ca, err := acmetest.Start(b.Context(), acmetest.Options{DNSAddr: world.Resolver()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = ca.Close() }()
	files, requests := map[string]string{}, make([]*stdx509.CertificateRequest, runs)
	for i := range runs {
		var table string
		requests[i], table = newCSR(b, fmt.Sprintf("cucm%02d.%s", i, zone))
		files[playbook(i)+".lua"] = fmt.Sprintf(renewScript, table)
	}
	e := newEngine(b, ca, world, files)
	e.withAccount(b, ca)
	legos := newLegos(b, ca, world)
	var r journaltest.Ratio
	for b.Loop() {
		r.Theirs(together(b, func(i int) error {
			_, err := legos[i].Certificate.ObtainForCSR(certificate.ObtainForCSRRequest{CSR: requests[i], Bundle: true})
			return err
		}))
		r.Ours(together(b, func(i int) error { return e.run(b.Context(), playbook(i), e.journal) }))
	}
	if left := len(world.TXT().Present); left > 0 {
		b.Errorf("%d TXT records are left", left)
	}
	r.Faster(b, "")
}

func playbook(i int) string { return fmt.Sprintf("renew%02d", i) }

// together returns how long it takes until do is done for each of the runs.
func together(b *testing.B, do func(i int) error) time.Duration {
	b.Helper()
	return journaltest.Time(b, func() error {
		var g errgroup.Group
		for i := range runs {
			g.Go(func() error { return do(i) })
		}
		return g.Wait()
	})
}

// newLegos returns lego clients of one account, which write into world.
func newLegos(b *testing.B, ca *acmetest.CA, world *dnstest.World) []*lego.Client {
	b.Helper()
	legolog.Logger = stdlog.New(io.Discard, "", 0)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	user := &legoUser{key: key}
	clients := make([]*lego.Client, runs)
	for i := range clients {
		conf := lego.NewConfig(user)
		conf.CADirURL = ca.DirectoryURL()
		transport := &http.Transport{TLSClientConfig: clientTLS(ca)}
		b.Cleanup(transport.CloseIdleConnections)
		conf.HTTPClient = &http.Client{Transport: transport, Timeout: 30 * time.Second}
		c, err := lego.NewClient(conf)
		if err != nil {
			b.Fatal(err)
		}
		if user.registration == nil {
			if user.registration, err = c.Registration.Register(registration.RegisterOptions{TermsOfServiceAgreed: true}); err != nil {
				b.Fatal(err)
			}
			if c, err = lego.NewClient(conf); err != nil { // it takes the account's URL at the start
				b.Fatal(err)
			}
		}
		err = c.Challenge.SetDNS01Provider(legoProvider{world},
			dns01.AddRecursiveNameservers([]string{world.Resolver()}), dns01.DisableAuthoritativeNssPropagationRequirement())
		if err != nil {
			b.Fatal(err)
		}
		clients[i] = c
	}
	return clients
}

type legoUser struct {
	key          crypto.PrivateKey
	registration *registration.Resource
}

func (u *legoUser) GetEmail() string                        { return email }
func (u *legoUser) GetRegistration() *registration.Resource { return u.registration }
func (u *legoUser) GetPrivateKey() crypto.PrivateKey        { return u.key }

// legoProvider is a provider that takes no time: it writes into the world itself.
type legoProvider struct{ world *dnstest.World }

func (p legoProvider) Present(domain, _, keyAuth string) error {
	info := dns01.GetChallengeInfo(domain, keyAuth)
	_, err := p.world.Add(dnstest.Record{Name: strings.TrimSuffix(info.EffectiveFQDN, "."), Type: "TXT", Value: info.Value})
	return err
}

func (p legoProvider) CleanUp(domain, _, keyAuth string) error {
	info := dns01.GetChallengeInfo(domain, keyAuth)
	p.world.Remove(info.EffectiveFQDN, "TXT", info.Value)
	return nil
}

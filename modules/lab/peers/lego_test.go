package peers

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net/http"

	"github.com/go-acme/lego/v4/certificate"
	"github.com/go-acme/lego/v4/challenge/dns01"
	"github.com/go-acme/lego/v4/lego"
	legolog "github.com/go-acme/lego/v4/log"
	"github.com/go-acme/lego/v4/providers/dns/cloudflare"
	"github.com/go-acme/lego/v4/registration"
)

const legoName = "lego"

// legoPeer has a client for each certificate at once, since one client delays the
// requests of all.
type legoPeer struct{ free chan *lego.Client }

// newLego returns lego with its defaults but for the CA, the resolver, the log, which is
// dropped, and its check of the authoritative servers, which it makes at port 53 only.
func newLego(t task) (peer, error) {
	legolog.Logger = stdlog.New(io.Discard, "", 0)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(t.Roots)) {
		return nil, errors.New("no roots in the task")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	user := &legoUser{key: key}
	p := &legoPeer{free: make(chan *lego.Client, atOnce)}
	for range atOnce {
		c, err := newLegoClient(t, user, roots)
		if err != nil {
			return nil, err
		}
		p.free <- c
	}
	return p, nil
}

func newLegoClient(t task, user *legoUser, roots *x509.CertPool) (*lego.Client, error) {
	conf := lego.NewConfig(user)
	conf.CADirURL = t.Directory
	transport, ok := conf.HTTPClient.Transport.(*http.Transport)
	if !ok {
		return nil, fmt.Errorf("lego's HTTP transport is a %T", conf.HTTPClient.Transport)
	}
	transport.TLSClientConfig.RootCAs = roots
	c, err := lego.NewClient(conf)
	if err != nil {
		return nil, err
	}
	if user.registration == nil {
		if user.registration, err = c.Registration.Register(registration.RegisterOptions{TermsOfServiceAgreed: true}); err != nil {
			return nil, fmt.Errorf("account: %w", err)
		}
		if c, err = lego.NewClient(conf); err != nil { // it takes the account's URL at its start
			return nil, err
		}
	}
	api := cloudflare.NewDefaultConfig()
	api.AuthToken = t.Token
	timeout := api.HTTPClient.Timeout
	api.HTTPClient = t.client(roots)
	api.HTTPClient.Timeout = timeout
	provider, err := cloudflare.NewDNSProviderConfig(api)
	if err != nil {
		return nil, err
	}
	return c, c.Challenge.SetDNS01Provider(provider,
		dns01.AddRecursiveNameservers([]string{t.Resolver}), dns01.DisableAuthoritativeNssPropagationRequirement())
}

func (p *legoPeer) obtain(_ context.Context, csr []byte) error {
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return err
	}
	c := <-p.free
	defer func() { p.free <- c }()
	_, err = c.Certificate.ObtainForCSR(certificate.ObtainForCSRRequest{CSR: req, Bundle: true})
	return err
}

type legoUser struct {
	key          crypto.PrivateKey
	registration *registration.Resource
}

func (u *legoUser) GetEmail() string                        { return email }
func (u *legoUser) GetRegistration() *registration.Resource { return u.registration }
func (u *legoUser) GetPrivateKey() crypto.PrivateKey        { return u.key }

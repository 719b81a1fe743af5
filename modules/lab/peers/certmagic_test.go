package peers

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/cloudflare"
	"go.uber.org/zap"
)

const certmagicName = "certmagic"

type certmagicPeer struct {
	cache  *certmagic.Cache
	config *certmagic.Config
}

// newCertmagic returns certmagic with its defaults but for the CA, the resolver, the
// storage's folder, the log, which is dropped, and its limit of 10 certificates in 10
// seconds, which would be all that is measured.
func newCertmagic(t task) (peer, error) {
	certmagic.RateLimitEvents, certmagic.RateLimitEventsWindow = 0, 0
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(t.Roots)) {
		return nil, errors.New("no roots in the task")
	}
	c := &certmagicPeer{}
	quiet := zap.NewNop()
	c.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return c.config, nil }, Logger: quiet,
	})
	c.config = certmagic.New(c.cache, certmagic.Config{Storage: &certmagic.FileStorage{Path: t.Folder}, Logger: quiet})
	c.config.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(c.config, certmagic.ACMEIssuer{
		CA: t.Directory, Email: email, Agreed: true, TrustedRoots: roots, Logger: quiet,
		DNS01Solver: &certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{
			DNSProvider: &cloudflare.Provider{APIToken: t.Token, HTTPClient: t.client(roots)}, Resolvers: []string{t.Resolver}, Logger: quiet,
		}},
	})}
	return c, nil
}

// obtain makes a key of certmagic's own, as its users have it.
func (c *certmagicPeer) obtain(ctx context.Context, csr []byte) error {
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return err
	}
	if err := c.config.ObtainCertSync(ctx, req.DNSNames[0]); err != nil {
		return fmt.Errorf("%s: %w", req.DNSNames[0], err)
	}
	return nil
}

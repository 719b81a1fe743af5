package acme

import (
	"context"
	stdx509 "crypto/x509"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/acme/api"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// maxAlternates bounds how many chains of one certificate are looked at.
const maxAlternates = 8

// download gets a certificate with the chain that is preferred, else the one
// that the CA gives first.
func (c *Client) download(ctx context.Context, acct *Account, certURL string) (*x509.Certificate, error) {
	cert, header, err := c.getChain(ctx, acct, certURL)
	if err != nil || c.Preferred(cert) {
		return cert, err
	}
	for i, url := range alternates(header) {
		if i == maxAlternates {
			break
		}
		other, _, err := c.getChain(ctx, acct, url)
		if err != nil {
			return nil, err
		}
		if other.SHA256 == cert.SHA256 && c.Preferred(other) {
			return other, nil
		}
	}
	return cert, nil
}

func (c *Client) getChain(ctx context.Context, acct *Account, url string) (*x509.Certificate, http.Header, error) {
	key, kid, err := c.use(ctx, acct)
	if err != nil {
		return nil, nil, err
	}
	var pemText []byte
	header, err := c.do(ctx, "certificate", kid, key, func(core *api.Core) (err error) {
		pemText, _, err = core.Certificates.Get(url, true)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.Parse(string(pemText))
	if err != nil {
		return nil, nil, problem.At(err, "", url)
	}
	return cert, header, c.withRoot(cert)
}

// withRoot finds the root of cert's chain among those that are known here, and
// leaves out of the chain what only leads to that root's key by another way.
func (c *Client) withRoot(cert *x509.Certificate) error {
	chain, err := cert.Chain()
	if err != nil {
		return err
	}
	root, ok := x509.FindRoot(chain, c.ownRoots)
	if !ok {
		root, ok = x509.FindRoot(chain, c.opts.SystemRoots(chain))
	}
	if !ok {
		return nil
	}
	cert.Root, cert.Intermediates = x509.Encode(root), []string{}
	for _, link := range chain[1:] {
		if string(link.RawSubjectPublicKeyInfo) == string(root.RawSubjectPublicKeyInfo) {
			break
		}
		cert.Intermediates = append(cert.Intermediates, x509.Encode(link))
	}
	return nil
}

// Preferred reports whether cert's chain ends in the root that the CA's
// preferred_chain names; true where it names none.
func (c *Client) Preferred(cert *x509.Certificate) bool {
	if c.ca.PreferredChain == "" {
		return true
	}
	chain, err := cert.Chain()
	if err != nil {
		return false
	}
	return strings.EqualFold(chain[len(chain)-1].Issuer.CommonName, c.ca.PreferredChain)
}

// alternates gives the URLs of a certificate's other chains (section 7.4.2).
func alternates(header http.Header) []string {
	link := regexp.MustCompile(`<([^>]+)>\s*;\s*rel="?alternate"?`)
	var urls []string
	for _, value := range header.Values("Link") {
		for _, m := range link.FindAllStringSubmatch(value, -1) {
			urls = append(urls, m[1])
		}
	}
	return urls
}

// Fitting gives a stored certificate (leaf and chain, PEM) with its root, where
// it is one for csr that has not expired; else nil. A run that finds one need
// not order another.
func (c *Client) Fitting(csr *x509.CSR, leafPEM, chainPEM string) (*x509.Certificate, error) {
	if csr == nil || leafPEM == "" {
		return nil, nil //nolint:nilnil // nil is the documented "none"
	}
	leaf, err := x509.Parse(leafPEM)
	if err != nil {
		return nil, err
	}
	others, err := x509.ParseAll(chainPEM)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	text.WriteString(leaf.PEM)
	for _, other := range others {
		if x509.Encode(other) != leaf.PEM {
			text.WriteString(x509.Encode(other))
		}
	}
	cert, err := x509.Parse(text.String())
	if err != nil {
		return nil, err
	}
	now := c.opts.Clock.Now()
	if cert.Fits(csr) != nil || cert.SelfSigned || !now.Before(cert.NotAfter) {
		return nil, nil //nolint:nilnil,nilerr // nil is the documented "none"
	}
	return cert, c.withRoot(cert)
}

// lifetime is how long cert is valid.
func lifetime(cert *stdx509.Certificate) time.Duration { return cert.NotAfter.Sub(cert.NotBefore) }

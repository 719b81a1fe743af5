package acme

import (
	"context"
	stdx509 "crypto/x509"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/acme/api"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// maxAlternates bounds how many chains of one certificate are looked at.
const maxAlternates = 8

// download gets a certificate with the chain that is preferred, else the one that the CA
// returns first. A chain that cannot be downloaded is skipped: the certificate is issued,
// whatever becomes of its other chains.
func (c *Client) download(ctx context.Context, acct *Account, certURL string) (*x509.Certificate, error) {
	cert, header, err := c.getChain(ctx, acct, certURL)
	if err != nil || c.Preferred(cert) {
		return cert, err
	}
	others := alternates(certURL, header)
	for _, other := range others[:min(len(others), maxAlternates)] {
		c.met(other) // they were all named now: together they are waited for as long as one
	}
	for _, other := range others[:min(len(others), maxAlternates)] {
		alternate, _, err := c.getChain(ctx, acct, other)
		if err != nil {
			logger(ctx).WarnContext(ctx, "cannot download an alternate chain of the certificate: skipped", "url", other, "error", err.Error())
			continue
		}
		if alternate.SHA256 == cert.SHA256 && c.Preferred(alternate) {
			return alternate, nil
		}
	}
	return cert, nil
}

func (c *Client) getChain(ctx context.Context, acct *Account, chainURL string) (*x509.Certificate, http.Header, error) {
	key, kid, err := c.use(ctx, acct)
	if err != nil {
		return nil, nil, err
	}
	var pemText []byte
	header, err := c.do(ctx, "certificate", kid, key, func(core *api.Core) (err error) {
		pemText, _, err = core.Certificates.Get(chainURL, true)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.Parse(string(pemText))
	if err != nil {
		return nil, nil, noChain(chainURL, err)
	}
	if err := c.withRoot(cert); err != nil {
		return nil, nil, noChain(chainURL, err)
	}
	return cert, header, nil
}

// noChain is the error of an answer that holds no certificate. The certificate is issued
// all the same, so the download is tried again.
func noChain(chainURL string, err error) error {
	return &problem.Error{
		Kind: problem.Unavailable, Target: chainURL, Message: "the CA's answer to certificate is not a chain of certificates: " + problem.From(err).Message,
		Work: problem.Unknown, Cause: err,
	}
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

// Preferred reports whether cert's chain ends in the root that the CA's preferred_chain
// names; true if it names none.
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

// alternates returns the URLs of a certificate's other chains (section 7.4.2), each
// once; base is what relative ones are resolved against.
func alternates(base string, header http.Header) []string {
	from, err := url.Parse(base)
	if err != nil {
		return nil
	}
	link := regexp.MustCompile(`<([^>]*)>((?:\s*;\s*[\w!#$&+.^*-]+\s*(?:=\s*(?:"[^"]*"|[^\s",;]*))?)*)`)
	param := regexp.MustCompile(`;\s*([\w!#$&+.^*-]+)\s*(?:=\s*(?:"([^"]*)"|([^\s",;]*)))?`)
	var urls []string
	for _, value := range header.Values("Link") {
		for _, m := range link.FindAllStringSubmatch(value, -1) {
			params := param.FindAllStringSubmatch(m[2], -1)
			rel := slices.IndexFunc(params, func(p []string) bool { return strings.EqualFold(p[1], "rel") }) // the first counts (RFC 8288 section 3.3)
			if rel < 0 || !slices.Contains(strings.Fields(strings.ToLower(params[rel][2]+" "+params[rel][3])), "alternate") {
				continue
			}
			to, err := from.Parse(strings.TrimSpace(m[1]))
			if err != nil || to.Scheme != "https" || to.Host == "" || to.User != nil || slices.Contains(urls, to.String()) {
				continue
			}
			urls = append(urls, to.String())
		}
	}
	return urls
}

// Fitting returns a stored certificate (leaf and chain, PEM) with its root if it is one for
// csr that has not expired, else nil. A run that finds one need not order another. After
// a power failure the chain may be another certificate's: then there is none.
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
	if len(others) > 0 && x509.Encode(others[0]) != leaf.PEM {
		own, err := leaf.Leaf()
		if err != nil || own.CheckSignatureFrom(others[0]) != nil {
			return nil, nil //nolint:nilnil,nilerr // nil is the documented "none"
		}
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

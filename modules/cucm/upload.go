package cucm

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// Uploaded is the result of an upload.
type Uploaded struct {
	Host    string   `lua:"host" doc:"the node"`
	Service string   `lua:"service" doc:"whose certificate it is"`
	SHA256  string   `lua:"sha256" doc:"the installed certificate's fingerprint"`
	Trust   []string `lua:"trust" doc:"names of the issuers that were missing in the trust store and were uploaded"`
}

// UploadLook is what the checks before an upload found.
type UploadLook struct {
	Installed bool     `json:"installed"`          // it is the installed certificate already
	CSR       string   `json:"csr,omitempty"`      // the pending request's SHA-256
	Warnings  []string `json:"warnings,omitempty"` // have been logged too
}

// LookUpload checks whether the node would take cert for service, without
// changing anything. The checks come in this order: is it installed already;
// does it parse; dates; no wildcard; the pending request's key; its names;
// the chain by signatures up to a root; clientAuth (a warning); the trust
// store's rule of one certificate for each common name. Errors: Mismatch,
// Conflict (trust store), Usage (phone lockout).
func (c *Client) LookUpload(ctx context.Context, service string, cert *x509.Certificate) (UploadLook, error) {
	doing := "checking the certificate for " + service
	if err := c.mayChange(service); err != nil {
		return UploadLook{}, err
	}
	cert, err := readAgain(cert)
	if err != nil {
		return UploadLook{}, c.failed(doing, err)
	}
	if has, err := c.Has(ctx, service, cert); err != nil || has {
		return UploadLook{Installed: has}, err
	}
	csr, err := c.PendingCSR(ctx, service)
	if err != nil {
		return UploadLook{}, err
	}
	trusted, err := c.Trust(ctx, service)
	if err != nil {
		return UploadLook{}, err
	}
	c.keepTrust(service, trusted)
	chain, warnings, err := check(cert, csr, trusted, c.o.Clock.Now())
	if err == nil {
		_, err = c.missing(service, chain, trusted)
	}
	if err != nil {
		return UploadLook{}, c.failed(doing, err)
	}
	for _, w := range warnings {
		c.o.Log.Warn(w, "host", c.o.Host, "service", service, "sha256", cert.SHA256)
	}
	return UploadLook{CSR: csr.SHA256, Warnings: warnings}, nil
}

// Upload makes cert the certificate of service: root and intermediates that the trust
// store lacks first, then cert itself. It takes effect for peers only when the services
// restart. If certificates are pinned cert's fingerprint is accepted too from here on.
func (c *Client) Upload(ctx context.Context, service string, cert *x509.Certificate) (*Uploaded, error) {
	cert, err := readAgain(cert)
	if err != nil {
		return nil, c.failed("uploading the certificate for "+service, err)
	}
	trusted, known := c.takeTrust(service)
	if !known {
		if trusted, err = c.Trust(ctx, service); err != nil {
			return nil, untouched(err)
		}
	}
	chain, err := c.chainOf(cert, trusted)
	if err != nil {
		return nil, c.failed("uploading the certificate for "+service, err)
	}
	added, err := c.uploadTrust(ctx, service, chain, trusted)
	if err != nil {
		return nil, err
	}
	if err := c.pins.accept(cert.SHA256); err != nil {
		return nil, untouched(c.failed("keeping the pin of the new certificate", err))
	}
	if err := c.uploadIdentity(ctx, service, cert, chain); err != nil {
		return nil, err
	}
	return &Uploaded{Host: c.o.Host, Service: service, SHA256: cert.SHA256, Trust: added}, nil
}

// ProbeUpload finds out whether a lost Upload has happened.
func (c *Client) ProbeUpload(ctx context.Context, service string, cert *x509.Certificate) (*Uploaded, bool, error) {
	has, err := c.Has(ctx, service, cert)
	if err != nil || !has {
		return nil, false, err
	}
	return &Uploaded{Host: c.o.Host, Service: service, SHA256: cert.SHA256, Trust: []string{}}, true, nil
}

// readAgain returns cert with its fields as its PEM says: a script may have put
// it together by hand.
func readAgain(cert *x509.Certificate) (*x509.Certificate, error) {
	leaf, err := cert.Leaf()
	if err != nil {
		return nil, err
	}
	again := x509.From(leaf)
	again.Intermediates, again.Root = cert.Intermediates, cert.Root
	return again, nil
}

// untouched marks the error of a call before the first change.
func untouched(err error) error {
	p := *problem.From(err)
	p.Work = problem.NotDone
	return &p
}

// chainOf returns cert's issuers, root last.
func (c *Client) chainOf(cert *x509.Certificate, trusted []*x509.Certificate) ([]*x509.Certificate, error) {
	leaf, err := cert.Leaf()
	if err != nil {
		return nil, err
	}
	return checkChain(cert, leaf, trusted, c.o.Clock.Now())
}

// missing returns the certificates of chain that the trust store lacks. It keeps
// one certificate for each common name and silently drops one that is not newer.
func (c *Client) missing(service string, chain, trusted []*x509.Certificate) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, want := range chain {
		at := slices.IndexFunc(trusted, func(t *x509.Certificate) bool { return t.Subject == want.Subject })
		if slices.ContainsFunc(trusted, func(t *x509.Certificate) bool { return t.SHA256 == want.SHA256 }) {
			continue
		}
		if at < 0 {
			out = append(out, want)
			continue
		}
		has, log := trusted[at], c.o.Log.With("host", c.o.Host, "service", service, "name", want.Subject)
		switch {
		case want.NotBefore.After(has.NotBefore):
			log.Info("a newer certificate of the same name replaces one in the trust store", "sha256", want.SHA256, "replaced", has.SHA256)
			out = append(out, want)
		case want.KeySHA256 == has.KeySHA256:
			log.Info("the trust store holds another certificate of the same name and key, and keeps it", "sha256", has.SHA256)
		default:
			return nil, &problem.Error{
				Kind: problem.Conflict, Work: problem.NotDone,
				Message: fmt.Sprintf("the trust store holds another %q with another key and a later beginning (%s, sha256 %s); the appliance would silently keep it",
					want.Subject, has.NotBefore.UTC().Format("2006-01-02"), has.SHA256),
				Hint: "delete that one from " + trustService(service) + "-trust, or order a certificate with another chain",
			}
		}
	}
	return out, nil
}

// uploadTrust uploads what is missing, root first, and waits until it is
// listed. It returns the names of what it uploaded.
func (c *Client) uploadTrust(ctx context.Context, service string, chain, trusted []*x509.Certificate) ([]string, error) {
	missing, err := c.missing(service, chain, trusted)
	if err != nil {
		return nil, c.failed("uploading to the trust store of "+service, err)
	}
	slices.Reverse(missing)
	names := make([]string, 0, len(missing))
	for _, cert := range missing {
		_, _, err := c.do(ctx, call{
			doing: fmt.Sprintf("uploading %q to the trust store of %s", cert.Subject, service), method: http.MethodPost, path: c.o.Paths.TrustUpload,
			in: trustBody{[]string{trustService(service)}, []string{cert.PEM}, "issuer of a certificate uploaded by moonseal"},
		})
		if err != nil {
			return nil, err
		}
		c.o.Log.Info("issuer uploaded to the trust store", "host", c.o.Host, "service", service, "name", cert.Subject, "sha256", cert.SHA256)
		names = append(names, cert.Subject)
	}
	return names, c.awaitTrust(ctx, service, missing)
}

// awaitTrust waits until all of certs are in the trust store: the node accepts
// them at once and files them a little later.
func (c *Client) awaitTrust(ctx context.Context, service string, certs []*x509.Certificate) error {
	for end := c.o.Clock.Now().Add(c.o.Replication); len(certs) > 0; {
		trusted, err := c.Trust(ctx, service)
		if err != nil {
			return untouched(err)
		}
		certs = slices.DeleteFunc(certs, func(want *x509.Certificate) bool {
			return slices.ContainsFunc(trusted, func(t *x509.Certificate) bool { return t.SHA256 == want.SHA256 })
		})
		if len(certs) == 0 {
			break
		}
		if !c.o.Clock.Now().Before(end) {
			return c.failed("uploading to the trust store of "+service, &problem.Error{
				Kind: problem.Unavailable, Work: problem.NotDone,
				Message: fmt.Sprintf("the node took %q and still does not list it after %s", certs[0].Subject, c.o.Replication),
			})
		}
		if err := c.wait(ctx, c.o.Poll); err != nil {
			return untouched(c.failed("waiting for the trust store of "+service, err))
		}
	}
	return nil
}

// The service is an array in one body and a string in the other.
type (
	trustBody struct {
		Service      []string `json:"service"`
		Certificates []string `json:"certificates"`
		Description  string   `json:"description"`
	}
	identityBody struct {
		Service      string   `json:"service"`
		Certificates []string `json:"certificates"`
	}
)

func (c *Client) uploadIdentity(ctx context.Context, service string, cert *x509.Certificate, chain []*x509.Certificate) error {
	texts := []string{cert.PEM}
	for _, issuer := range chain {
		texts = append(texts, issuer.PEM)
	}
	_, _, err := c.do(ctx, call{
		doing: "uploading the certificate for " + service, method: http.MethodPost, path: c.o.Paths.IdentityUpload,
		in: identityBody{service, texts},
	})
	if err != nil && problem.From(err).Status == http.StatusInternalServerError {
		return c.stale(ctx, service, cert, err)
	}
	return err
}

// stale distinguishes the 500 that the appliance answers to a certificate whose request
// is gone from a temporary one. Either way it may have done the work.
func (c *Client) stale(ctx context.Context, service string, cert *x509.Certificate, answer error) error {
	p := *problem.From(answer)
	p.Work = problem.Unknown
	if p.Kind != problem.Unavailable {
		return &p // its words say what it is
	}
	p.Hint = "if that persists, generate a fresh CSR: the appliance answers like this to one that was used before"
	if csr, err := c.PendingCSR(ctx, service); err == nil && (csr == nil || csr.KeySHA256 != cert.KeySHA256) {
		p.Kind = problem.Mismatch
		p.Message = strings.TrimSpace(p.Message + "; the signing request of this certificate is not pending any more")
		p.Hint = "generate a fresh CSR"
	}
	return &p
}

package cucm

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	stdx509 "crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"sync"

	"moonseal/runtime/problem"
)

// pins is the list of accepted certificates. An empty list pins nothing and
// stays empty: such a node is verified against roots.
type pins struct {
	mu   sync.Mutex
	list []string
	keep func([]string) error
}

func (p *pins) get() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.list)
}

// change replaces a list that is not empty, once it is kept.
func (p *pins) change(change func(old []string) []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.list) == 0 {
		return nil
	}
	list := change(slices.Clone(p.list))
	if slices.Equal(list, p.list) {
		return nil
	}
	if p.keep != nil {
		if err := p.keep(slices.Clone(list)); err != nil {
			return err
		}
	}
	p.list = list
	return nil
}

// accept adds a certificate that the node will serve after a restart.
func (p *pins) accept(sha string) error {
	return p.change(func(old []string) []string {
		if slices.Contains(old, sha) {
			return old
		}
		return append(old, sha)
	})
}

// retain leaves only the certificate that is served now. One that was accepted
// before the newest is the old one, still served: the newest stays.
func (p *pins) retain(sha string) error {
	return p.change(func(old []string) []string {
		if i := slices.Index(old, sha); i >= 0 && i < len(old)-1 {
			return old
		}
		return []string{sha}
	})
}

// replace sets the list, which is kept already, and reports whether it is another one.
func (p *pins) replace(list []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(list, p.list) {
		return false
	}
	p.list = slices.Clone(list)
	return true
}

// verify accepts a pinned certificate, or one that verifies against the roots for the
// host's name.
func (c *Client) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return &problem.Error{Kind: problem.Untrusted, Target: c.o.Host, Message: "the node shows no certificate"}
	}
	leaf, accepted := cs.PeerCertificates[0], c.pins.get()
	seen := sum(leaf.Raw)
	if slices.Contains(accepted, seen) {
		return nil
	}
	between := stdx509.NewCertPool()
	for _, cert := range cs.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	var roots *stdx509.CertPool
	if c.o.Roots != nil {
		roots = c.o.Roots()
	}
	_, err := leaf.Verify(stdx509.VerifyOptions{
		Roots: roots, Intermediates: between, DNSName: c.o.Host, CurrentTime: c.o.Clock.Now(),
	})
	if err == nil {
		return nil
	}
	p := &problem.Error{
		Kind: problem.Untrusted, Target: c.o.Host, Cause: err, Work: problem.NotDone,
		Message: "the node's certificate is not trusted: sha256 " + seen + ": " + err.Error(),
		Hint:    "compare the fingerprint with the node's own, then run: " + cmp.Or(c.o.Trust, "moonseal trust "+c.o.Host),
	}
	if len(accepted) > 0 {
		p.Message = "the node shows another certificate than is pinned: expected sha256 " + strings.Join(accepted, " or ") + ", seen " + seen
	}
	return p
}

func sum(der []byte) string {
	s := sha256.Sum256(der)
	return hex.EncodeToString(s[:])
}

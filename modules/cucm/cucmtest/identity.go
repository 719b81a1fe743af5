package cucmtest

import (
	"crypto/x509"
	"net/http"
	"slices"
	"strings"
	"time"
)

// What an identity upload is refused with; the texts are Cisco's as far as they are documented.
const (
	reasonNoCA     = "CA certificate is not available in the trust-store"
	reasonKey      = "CSR public key and certificate public key do not match"
	reasonSAN      = "CSR SAN and Certificate SAN does not match"
	reasonExpired  = "Certificate has expired"
	reasonEarly    = "Certificate is not yet valid"
	reasonWildcard = "Wildcard certificates are not supported"
	reasonEKU      = "Certificate does not have the extended key usage clientAuth"
	reasonFormat   = "Invalid JSON Format"
)

const certificateFolder = "/usr/local/platform/.security/"

func noCSR(service string) string {
	return certificateFolder + service + "/keys/" + service + ".csr does not exist"
}

func notUploaded(service string) string {
	return certificateFolder + service + "/certs/" + service + ".der could not be uploaded"
}

type identityUpload struct {
	Service      string   `json:"service"` // a string here, an array in a trust upload
	Certificates []string `json:"certificates"`
}

func (n *Node) postIdentity(r *http.Request) (int, any, *apiError) {
	var u identityUpload
	refused := decode(r.Body, &u)
	if refused == nil {
		refused = n.checkService(u.Service)
	}
	if refused == nil && len(u.Certificates) == 0 {
		refused = refuse(http.StatusBadRequest, reasonFormat, "certificates is empty")
	}
	var certs []*x509.Certificate
	if refused == nil {
		var err error
		if certs, err = parseAll(u.Certificates); err != nil {
			refused = refuse(http.StatusBadRequest, notUploaded(u.Service), err.Error())
		}
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.deliver()
	if refused == nil {
		refused = n.install(u.Service, certs)
	}
	entry := Upload{Node: n.fqdn, Kind: IdentityUpload, Service: u.Service, SHA256: firstFingerprint(u.Certificates), Accepted: refused == nil}
	if refused != nil {
		entry.Reason = strings.Join(refused.messages, ": ")
	}
	n.c.noteUpload(entry)
	if refused != nil {
		return 0, nil, refused
	}
	return http.StatusOK, map[string]any{"service": u.Service, "message": "Certificate uploaded", "trackingId": trackingID()}, nil
}

func firstFingerprint(texts []string) string {
	if len(texts) > 0 {
		if cert, err := parseOne(texts[0]); err == nil {
			return fingerprint(cert.Raw)
		}
	}
	return ""
}

// install checks a certificate with its chain and makes it the identity of a
// service. The caller holds c.mu.
func (n *Node) install(service string, certs []*x509.Certificate) *apiError {
	leaf, pending := certs[0], n.pending[service]
	if refused := n.fits(service, leaf, pending); refused != nil {
		return refused
	}
	chain, ok := n.chain(service, certs)
	if !ok {
		return refuse(http.StatusBadRequest, reasonNoCA)
	}
	if n.behavior.EKU == EKUReject && !forClients(leaf) {
		return refuse(http.StatusBadRequest, notUploaded(service), reasonEKU)
	}
	id := &identity{cert: leaf, key: pending.key, chain: chain}
	n.identities[service] = id
	delete(n.pending, service)
	if pending.multi {
		n.replicateIdentity(service, id)
	}
	return nil
}

// fits compares a leaf with the calendar and the pending CSR.
func (n *Node) fits(service string, leaf *x509.Certificate, pending *pendingCSR) *apiError {
	now := n.c.clock.Now()
	switch {
	case now.After(leaf.NotAfter):
		return refuse(http.StatusBadRequest, reasonExpired)
	case now.Before(leaf.NotBefore):
		return refuse(http.StatusBadRequest, reasonEarly)
	case isWildcard(leaf):
		return refuse(http.StatusBadRequest, reasonWildcard)
	case pending == nil:
		// A CSR that was used already, and one that was never made: 500 both.
		return refuse(http.StatusInternalServerError, noCSR(service))
	}
	if !slices.Equal(pending.request.RawSubjectPublicKeyInfo, leaf.RawSubjectPublicKeyInfo) {
		return refuse(http.StatusInternalServerError, reasonKey)
	}
	others := len(leaf.IPAddresses) + len(leaf.EmailAddresses) + len(leaf.URIs)
	if others > 0 || !slices.Equal(sanSet(pending.request.DNSNames), sanSet(leaf.DNSNames)) {
		return refuse(http.StatusBadRequest, reasonSAN)
	}
	return nil
}

// sanSet makes two lists of names comparable: order and case don't count.
func sanSet(names []string) []string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		out = append(out, strings.ToLower(name))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func isWildcard(cert *x509.Certificate) bool {
	return strings.Contains(cert.Subject.CommonName, "*") ||
		slices.ContainsFunc(cert.DNSNames, func(name string) bool { return strings.Contains(name, "*") })
}

func forClients(cert *x509.Certificate) bool {
	return slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// chain verifies a leaf up to a self-signed root of the service's trust store
// and returns the issuers between the two.
func (n *Node) chain(service string, certs []*x509.Certificate) ([]*x509.Certificate, bool) {
	known := n.trust[trustOf(service)].list()
	if n.behavior.IdentityChain {
		known = append(known, certs[1:]...)
	}
	roots, issuers := x509.NewCertPool(), x509.NewCertPool()
	for _, cert := range known {
		if slices.Equal(cert.RawSubject, cert.RawIssuer) {
			roots.AddCert(cert)
		} else {
			issuers.AddCert(cert)
		}
	}
	chains, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: issuers, CurrentTime: n.c.clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, false
	}
	return chains[0][1 : len(chains[0])-1], true
}

// replicateIdentity brings a multi-server certificate with its key to the other
// nodes that it names. The caller holds c.mu.
func (n *Node) replicateIdentity(service string, id *identity) {
	at := n.c.clock.Now().Add(n.behavior.ReplicationDelay)
	for _, other := range n.c.nodes {
		if other == n || other.behavior.Unreached || other.identities[service] == nil || !slices.Contains(sanSet(id.cert.DNSNames), other.fqdn) {
			continue
		}
		other.arrive(at, func() { other.identities[service] = id })
	}
}

func (n *Node) arrive(at time.Time, apply func()) {
	n.arrivals = append(n.arrivals, arrival{at, apply})
}

func (n *Node) getIdentity(r *http.Request) (int, any, *apiError) {
	service, refused := n.queried(r)
	if refused != nil {
		return 0, nil, refused
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.deliver()
	text := toPEM("CERTIFICATE", n.identities[service].cert.Raw)
	if n.behavior.TrustShape == ShapeArray {
		return http.StatusOK, []map[string]any{{"service": service, "certificate": text}}, nil
	}
	return http.StatusOK, map[string]any{"service": service, "certificate": text, "trackingId": trackingID()}, nil
}

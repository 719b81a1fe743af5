package cucmtest

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
)

// trustStore keeps one certificate for each common name, as the platform does.
type trustStore map[string]*x509.Certificate

// add stores cert unless one of its name is there that is as new or newer.
func (t trustStore) add(cert *x509.Certificate) bool {
	name := cert.Subject.CommonName
	if name == "" {
		name = cert.Subject.String()
	}
	if old := t[name]; old != nil && !cert.NotBefore.After(old.NotBefore) {
		return false
	}
	t[name] = cert
	return true
}

func (t trustStore) list() []*x509.Certificate {
	out := make([]*x509.Certificate, 0, len(t))
	for _, name := range sortedKeys(t) {
		out = append(out, t[name])
	}
	return out
}

// AddTrust puts a PEM certificate into the trust store of a service of this node alone,
// by the rule that an upload follows; it does not count as an upload.
func (n *Node) AddTrust(service, pemText string) error {
	if refused := n.checkService(service); refused != nil {
		return fmt.Errorf("cucmtest: %s", refused.messages[0])
	}
	cert, err := parseOne(pemText)
	if err != nil {
		return fmt.Errorf("cucmtest: %w", err)
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.deliver()
	if !n.trust[trustOf(service)].add(cert) {
		return fmt.Errorf("cucmtest: %q is there already and is not older", cert.Subject.CommonName)
	}
	return nil
}

type trustUpload struct {
	Service      []string `json:"service"` // an array here, a string in an identity upload
	Certificates []string `json:"certificates"`
	Description  string   `json:"description"`
}

func (n *Node) postTrust(r *http.Request) (int, any, *apiError) {
	var u trustUpload
	certs, refused := n.readTrust(r, &u)
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.deliver()
	if refused != nil {
		n.c.noteUpload(Upload{
			Node: n.fqdn, Kind: TrustUpload, Service: strings.Join(u.Service, ","),
			SHA256: firstFingerprint(u.Certificates), Reason: strings.Join(refused.messages, ": "),
		})
		return 0, nil, refused
	}
	for _, service := range u.Service {
		for _, cert := range certs {
			n.storeTrust(service, cert)
		}
	}
	return http.StatusCreated, map[string]any{"service": u.Service, "message": "Certificate(s) uploaded", "trackingId": trackingID()}, nil
}

func (n *Node) readTrust(r *http.Request, u *trustUpload) ([]*x509.Certificate, *apiError) {
	if refused := decode(r.Body, u); refused != nil {
		return nil, refused
	}
	if len(u.Service) == 0 || len(u.Certificates) == 0 {
		return nil, refuse(http.StatusBadRequest, reasonFormat, "service and certificates must not be empty")
	}
	for _, service := range u.Service {
		if refused := n.checkService(service); refused != nil {
			return nil, refused
		}
	}
	certs, err := parseAll(u.Certificates)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, notUploaded(u.Service[0]+"-trust"), err.Error())
	}
	for _, cert := range certs {
		if n.c.clock.Now().After(cert.NotAfter) {
			return nil, refuse(http.StatusBadRequest, reasonExpired)
		}
	}
	return certs, nil
}

// storeTrust stores one certificate here and, by replication, on the other nodes. One
// that is not newer than what is there is left out silently. The caller holds c.mu.
func (n *Node) storeTrust(service string, cert *x509.Certificate) {
	store := trustOf(service)
	entry := Upload{Node: n.fqdn, Kind: TrustUpload, Service: service, SHA256: fingerprint(cert.Raw), Accepted: n.trust[store].add(cert)}
	if !entry.Accepted {
		entry.Reason = "a certificate of the same common name is there and is not older"
	}
	n.c.noteUpload(entry)
	if !entry.Accepted || n.behavior.NoTrustReplication {
		return
	}
	at := n.c.clock.Now().Add(n.behavior.ReplicationDelay)
	for _, other := range n.c.nodes {
		if to := other.trust[store]; other != n && to != nil {
			other.arrive(at, func() { to.add(cert) })
		}
	}
}

func (n *Node) getTrust(r *http.Request) (int, any, *apiError) {
	service, refused := n.queried(r)
	if refused != nil {
		return 0, nil, refused
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.deliver()
	list := []map[string]any{}
	for _, cert := range n.trust[trustOf(service)].list() {
		list = append(list, map[string]any{"certificate": toPEM("CERTIFICATE", cert.Raw)})
	}
	if n.behavior.TrustShape == ShapeArray {
		return http.StatusOK, list, nil
	}
	return http.StatusOK, map[string]any{"certificates": list, "trackingId": trackingID()}, nil
}

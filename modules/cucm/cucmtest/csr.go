package cucmtest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// csrRequest is the body of POST csr. Only service and distribution must be
// there.
type csrRequest struct {
	Service       string   `json:"service"`
	Distribution  string   `json:"distribution"`
	CommonName    string   `json:"commonName"`
	KeyType       string   `json:"keyType"`
	KeyLength     int      `json:"keyLength"`
	HashAlgorithm string   `json:"hashAlgorithm"`
	AltNames      []string `json:"altNames"`
}

// pendingCSR is a generated CSR with its key. The next one of the service
// replaces it, an upload that fits consumes it.
type pendingCSR struct {
	pem     string
	request *x509.CertificateRequest
	key     crypto.Signer
	multi   bool
}

var keyLengths = map[string][]int{"rsa": {2048, 3072, 4096}, "ec": {256, 384, 521}} //nolint:gochecknoglobals // never changed

func (n *Node) postCSR(r *http.Request) (int, any, *apiError) {
	var q csrRequest
	if refused := decode(r.Body, &q); refused != nil {
		return 0, nil, refused
	}
	b := n.Behavior()
	multi := q.Distribution == b.multiServer()
	if refused := n.checkCSR(&q, multi); refused != nil {
		return 0, nil, refused
	}
	p, err := n.generate(q, multi)
	if err != nil {
		return 0, nil, refuse(http.StatusInternalServerError, "CSR could not be generated", err.Error())
	}
	n.c.mu.Lock()
	n.pending[q.Service] = p
	n.c.ledger.CSRs = append(n.c.ledger.CSRs, CSR{Node: n.fqdn, Service: q.Service, SHA256: fingerprint(p.request.Raw), At: n.c.clock.Now()})
	n.c.mu.Unlock()
	n.c.log.Info("CSR generated", "node", n.fqdn, "service", q.Service, "distribution", q.Distribution)
	return http.StatusCreated, map[string]any{
		"service": q.Service, "distribution": q.Distribution, "csr": p.pem, "trackingId": trackingID(),
	}, nil
}

// checkCSR refuses what cannot be and fills in the defaults.
func (n *Node) checkCSR(q *csrRequest, multi bool) *apiError {
	if refused := n.checkService(q.Service); refused != nil {
		return refused
	}
	switch {
	case !multi && q.Distribution != "this-server":
		return refuse(http.StatusBadRequest, "Invalid distribution")
	case multi && !multiServer(q.Service):
		return refuse(http.StatusBadRequest, "Multi-server certificates are not supported for "+q.Service)
	}
	ecdsa := strings.HasSuffix(q.Service, "-ECDSA")
	if q.KeyType == "" {
		q.KeyType = "rsa"
		if ecdsa {
			q.KeyType = "ec"
		}
	}
	lengths, known := keyLengths[q.KeyType]
	if !known {
		return refuse(http.StatusBadRequest, "Invalid keyType")
	}
	if ecdsa && q.KeyType != "ec" {
		return refuse(http.StatusBadRequest, "Invalid keyType for "+q.Service)
	}
	if q.KeyLength == 0 {
		q.KeyLength = lengths[0]
	}
	if !slices.Contains(lengths, q.KeyLength) {
		return refuse(http.StatusBadRequest, "Invalid keyLength")
	}
	if q.HashAlgorithm == "" {
		q.HashAlgorithm = "sha256"
	}
	if signatureAlgorithm(q.KeyType, q.HashAlgorithm) == x509.UnknownSignatureAlgorithm {
		return refuse(http.StatusBadRequest, "Invalid hashAlgorithm")
	}
	return n.checkNames(q, multi)
}

func (n *Node) checkNames(q *csrRequest, multi bool) *apiError {
	if q.CommonName == "" {
		q.CommonName = n.fqdn
		if multi {
			// What the appliance proposes: it may be absent from the SANs.
			host, domain, _ := strings.Cut(n.fqdn, ".")
			q.CommonName = host + "-ms." + domain
		}
	}
	if len(q.CommonName) > 64 {
		return refuse(http.StatusBadRequest, "Invalid commonName")
	}
	for _, name := range q.AltNames {
		if !validName(name) {
			return refuse(http.StatusBadRequest, "Invalid altNames: "+name)
		}
	}
	return nil
}

// sans are the names of a CSR: the node's or, for the whole cluster, those of
// all nodes and the parent domain; then those that were asked for.
func (n *Node) sans(q csrRequest, multi bool) []string {
	names := []string{n.fqdn}
	if multi {
		for _, other := range n.c.nodes {
			names = append(names, other.fqdn)
		}
		names = append(names, n.c.domain)
	}
	for _, name := range q.AltNames {
		names = append(names, strings.ToLower(name))
	}
	names = append(names, n.Behavior().ExtraNames...)
	slices.Sort(names)
	return slices.Compact(names)
}

func (n *Node) generate(q csrRequest, multi bool) (*pendingCSR, error) {
	key, err := n.c.newKey(q.KeyType, q.KeyLength)
	if err != nil {
		return nil, err
	}
	usage, err := usageExtensions()
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:            pkix.Name{CommonName: q.CommonName, Organization: []string{"cucmtest"}},
		DNSNames:           n.sans(q, multi),
		SignatureAlgorithm: signatureAlgorithm(q.KeyType, q.HashAlgorithm),
		ExtraExtensions:    usage,
	}, key)
	if err != nil {
		return nil, err
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	return &pendingCSR{pem: toPEM("CERTIFICATE REQUEST", der), request: request, key: key, multi: multi}, nil
}

// usageExtensions ask for both TLS roles, as all CSRs of the platform do.
func usageExtensions() ([]pkix.Extension, error) {
	extended, err := asn1.Marshal([]asn1.ObjectIdentifier{
		{1, 3, 6, 1, 5, 5, 7, 3, 1}, // serverAuth
		{1, 3, 6, 1, 5, 5, 7, 3, 2}, // clientAuth
	})
	if err != nil {
		return nil, err
	}
	// digitalSignature, keyEncipherment, dataEncipherment, keyAgreement (RFC 5280 section 4.2.1.3)
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0b10111000}, BitLength: 5})
	if err != nil {
		return nil, err
	}
	return []pkix.Extension{
		{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: extended},
		{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: usage},
	}, nil
}

func signatureAlgorithm(keyType, hash string) x509.SignatureAlgorithm {
	return map[string]x509.SignatureAlgorithm{
		"rsa sha256": x509.SHA256WithRSA, "rsa sha384": x509.SHA384WithRSA, "rsa sha512": x509.SHA512WithRSA,
		"ec sha256": x509.ECDSAWithSHA256, "ec sha384": x509.ECDSAWithSHA384, "ec sha512": x509.ECDSAWithSHA512,
	}[keyType+" "+hash]
}

func (n *Node) getCSR(r *http.Request) (int, any, *apiError) {
	service, refused := n.queried(r)
	if refused != nil {
		return 0, nil, refused
	}
	text := n.PendingCSR(service)
	if text == "" {
		return 0, nil, refuse(http.StatusNotFound, noCSR(service))
	}
	return http.StatusOK, map[string]any{"service": service, "csr": text, "trackingId": trackingID()}, nil
}

// validName accepts the names that a certificate of the platform may have,
// wildcards not among them.
func validName(name string) bool {
	return len(name) <= 253 && namePattern.MatchString(name)
}

var namePattern = regexp.MustCompile(`^(?i)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

package x509

import (
	stdx509 "crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"moonseal/runtime/problem"
)

// CSR is a certificate signing request (PKCS #10).
type CSR struct {
	PEM        string   `lua:"pem" doc:"the request, PEM"`
	CommonName string   `lua:"common_name,optional" doc:"the subject's common name; may be empty"`
	Names      []string `lua:"names,optional" doc:"DNS names (SAN), lower case, sorted"`
	KeySHA256  string   `lua:"key_sha256" doc:"lower-case hex over the public key (SubjectPublicKeyInfo)"`
	SHA256     string   `lua:"sha256" doc:"lower-case hex over the DER"`
	Host       string   `lua:"host,optional" doc:"the host that holds the key; empty if unknown"`
	Service    string   `lua:"service,optional" doc:"the service on it, such as tomcat; empty if unknown"`
	ClientAuth bool     `lua:"client_auth,optional" doc:"asks for the clientAuth extended key usage"`
}

// ParseCSR reads a PEM signing request and verifies that it is signed by its
// own key.
func ParseCSR(pemText string) (*CSR, error) {
	req, err := parseRequest(pemText)
	if err != nil {
		return nil, err
	}
	return &CSR{
		PEM:        string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: req.Raw})),
		CommonName: req.Subject.CommonName,
		Names:      normal(req.DNSNames),
		KeySHA256:  sum(req.RawSubjectPublicKeyInfo),
		SHA256:     sum(req.Raw),
		ClientAuth: asksClientAuth(req),
	}, nil
}

// Request returns the CSR as crypto/x509 has it, its signature verified. A CSR of
// which a script has changed the names and not the request is a Mismatch.
func (c *CSR) Request() (*stdx509.CertificateRequest, error) {
	req, err := parseRequest(c.PEM)
	if err != nil {
		return nil, err
	}
	if names := normal(req.DNSNames); !slices.Equal(names, c.Names) {
		return nil, &problem.Error{
			Kind: problem.Mismatch, Target: c.Host, Work: problem.NotDone,
			Message: fmt.Sprintf("the signing request is for %q, and its table says %q", names, c.Names),
		}
	}
	return req, nil
}

// OnlyDNSNames reports whether all alternative names of a request are DNS names:
// crypto/x509 leaves out the types that it does not know, and a CA may not.
func OnlyDNSNames(req *stdx509.CertificateRequest) bool {
	for _, ext := range req.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &names); err != nil || len(rest) > 0 {
			return false
		}
		const dNSName = 2 // RFC 5280 section 4.2.1.6
		if slices.ContainsFunc(names, func(n asn1.RawValue) bool { return n.Class != asn1.ClassContextSpecific || n.Tag != dNSName }) {
			return false
		}
	}
	return true
}

// CommonNames returns all common names of a request's subject: it may have several,
// of which crypto/x509 shows the last.
func CommonNames(req *stdx509.CertificateRequest) []string {
	var out []string
	for _, attr := range req.Subject.Names {
		if attr.Type.Equal(oidCommonName) {
			out = append(out, fmt.Sprint(attr.Value))
		}
	}
	return out
}

// DER returns the CSR as it is sent to a CA. Nothing in it is verified.
func (c *CSR) DER() ([]byte, error) { return decodeRequest(c.PEM) }

func decodeRequest(pemText string) ([]byte, error) {
	const most = 64 << 10
	if len(pemText) > most {
		return nil, &problem.Error{Kind: problem.Refused, Message: fmt.Sprintf("a signing request of %d bytes; at most %d", len(pemText), most)}
	}
	block, _ := pem.Decode([]byte(pemText))
	if block == nil || !strings.HasSuffix(block.Type, "CERTIFICATE REQUEST") {
		return nil, &problem.Error{Kind: problem.Refused, Message: "no certificate request in this PEM"}
	}
	return block.Bytes, nil
}

func parseRequest(pemText string) (*stdx509.CertificateRequest, error) {
	der, err := decodeRequest(pemText)
	if err != nil {
		return nil, err
	}
	req, err := stdx509.ParseCertificateRequest(der)
	if err != nil {
		return nil, unreadable("signing request", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, &problem.Error{Kind: problem.Mismatch, Message: "the signing request is not signed by its own key: " + err.Error(), Cause: err}
	}
	return req, nil
}

//nolint:gochecknoglobals // never changed
var (
	oidExtKeyUsage    = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidClientAuth     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidCommonName     = asn1.ObjectIdentifier{2, 5, 4, 3}
)

func asksClientAuth(req *stdx509.CertificateRequest) bool {
	for _, ext := range req.Extensions {
		var usages []asn1.ObjectIdentifier
		if !ext.Id.Equal(oidExtKeyUsage) {
			continue
		}
		if _, err := asn1.Unmarshal(ext.Value, &usages); err != nil {
			return false
		}
		return slices.ContainsFunc(usages, oidClientAuth.Equal)
	}
	return false
}

// Package x509 is plain data about certificates and signing requests, as a
// script, a journal and the other modules see them. What it reads comes from
// CAs and appliances, so all of it is bounded and checked.
package x509

import (
	"crypto/sha256"
	stdx509 "crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/problem"
)

// Certificate is a certificate and, if known, its chain.
type Certificate struct {
	Subject       string    `lua:"subject" doc:"the common name, or the whole distinguished name if there is none"`
	Issuer        string    `lua:"issuer" doc:"the issuer's common name, or its whole distinguished name"`
	Serial        string    `lua:"serial" doc:"serial number, lower-case hex"`
	Names         []string  `lua:"names,optional" doc:"DNS names (SAN), lower case, sorted"`
	NotBefore     time.Time `lua:"not_before" doc:"valid from"`
	NotAfter      time.Time `lua:"not_after" doc:"valid until"`
	SHA256        string    `lua:"sha256" doc:"fingerprint: lower-case hex over the DER"`
	KeySHA256     string    `lua:"key_sha256" doc:"lower-case hex over the public key (SubjectPublicKeyInfo)"`
	SelfSigned    bool      `lua:"self_signed" doc:"signed by its own key"`
	PEM           string    `lua:"pem" doc:"the certificate itself, PEM"`
	Intermediates []string  `lua:"intermediates,optional" doc:"PEM, the certificate's issuer first"`
	Root          string    `lua:"root,optional" doc:"the root's PEM; empty if unknown"`
}

// From returns cert as plain data, without a chain.
func From(cert *stdx509.Certificate) *Certificate {
	return &Certificate{
		Subject:       name(cert.Subject.CommonName, cert.Subject.String()),
		Issuer:        name(cert.Issuer.CommonName, cert.Issuer.String()),
		Serial:        hex.EncodeToString(cert.SerialNumber.Bytes()),
		Names:         normal(cert.DNSNames),
		NotBefore:     cert.NotBefore,
		NotAfter:      cert.NotAfter,
		SHA256:        sum(cert.Raw),
		KeySHA256:     sum(cert.RawSubjectPublicKeyInfo),
		SelfSigned:    selfSigned(cert),
		PEM:           Encode(cert),
		Intermediates: []string{},
	}
}

// Parse reads PEM: the first certificate is the leaf, the others its chain, in
// whatever order they come. A self-signed one among the others is the root.
func Parse(pemText string) (*Certificate, error) {
	certs, err := ParseAll(pemText)
	if err != nil {
		return nil, err
	}
	if len(certs) == 0 {
		return nil, &problem.Error{Kind: problem.Refused, Message: "no certificate in this PEM"}
	}
	c := From(certs[0])
	for _, cert := range order(certs[0], certs[1:]) {
		if selfSigned(cert) {
			if c.Root == "" {
				c.Root = Encode(cert)
			}
			continue
		}
		c.Intermediates = append(c.Intermediates, Encode(cert))
	}
	return c, nil
}

// Leaf returns the certificate as crypto/x509 has it.
func (c *Certificate) Leaf() (*stdx509.Certificate, error) {
	certs, err := ParseAll(c.PEM)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, &problem.Error{Kind: problem.Refused, Message: fmt.Sprintf("%d certificates, expected one", len(certs))}
	}
	return certs[0], nil
}

// Chain returns the leaf and the intermediates as crypto/x509 has them.
func (c *Certificate) Chain() ([]*stdx509.Certificate, error) { return ParseAll(c.ChainPEM()) }

// ChainPEM returns the leaf and the intermediates as one PEM text.
func (c *Certificate) ChainPEM() string {
	var b strings.Builder
	for _, block := range append([]string{c.PEM}, c.Intermediates...) {
		b.WriteString(strings.TrimSpace(block) + "\n")
	}
	return b.String()
}

// Fits returns a Mismatch if c is not a certificate for csr: another key, or other names.
func (c *Certificate) Fits(csr *CSR) error {
	if c.KeySHA256 != csr.KeySHA256 {
		return &problem.Error{Kind: problem.Mismatch, Message: "the certificate's key is not the signing request's key"}
	}
	if !slices.Equal(c.Names, csr.Names) {
		return &problem.Error{Kind: problem.Mismatch, Message: fmt.Sprintf(
			"the certificate's names (%s) are not the signing request's names (%s)",
			strings.Join(c.Names, " "), strings.Join(csr.Names, " "))}
	}
	return nil
}

// selfSigned reports whether cert is signed by its own key.
func selfSigned(cert *stdx509.Certificate) bool {
	if string(cert.RawIssuer) != string(cert.RawSubject) {
		return false
	}
	// Not CheckSignatureFrom: an appliance's self-signed leaf is not a CA.
	err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
	var old stdx509.InsecureAlgorithmError
	return err == nil || errors.As(err, &old)
}

func name(commonName, whole string) string {
	if commonName != "" {
		return commonName
	}
	return whole
}

// normal returns names in lower case, sorted, each once; never nil.
func normal(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, strings.ToLower(n))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func sum(der []byte) string {
	s := sha256.Sum256(der)
	return hex.EncodeToString(s[:])
}

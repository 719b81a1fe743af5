package x509

import (
	stdx509 "crypto/x509"
	"encoding/pem"
	"fmt"

	"moonseal/runtime/problem"
)

// Bounds on what is read: a chain from outside is a few certificates, a bundle
// of roots some hundreds.
const (
	maxPEM   = 4 << 20 // bytes
	maxCerts = 2000
)

// ParseAll reads each certificate of a PEM text, in its order. Blocks of other
// types are skipped.
func ParseAll(pemText string) ([]*stdx509.Certificate, error) {
	if len(pemText) > maxPEM {
		return nil, &problem.Error{Kind: problem.Refused, Message: fmt.Sprintf("PEM text of %d bytes; at most %d", len(pemText), maxPEM)}
	}
	var certs []*stdx509.Certificate
	for rest := []byte(pemText); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return certs, nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := stdx509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, unreadable("certificate", err)
		}
		if certs = append(certs, cert); len(certs) > maxCerts {
			return nil, &problem.Error{Kind: problem.Refused, Message: fmt.Sprintf("more than %d certificates in one PEM text", maxCerts)}
		}
	}
}

// Encode returns cert as PEM.
func Encode(cert *stdx509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

func unreadable(what string, err error) error {
	return &problem.Error{Kind: problem.Refused, Message: "not a " + what + ": " + err.Error(), Cause: err}
}

package acme

import (
	stdx509 "crypto/x509"
	"os"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// SystemRoots reads the system's trust store, which crypto/x509 uses but does
// not list: $SSL_CERT_FILE, else the first of the usual bundles.
func SystemRoots() []*stdx509.Certificate {
	files := []string{os.Getenv("SSL_CERT_FILE")}
	if files[0] == "" {
		files = []string{
			"/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Gentoo, Arch
			"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, RHEL
			"/etc/ssl/ca-bundle.pem",             // SUSE
			"/etc/ssl/cert.pem",                  // Alpine, BSD, macOS
		}
	}
	for _, name := range files {
		if text, err := os.ReadFile(name); err == nil {
			return x509.ParseBundle(string(text))
		}
	}
	return nil
}

// trusted gives pool and, beside it, the roots of pemText.
func trusted(pool *stdx509.CertPool, pemText string) (*stdx509.CertPool, error) {
	if pemText == "" {
		return pool, nil
	}
	if pool == nil {
		system, err := stdx509.SystemCertPool()
		if err != nil {
			system = stdx509.NewCertPool()
		}
		pool = system
	}
	pool = pool.Clone()
	if !pool.AppendCertsFromPEM([]byte(pemText)) {
		return nil, &problem.Error{Kind: problem.Usage, Message: "trusted_roots holds no certificate in PEM"}
	}
	return pool, nil
}

package acme

import (
	stdx509 "crypto/x509"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// CA says which certificate authority to use, and how. It is plain data.
type CA struct {
	Directory      string `lua:"directory,optional" default:"letsencrypt" doc:"letsencrypt, letsencrypt-staging, zerossl, google, or the URL of an ACME directory"`
	Email          string `lua:"email,optional" doc:"contact address of the account; each address has an account of its own"`
	EAB            EAB    `lua:"eab,optional" doc:"external account binding, for CAs that ask for it"`
	Profile        string `lua:"profile,optional" doc:"the CA's certificate profile; where empty, classic at Let's Encrypt"`
	PreferredChain string `lua:"preferred_chain,optional" doc:"common name of the root that the chain should end in, where the CA offers several"`
	Roots          string `lua:"roots,optional" doc:"PEM: roots that the chain may end in, beside the system's"`
	TrustedRoots   string `lua:"trusted_roots,optional" doc:"PEM: roots for the connection to the CA, beside the system's"`
}

// EAB is an external account binding (RFC 8555 section 7.3.4).
type EAB struct {
	KeyID string        `lua:"kid,optional" doc:"key identifier, from the CA"`
	HMAC  secret.Handle `lua:"hmac,optional" doc:"the secret that holds the MAC key, base64url, from the CA"`
}

// Directories gives the directory URLs of the CAs that have a name here.
func Directories() map[string]string {
	return map[string]string{
		"letsencrypt":         "https://acme-v02.api.letsencrypt.org/directory",
		"letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
		"zerossl":             "https://acme.zerossl.com/v2/DV90",
		"google":              "https://dv.acme-v02.api.pki.goog/directory",
	}
}

// Resolve gives the URL of the CA's directory; known maps names to URLs and goes
// before [Directories].
func (ca CA) Resolve(known map[string]string) (*url.URL, error) {
	name := ca.Directory
	if name == "" {
		name = "letsencrypt"
	}
	names := Directories()
	maps.Copy(names, known)
	raw := name
	if found, ok := names[name]; ok {
		raw = found
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, &problem.Error{
			Kind: problem.Usage, Message: fmt.Sprintf("%q is neither a CA's name nor an https URL of an ACME directory", name),
			Hint: "names: " + strings.Join(slices.Sorted(maps.Keys(names)), ", "),
		}
	}
	return u, nil
}

// check looks at all that can be checked without asking anybody.
func (ca CA) check(known map[string]string) error {
	if _, err := ca.Resolve(known); err != nil {
		return err
	}
	if (ca.EAB.KeyID != "") == ca.EAB.HMAC.IsZero() {
		return &problem.Error{Kind: problem.Usage, Message: "an external account binding wants both kid and hmac"}
	}
	if _, err := x509.ParseAll(ca.Roots); err != nil {
		return problem.At(err, "", "roots")
	}
	_, err := trusted(nil, ca.TrustedRoots)
	return err
}

// letsEncrypt reports whether the CA is Let's Encrypt, by name or by host.
func (ca CA) letsEncrypt(directory *url.URL) bool {
	return ca.Directory == "" || strings.HasPrefix(ca.Directory, "letsencrypt") ||
		strings.HasSuffix(directory.Hostname(), ".api.letsencrypt.org")
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

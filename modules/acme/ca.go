package acme

import (
	"cmp"
	stdx509 "crypto/x509"
	"fmt"
	"maps"
	"net/mail"
	"net/url"
	"slices"
	"strings"

	"moonseal/modules/x509"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
	"moonseal/runtime/suggest"
)

// CA says which certificate authority to use, and how. It is plain data.
type CA struct {
	Directory      string `lua:"directory,optional" default:"letsencrypt" doc:"letsencrypt, letsencrypt-staging, zerossl, google, or the URL of an ACME directory"`
	Email          string `lua:"email,optional" doc:"contact address of the account; each address has an account of its own"`
	EAB            EAB    `lua:"eab,optional" doc:"external account binding, for CAs that ask for it; each has an account of its own"`
	Profile        string `lua:"profile,optional" doc:"the CA's certificate profile; if empty, classic at Let's Encrypt"`
	PreferredChain string `lua:"preferred_chain,optional" doc:"common name of the root that the chain should end in, if the CA offers several"`
	Roots          string `lua:"roots,optional" doc:"PEM: roots that the chain may end in, beside the system's"`
	TrustedRoots   string `lua:"trusted_roots,optional" doc:"PEM: roots for the connection to the CA, beside the system's"`
}

// EAB is an external account binding (RFC 8555 section 7.3.4).
type EAB struct {
	KeyID string        `lua:"kid,optional" doc:"key identifier, from the CA"`
	HMAC  secret.Handle `lua:"hmac,optional" doc:"the secret that holds the MAC key, base64url or base64, from the CA"`
}

// Directories returns the directory URLs of the CAs that have a name here.
func Directories() map[string]string {
	return map[string]string{
		"letsencrypt":         "https://acme-v02.api.letsencrypt.org/directory",
		"letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
		"zerossl":             "https://acme.zerossl.com/v2/DV90",
		"google":              "https://dv.acme-v02.api.pki.goog/directory",
	}
}

// Resolve returns the URL of the CA's directory; known maps names to URLs and goes
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
		all := slices.Sorted(maps.Keys(names))
		e := problem.Invalid("directory", fmt.Sprintf("must be a CA's name or the https URL of an ACME directory, got %q%s", name, suggest.Phrase(name, all)))
		e.Hint = "names: " + strings.Join(all, ", ")
		return nil, e
	}
	return u, nil
}

// check checks all that can be checked without a request.
func (ca CA) check(known map[string]string) error {
	if _, err := ca.Resolve(known); err != nil {
		return err
	}
	if err := ca.checkEmail(); err != nil {
		return err
	}
	if (ca.EAB.KeyID != "") == ca.EAB.HMAC.IsZero() {
		e := problem.Invalid("eab", "must have both kid and hmac")
		e.Hint = `eab = { kid = "…", hmac = secret "NAME" }`
		return e
	}
	if certs, err := x509.ParseAll(ca.Roots); err != nil || ca.Roots != "" && len(certs) == 0 {
		return problem.Invalid("roots", "must be certificates in PEM")
	}
	_, err := trusted(nil, ca.TrustedRoots)
	return err
}

// checkEmail refuses what cannot be the contact of an account: one address, without
// a name and without what a mailto URL adds to one (RFC 8555 section 7.3).
func (ca CA) checkEmail() error {
	if ca.Email == "" {
		return nil
	}
	parsed, err := mail.ParseAddress(ca.Email)
	odd := strings.ContainsFunc(ca.Email, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("?&%,\"", r) })
	if err != nil || odd || parsed.Address != ca.Email {
		return problem.Invalid("email", fmt.Sprintf("must be an email address such as %q, got %q", "admin@example.com", ca.Email))
	}
	_, domain, _ := strings.Cut(ca.Email, "@")
	if _, public := Directories()[cmp.Or(ca.Directory, "letsencrypt")]; public && !strings.Contains(strings.Trim(domain, "."), ".") {
		return problem.Invalid("email", fmt.Sprintf("must be an address in a public domain for this CA, got %q", ca.Email))
	}
	return nil
}

// letsEncrypt reports whether the CA is Let's Encrypt, by name or by host.
func (ca CA) letsEncrypt(directory *url.URL) bool {
	return ca.Directory == "" || strings.HasPrefix(ca.Directory, "letsencrypt") ||
		strings.HasSuffix(directory.Hostname(), ".api.letsencrypt.org")
}

// trusted returns pool and, beside it, the roots of pemText.
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
		return nil, problem.Invalid("trusted_roots", "must be certificates in PEM")
	}
	return pool, nil
}

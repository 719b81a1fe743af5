package acme

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	stdx509 "crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/faults"
	"moonseal/runtime/account"
	"moonseal/runtime/problem"
)

func TestAccountIsFoundAgainByItsKey(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	ctx := t.Context()
	w.fault(faults.Fault{Call: "acme.new-account", Kind: faults.Lost})
	if _, err := w.client().Account(ctx); problem.From(err).Happened() != problem.Unknown {
		t.Fatalf("a lost answer: %v", err)
	}
	acct := must(w.client().Account(ctx))(t)
	// The URL is lost, the key is not.
	w.requests("")
	w.opts.Store = noURL{w.store}
	if again := must(w.client().Account(ctx))(t); again.URL != acct.URL {
		t.Errorf("another account: %s, was %s", again.URL, acct.URL)
	}
	if n := len(w.requests("POST sign-me-up")); n != 1 {
		t.Errorf("%d requests to find it", n)
	}
	w.opts.Store, w.spec.Email = w.store, ""
	if other := must(w.client().Account(ctx))(t); other.URL == acct.URL {
		t.Error("another address has the same account")
	}
}

type noURL struct{ *account.Store }

func (noURL) AccountURL(account.Holder) (string, error) { return "", nil }

func TestKeyIsStoredBeforeTheCAHearsOfIt(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	full := errors.New("disk full")
	w.opts.Store = brokenStore{full}
	if _, err := w.client().Account(t.Context()); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if calls := w.requests("POST"); len(calls) != 0 {
		t.Errorf("sent %v", calls)
	}
}

type brokenStore struct{ err error }

func (s brokenStore) AccountKey(_ account.Holder, generate func() ([]byte, error)) ([]byte, bool, error) {
	key, err := generate()
	return key, true, errors.Join(s.err, err)
}
func (brokenStore) AccountURL(account.Holder) (string, error)   { return "", nil }
func (brokenStore) SaveAccountURL(account.Holder, string) error { return nil }
func (brokenStore) Deferral(string, string, time.Time) (account.Deferral, error) {
	return account.Deferral{}, nil
}
func (brokenStore) SaveDeferral(string, string, account.Deferral, time.Time) error { return nil }

func TestACAThatForgotTheAccount(t *testing.T) {
	old := newTestCA(t, acmetest.Options{})
	acct := must(old.client().Account(t.Context()))(t)
	w := newTestCA(t, acmetest.Options{}) // the same CA after it lost its memory
	acct.URL = strings.Replace(acct.URL, old.DirectoryURL(), w.DirectoryURL(), 1)
	must(w.client().Account(t.Context()))(t)
	gone := *acct
	gone.URL = strings.TrimSuffix(w.DirectoryURL(), "dir") + "my-account/1234567"
	order := must(w.client().Order(t.Context(), &gone, OrderRequest{CSR: newCSR(t, "", "a.example.com")}))(t)
	if order.Status != "pending" {
		t.Errorf("got %+v", order)
	}
}

func TestWithoutTheKeyNothingIsSent(t *testing.T) {
	w := newTestCA(t, acmetest.Options{})
	acct := must(w.client().Account(t.Context()))(t)
	w.opts.Store = account.Open(t.TempDir(), "")
	w.requests("")
	_, err := w.client().Order(t.Context(), acct, OrderRequest{CSR: newCSR(t, "", "a.example.com")})
	wantKind(t, err, problem.NotFound, "key")
	if calls := w.requests("POST"); len(calls) != 0 {
		t.Errorf("sent %v", calls)
	}
}

func TestExternalAccountBinding(t *testing.T) {
	mac := base64.RawURLEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	w := newTestCA(t, acmetest.Options{RequireEAB: true, EAB: map[string]string{"kid-1": mac}})
	ctx := t.Context()
	_, err := w.client().Account(ctx)
	wantKind(t, err, problem.Auth, "external account binding", "eab =")

	w.spec.EAB.KeyID = "kid-1"
	if _, err := New(w.spec, w.opts); err == nil {
		t.Error("kid without hmac is taken")
	}
	secretOf := func(v string) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { return v, nil }
	}
	w.opts.HMAC = secretOf("not base64 !!")
	_, err = w.client().Account(ctx)
	if p := wantKind(t, err, problem.Usage, "base64url"); strings.Contains(p.Error(), "not base64 !!") {
		t.Error("the error quotes the secret")
	}
	w.opts.HMAC = secretOf(base64.RawURLEncoding.EncodeToString([]byte("another key, of the same length!")))
	_, err = w.client().Account(ctx)
	if p := problem.From(err); p == nil || p.Kind.Retryable() {
		t.Errorf("a wrong key: %v", err)
	}
	w.opts.HMAC = secretOf(mac + "\n")
	must(w.client().Account(ctx))(t)
}

// CAs hand out the binding's key in either alphabet of base64.
func TestBindingKeyInEitherAlphabet(t *testing.T) {
	key := []byte("\xfb\xff\xfe0123456789abcdef0123456789abc")
	w := newTestCA(t, acmetest.Options{RequireEAB: true, EAB: map[string]string{"kid-1": base64.RawURLEncoding.EncodeToString(key)}})
	w.spec.EAB.KeyID = "kid-1"
	for _, enc := range []*base64.Encoding{base64.RawURLEncoding, base64.URLEncoding, base64.StdEncoding, base64.RawStdEncoding} {
		w.opts.Store = account.Open(t.TempDir(), "")
		w.opts.HMAC = func(context.Context) (string, error) { return enc.EncodeToString(key) + "\n", nil }
		must(w.client().Account(t.Context()))(t)
	}
	w.opts.Store = account.Open(t.TempDir(), "")
	w.opts.HMAC = func(context.Context) (string, error) { return "no!", nil }
	_, err := w.client().Account(t.Context())
	wantKind(t, err, problem.Usage, "base64url", "standard base64", "+ and /")
}

// Two directories of one host have accounts of their own, and so have two bindings.
func TestAccountsByDirectoryAndBinding(t *testing.T) {
	mac := base64.RawURLEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	w := newTestCA(t, acmetest.Options{DirectoryPaths: []string{"/acme/two/directory"}, EAB: map[string]string{"kid-1": mac, "kid-2": mac}})
	ctx := t.Context()
	// What an older version left: a key for the host, and the URL of an account that
	// only one of its directories knows.
	u := must(url.Parse(w.DirectoryURL()))(t)
	state := t.TempDir()
	old := filepath.Join(state, "accounts", "_acme", u.Host, "admin@example.com")
	if err := os.MkdirAll(filepath.Dir(old), 0o700); err != nil {
		t.Fatal(err)
	}
	first := must(w.client().Account(ctx))(t)
	key, _, err := w.store.AccountKey(account.Holder{Directory: w.DirectoryURL(), Email: "admin@example.com"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{".key": string(key), ".url": "https://" + u.Host + "/my-account/of-the-other-directory"} {
		if err := os.WriteFile(old+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.opts.Store = account.Open(state, "")
	w.requests("")
	if again := must(w.client().Account(ctx))(t); again.URL != first.URL {
		t.Errorf("the account of the older version's key is %s, got %s", first.URL, again.URL)
	}
	if n := len(w.requests("POST sign-me-up")); n != 1 {
		t.Errorf("%d requests to find it", n)
	}
	// A run that an older version began continues with its account.
	c := w.client()
	order := must(c.Order(ctx, first, OrderRequest{CSR: newCSR(t, "", "a.example.com")}))(t)
	must(c.Validate(ctx, first, order))(t)

	urls := map[string]bool{first.URL: true}
	w.opts.HMAC = func(context.Context) (string, error) { return mac, nil }
	for _, kid := range []string{"kid-1", "kid-2"} {
		w.spec.EAB.KeyID = kid
		acct := must(w.client().Account(ctx))(t)
		if urls[acct.URL] {
			t.Errorf("%s shares an account", kid)
		}
		urls[acct.URL] = true
	}
	w.opts.Store, w.opts.HMAC, w.spec.EAB.KeyID = account.Open(t.TempDir(), ""), nil, ""
	one := must(w.client().Account(ctx))(t)
	w.opts.Directories = map[string]string{"letsencrypt": "https://" + u.Host + "/acme/two/directory"}
	if two := must(w.client().Account(ctx))(t); two.URL == one.URL {
		t.Error("two directories share an account")
	}
}

func TestParseKey(t *testing.T) {
	ec := must(newKey())(t)
	if _, err := parseKey(ec); err != nil {
		t.Error(err)
	}
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	pkcs8 := must(stdx509.MarshalPKCS8PrivateKey(rsaKey))(t)
	for _, block := range []*pem.Block{{Type: "RSA PRIVATE KEY", Bytes: stdx509.MarshalPKCS1PrivateKey(rsaKey)}, {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if _, err := parseKey(pem.EncodeToMemory(block)); err != nil {
			t.Errorf("%s: %v", block.Type, err)
		}
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "junk", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(stdx509.MarshalPKCS8PrivateKey(ed))(t)})),
	} {
		_, err := parseKey([]byte(text))
		wantKind(t, err, problem.Usage, "key file")
	}
}

func TestProfiles(t *testing.T) {
	w := newTestCA(t, acmetest.Options{Profiles: map[string]acmetest.Profile{
		"classic": {PromoteCommonName: true}, "tlsserver": {}, "shortlived": {},
	}})
	ctx := t.Context()
	acct := must(w.client().Account(ctx))(t)
	csr := newCSR(t, "", "a.example.com")
	for asked, want := range map[string]string{"": "classic", "shortlived": "shortlived"} {
		w.spec.Profile = asked
		if o := must(w.client().Order(ctx, acct, OrderRequest{CSR: csr}))(t); o.Profile != want {
			t.Errorf("profile %q returns %q", asked, o.Profile)
		}
	}
	if o := must(w.client().Order(ctx, acct, OrderRequest{CSR: csr, Profile: "tlsserver"}))(t); o.Profile != "tlsserver" {
		t.Errorf("the order's own profile returns %q", o.Profile)
	}
	_, err := w.client().Order(ctx, acct, OrderRequest{CSR: csr, Profile: "clasic"})
	wantKind(t, err, problem.Usage, "clasic", "classic, shortlived, tlsserver")
}

func TestDirectoryNames(t *testing.T) {
	var names []string
	for name := range Directories() {
		if _, err := (CA{Directory: name}).Resolve(nil); err != nil {
			t.Error(err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"google", "letsencrypt", "letsencrypt-staging", "zerossl"}) {
		t.Errorf("names: %v", names)
	}
}

package acmetest

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
)

func TestIssue(t *testing.T) {
	for _, mode := range modes() {
		t.Run(string(mode), func(t *testing.T) {
			z := newZone(t)
			ca := startCA(t, Options{DNSAddr: z.addr, Mode: mode})
			chain := issue(t, newAccount(t, ca), z, "b.example.com", "a.example.com")
			leaf := chain[0]

			roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
			roots.AppendCertsFromPEM([]byte(ca.RootPEM()))
			intermediates.AppendCertsFromPEM([]byte(ca.IntermediatePEM()))
			opts := x509.VerifyOptions{DNSName: "a.example.com", Roots: roots, Intermediates: intermediates}
			if _, err := leaf.Verify(opts); err != nil {
				t.Error(err)
			}
			if len(chain) != 2 || leaf.Subject.CommonName == "" {
				t.Errorf("chain of %d, common name %q", len(chain), leaf.Subject.CommonName)
			}
			if days := leaf.NotAfter.Sub(leaf.NotBefore).Round(time.Hour).Hours() / 24; days != 90 {
				t.Errorf("valid for %v days", days)
			}

			got, err := ca.Ledger(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			names := []string{"a.example.com", "b.example.com"}
			if len(got.Orders) != 1 || len(got.Certificates) != 1 {
				t.Fatalf("ledger: %+v", got)
			}
			order, cert := got.Orders[0], got.Certificates[0]
			if order.Status != "valid" || order.Profile != "classic" || !slices.Equal(order.Identifiers, names) ||
				!strings.HasPrefix(order.URL, strings.TrimSuffix(ca.DirectoryURL(), "dir")) {
				t.Errorf("order: %+v", order)
			}
			sum := sha256.Sum256(leaf.Raw)
			if cert.SHA256 != hex.EncodeToString(sum[:]) || cert.Order != order.URL || !slices.Equal(cert.Identifiers, names) ||
				cert.Serial != hex.EncodeToString(leaf.SerialNumber.Bytes()) {
				t.Errorf("certificate: %+v", cert)
			}
		})
	}
}

func TestWrongRecordIsRefused(t *testing.T) {
	z := newZone(t)
	ca := startCA(t, Options{DNSAddr: z.addr})
	client := newAccount(t, ca)
	order, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	authz, err := client.GetAuthorization(t.Context(), order.AuthzURLs[0])
	if err != nil {
		t.Fatal(err)
	}
	z.set("_acme-challenge.a.example.com.", "wrong")
	if _, err := client.Accept(t.Context(), dnsChallenge(t, authz)); err != nil {
		t.Fatal(err)
	}
	if got := decided(t, client, authz.URI); got.Status != acme.StatusInvalid {
		t.Fatalf("the wrong record was accepted: %+v", got)
	}
	got, err := ca.Ledger(t.Context())
	if err != nil || len(got.Orders) != 1 || got.Orders[0].Status != "invalid" || len(got.Certificates) != 0 {
		t.Errorf("ledger: %+v, %v", got, err)
	}
}

// Every URL that Pebble hands out has a name for faults: a new Pebble may move them.
func TestDirectoryURLsAreNamed(t *testing.T) {
	ca := startCA(t, Options{AlwaysValid: true})
	res, err := httpClient(t, ca).Get(ca.DirectoryURL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var dir map[string]any
	if err := json.Unmarshal(body, &dir); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"newNonce": "acme.new-nonce", "newAccount": "acme.new-account", "newOrder": "acme.new-order",
		"revokeCert": "acme.revoke", "keyChange": "acme.key-change", "renewalInfo": "acme.renewal-info",
	} {
		url, _ := dir[key].(string)
		if key == "renewalInfo" {
			url += "/id"
		}
		r, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := callName(r); got != want || r.URL.Host != ca.host || r.URL.Scheme != "https" {
			t.Errorf("%s: %s is named %q", key, url, got)
		}
	}
}

// A client that knows another CA's directory by its path finds the one here.
func TestDirectoryPaths(t *testing.T) {
	for _, mode := range modes() {
		ca := startCA(t, Options{AlwaysValid: true, Mode: mode, DirectoryPaths: []string{"/directory"}})
		base := strings.TrimSuffix(ca.DirectoryURL(), "/dir")
		for path, want := range map[string]int{"/dir": 200, "/directory": 200, "/directory/": 404, "/other": 404} {
			res, err := httpClient(t, ca).Get(base + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || res.StatusCode != want || (want == 200) != strings.Contains(string(body), `"newOrder": "`+base) {
				t.Errorf("%s %s: %d, %v: %s", mode, path, res.StatusCode, err, body)
			}
		}
	}
}

func TestAuthzReuse(t *testing.T) {
	ca := startCA(t, Options{AlwaysValid: true, AuthzReuse: 100})
	client := newAccount(t, ca)
	issue(t, client, nil, "a.example.com")
	order, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
	if err != nil || order.Status != acme.StatusReady {
		t.Errorf("second order: %+v, %v", order, err)
	}
}

func TestNoAuthzReuse(t *testing.T) {
	ca := startCA(t, Options{AlwaysValid: true})
	client := newAccount(t, ca)
	for range 5 {
		if got := len(issue(t, client, nil, "a.example.com")); got != 2 {
			t.Fatalf("chain of %d", got)
		}
	}
	ready := 0
	for range 10 {
		order, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("a.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		if order.Status == acme.StatusReady {
			ready++
		}
	}
	if ready > 2 { // Pebble compares with > and reuses 1 % at 0
		t.Errorf("%d of 10 orders have an authorization that was valid before", ready)
	}
}

func TestNonceReject(t *testing.T) {
	for _, percent := range []int{0, 50} {
		ca := startCA(t, Options{AlwaysValid: true, NonceReject: percent})
		client, rejected := newClient(t, ca), 0
		backoff := client.RetryBackoff
		client.RetryBackoff = func(n int, r *http.Request, res *http.Response) time.Duration {
			rejected++
			return backoff(n, r, res)
		}
		if _, err := client.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			issue(t, client, nil, "a.example.com")
		}
		if (percent == 0) != (rejected == 0) {
			t.Errorf("at %d %%: %d nonces rejected", percent, rejected)
		}
	}
}

func TestExternalAccountBinding(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	ca := startCA(t, Options{AlwaysValid: true, RequireEAB: true, EAB: map[string]string{"kid-1": base64.RawURLEncoding.EncodeToString(key)}})
	if _, err := newClient(t, ca).Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err == nil {
		t.Error("an account without binding was accepted")
	}
	bound := &acme.Account{ExternalAccountBinding: &acme.ExternalAccountBinding{KID: "kid-1", Key: key}}
	if _, err := newClient(t, ca).Register(t.Context(), bound, acme.AcceptTOS); err != nil {
		t.Error(err)
	}
}

func TestShortProfile(t *testing.T) {
	ca := startCA(t, Options{AlwaysValid: true, Profiles: map[string]Profile{"shortlived": {Validity: 6 * 24 * time.Hour}}})
	leaf := issue(t, newAccount(t, ca), nil, "a.example.com")[0]
	if days := leaf.NotAfter.Sub(leaf.NotBefore).Round(time.Hour).Hours() / 24; days != 6 || leaf.Subject.CommonName != "" {
		t.Errorf("valid for %v days, common name %q", days, leaf.Subject.CommonName)
	}
}

func TestChains(t *testing.T) {
	ca := startCA(t, Options{AlwaysValid: true, ChainLength: 2, AlternateRoots: 1})
	client := newAccount(t, ca)
	order := authorize(t, client, nil, "a.example.com")
	chain, url, err := client.CreateOrderCert(t.Context(), order.FinalizeURL, newCSR(t, "a.example.com"), true)
	if err != nil || len(chain) != 3 {
		t.Fatalf("chain of %d, %v", len(chain), err)
	}
	alternates, err := client.ListCertAlternates(t.Context(), url)
	if err != nil || len(alternates) != 1 {
		t.Fatalf("alternates %v, %v", alternates, err)
	}
	other, err := client.FetchCert(t.Context(), alternates[0], true)
	if err != nil {
		t.Fatal(err)
	}
	for i, der := range [][][]byte{chain, other} {
		certs := parseChain(t, der)
		roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(ca.RootPEMs()[i]))
		for _, c := range certs[1:] {
			intermediates.AddCert(c)
		}
		if _, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates}); err != nil {
			t.Errorf("chain %d: %v", i, err)
		}
	}
}

// Pebble sends it while something is at work: here DNS, which does not answer.
func TestRetryAfter(t *testing.T) {
	z := newZone(t)
	z.slow = make(chan struct{})
	ca := startCA(t, Options{DNSAddr: z.addr, RetryAuthz: 7, RetryOrder: 9})
	client := newAccount(t, ca)
	seen, answer := map[string]string{}, sync.OnceFunc(func() { close(z.slow) })
	t.Cleanup(answer)
	client.HTTPClient.Transport = watch{client.HTTPClient.Transport, func(r *http.Request, res *http.Response) {
		if v := res.Header.Get("Retry-After"); v != "" {
			seen[callName(r)] = v
			// So that the library does not wait for as long as it should.
			res.Header.Set("Retry-After", "0")
		}
		if seen["acme.authorization"] != "" {
			answer()
		}
	}}
	issue(t, client, z, "a.example.com")
	for call, seconds := range map[string]int{"acme.authorization": 7, "acme.finalize": 9} {
		if got := seen[call]; got != strconv.Itoa(seconds) && !nearDate(got, seconds) {
			t.Errorf("%s: Retry-After %q", call, got)
		}
	}
}

func nearDate(s string, seconds int) bool {
	at, err := http.ParseTime(s)
	left := time.Until(at)
	return err == nil && left > 0 && left <= time.Duration(seconds)*time.Second
}

func TestRenewalInfo(t *testing.T) {
	for _, mode := range modes() {
		t.Run(string(mode), func(t *testing.T) {
			ca := startCA(t, Options{AlwaysValid: true, Mode: mode})
			leaf := issue(t, newAccount(t, ca), nil, "a.example.com")[0]
			id := base64.RawURLEncoding.EncodeToString(leaf.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(leaf.SerialNumber.Bytes())
			start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
			if err := ca.SetRenewalInfo(t.Context(), pemOf(leaf), RenewalInfo(start, start.Add(time.Hour))); err != nil {
				t.Fatal(err)
			}
			res, err := httpClient(t, ca).Get("https://" + ca.host + "/draft-ietf-acme-ari-03/renewalInfo/" + id)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			var got struct {
				SuggestedWindow struct{ Start, End time.Time }
			}
			if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if w := got.SuggestedWindow; !w.Start.Equal(start) || !w.End.Equal(start.Add(time.Hour)) {
				t.Errorf("window %+v", w)
			}
		})
	}
}

func TestCertificateStatus(t *testing.T) {
	ca := startCA(t, Options{AlwaysValid: true})
	client := newAccount(t, ca)
	leaf := issue(t, client, nil, "a.example.com")[0]
	serial := hex.EncodeToString(leaf.SerialNumber.Bytes())
	if got, err := ca.CertificateStatus(t.Context(), serial); err != nil || got.Revoked {
		t.Errorf("before: %+v, %v", got, err)
	}
	if err := client.RevokeCert(t.Context(), nil, leaf.Raw, acme.CRLReasonSuperseded); err != nil {
		t.Fatal(err)
	}
	if got, err := ca.CertificateStatus(t.Context(), serial); err != nil || !got.Revoked || got.Reason != 4 {
		t.Errorf("after: %+v, %v", got, err)
	}
	if _, err := ca.CertificateStatus(t.Context(), "abc"); err == nil {
		t.Error("an unknown serial has a status")
	}
}

package x509

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	stdx509 "crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/runtime/problem"
)

type signer struct {
	cert *stdx509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var start = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// issue makes a certificate for key; a nil parent makes it self-signed.
func issue(t testing.TB, parent *signer, cn string, key *ecdsa.PrivateKey, ca bool, years int, names ...string) *signer {
	t.Helper()
	tmpl := &stdx509.Certificate{
		SerialNumber: big.NewInt(0x0abc), Subject: pkix.Name{CommonName: cn}, DNSNames: names,
		NotBefore: start, NotAfter: start.AddDate(years, 0, 0), BasicConstraintsValid: true, IsCA: ca,
		KeyUsage: stdx509.KeyUsageDigitalSignature,
	}
	if ca {
		tmpl.KeyUsage |= stdx509.KeyUsageCertSign
	}
	above, by := tmpl, key
	if parent != nil {
		above, by = parent.cert, parent.key
	}
	der, err := stdx509.CreateCertificate(rand.Reader, tmpl, above, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := stdx509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{cert, key}
}

func kindOf(t *testing.T, err error) problem.Kind {
	t.Helper()
	var p *problem.Error
	if !errors.As(err, &p) {
		t.Fatalf("not a *problem.Error: %v", err)
	}
	return p.Kind
}

func TestParseOrdersTheChainAndSetsTheRootApart(t *testing.T) {
	root := issue(t, nil, "root", newKey(t), true, 10)
	upper := issue(t, root, "upper", newKey(t), true, 5)
	lower := issue(t, upper, "lower", newKey(t), true, 5)
	leaf := issue(t, lower, "", newKey(t), false, 1, "B.example.com", "a.example.com")

	c, err := Parse("noise\n" + Encode(leaf.cert) + Encode(root.cert) + Encode(upper.cert) + Encode(lower.cert))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{Encode(lower.cert), Encode(upper.cert)}; !slices.Equal(c.Intermediates, want) {
		t.Errorf("intermediates are out of order")
	}
	if c.Root != Encode(root.cert) {
		t.Errorf("root not found")
	}
	if want := []string{"a.example.com", "b.example.com"}; !slices.Equal(c.Names, want) {
		t.Errorf("names = %v", c.Names)
	}
	if c.Serial != "0abc" || c.Issuer != "lower" || c.SelfSigned || !c.NotBefore.Equal(start) {
		t.Errorf("got %+v", c)
	}
	chain, err := c.Chain()
	if err != nil || len(chain) != 3 || !chain[0].Equal(leaf.cert) || !chain[2].Equal(upper.cert) {
		t.Errorf("Chain = %d certificates, %v", len(chain), err)
	}
	got, err := c.Leaf()
	if err != nil || !got.Equal(leaf.cert) {
		t.Errorf("Leaf: %v", err)
	}
}

func TestSelfSigned(t *testing.T) {
	if c := From(issue(t, nil, "cucm01", newKey(t), false, 5, "cucm01.example.com").cert); !c.SelfSigned || c.Subject != "cucm01" {
		t.Errorf("got %+v", c)
	}
	// The same name, but another key signed it.
	forged := issue(t, issue(t, nil, "same", newKey(t), true, 5), "same", newKey(t), false, 1)
	if From(forged.cert).SelfSigned {
		t.Error("a certificate that another key signed counts as self-signed")
	}
}

func TestFindRootGoesBySignature(t *testing.T) {
	key := newKey(t)
	old := issue(t, nil, "Root X", newKey(t), true, 10)
	imposter := issue(t, nil, "Root Y", newKey(t), true, 20)
	rootY := issue(t, nil, "Root Y", key, true, 10)
	renewed := issue(t, nil, "Root Y", key, true, 15)
	crossed := issue(t, old, "Root Y", key, true, 8)
	inter := issue(t, rootY, "Y1", newKey(t), true, 5)
	leaf := issue(t, inter, "leaf", newKey(t), false, 1)

	certs := func(ss ...*signer) (out []*stdx509.Certificate) {
		for _, s := range ss {
			out = append(out, s.cert)
		}
		return out
	}
	for _, tc := range []struct {
		name          string
		chain, bundle []*stdx509.Certificate
		want          *signer
	}{
		{"same name, other key", certs(leaf, inter), certs(imposter), nil},
		{"the right one of two", certs(leaf, inter), certs(imposter, rootY), rootY},
		{"the longer lived", certs(leaf, inter), certs(rootY, renewed), renewed},
		{"the chain's end first", certs(leaf, inter, crossed), certs(rootY, old), old},
		{"further down", certs(leaf, inter, crossed), certs(rootY), rootY},
		{"a cross-signed one is not a root", certs(leaf, inter), certs(crossed), nil},
		{"the chain brings its root", certs(leaf, inter, rootY), certs(rootY), rootY},
		{"no bundle", certs(leaf, inter, rootY), nil, nil},
	} {
		got, ok := FindRoot(tc.chain, tc.bundle)
		if ok != (tc.want != nil) || ok && !got.Equal(tc.want.cert) {
			t.Errorf("%s: got %v %v", tc.name, got != nil, ok)
		}
	}
}

func request(t testing.TB, key *ecdsa.PrivateKey, cn string, extra []pkix.Extension, names ...string) string {
	t.Helper()
	der, err := stdx509.CreateCertificateRequest(rand.Reader, &stdx509.CertificateRequest{
		Subject: pkix.Name{CommonName: cn}, DNSNames: names, ExtraExtensions: extra,
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "NEW CERTIFICATE REQUEST", Bytes: der}))
}

func TestParseCSR(t *testing.T) {
	eku, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}, oidClientAuth})
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	text := request(t, key, "cucm01-ms.example.com", []pkix.Extension{{Id: oidExtKeyUsage, Value: eku}}, "z.example.com", "A.example.com")
	csr, err := ParseCSR(text)
	if err != nil {
		t.Fatal(err)
	}
	if csr.CommonName != "cucm01-ms.example.com" || !slices.Equal(csr.Names, []string{"a.example.com", "z.example.com"}) || !csr.ClientAuth {
		t.Errorf("got %+v", csr)
	}
	again, err := ParseCSR(csr.PEM)
	if err != nil || again.SHA256 != csr.SHA256 {
		t.Errorf("its own PEM does not parse to the same: %v", err)
	}
	if plain, err := ParseCSR(request(t, key, "x", nil)); err != nil || plain.ClientAuth || plain.Names == nil {
		t.Errorf("got %+v, %v", plain, err)
	}

	cert := From(issue(t, nil, "x", key, false, 1, "a.example.com", "z.example.com").cert)
	if err := cert.Fits(csr); err != nil {
		t.Errorf("Fits: %v", err)
	}
	cert = From(issue(t, nil, "x", key, false, 1, "a.example.com").cert)
	if err := cert.Fits(csr); kindOf(t, err) != problem.Mismatch || !strings.Contains(err.Error(), "names") {
		t.Errorf("Fits with a name missing: %v", err)
	}
	cert = From(issue(t, nil, "x", newKey(t), false, 1, "a.example.com", "z.example.com").cert)
	if err := cert.Fits(csr); kindOf(t, err) != problem.Mismatch || !strings.Contains(err.Error(), "key") {
		t.Errorf("Fits with another key: %v", err)
	}
}

func TestBadInputIsRefused(t *testing.T) {
	good := request(t, newKey(t), "x", nil, "x.example.com")
	block, _ := pem.Decode([]byte(good))
	block.Bytes[len(block.Bytes)-1] ^= 1
	forged := string(pem.EncodeToMemory(block))
	for _, text := range []string{
		"", "hello", forged, strings.Repeat("x", 1<<20),
		"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
	} {
		if _, err := ParseCSR(text); err == nil {
			t.Errorf("ParseCSR took %.40q", text)
		} else {
			kindOf(t, err)
		}
	}
	for _, text := range []string{
		"", "hello", good, strings.Repeat("x", maxPEM+1),
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	} {
		if _, err := Parse(text); err == nil {
			t.Errorf("Parse took %.40q", text)
		} else {
			kindOf(t, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	root := issue(f, nil, "root", newKey(f), true, 10)
	leaf := issue(f, root, "leaf", newKey(f), false, 1, "a.example.com")
	f.Add(Encode(leaf.cert) + Encode(root.cert))
	f.Add(request(f, newKey(f), "x", nil, "x.example.com"))
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := Parse(text); err == nil {
			if again, err := Parse(c.ChainPEM() + c.Root); err != nil || again.SHA256 != c.SHA256 || len(again.Intermediates) != len(c.Intermediates) {
				t.Errorf("not the same when read back: %v", err)
			}
		}
		if c, err := ParseCSR(text); err == nil {
			if again, err := ParseCSR(c.PEM); err != nil || again.SHA256 != c.SHA256 {
				t.Errorf("not the same when read back: %v", err)
			}
		}
	})
}

package grant

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	stdx509 "crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// newRoot gives a self-signed certificate.
func newRoot(t *testing.T, name string) *stdx509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &stdx509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := stdx509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := stdx509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRootsOfAChainComeFromBundleAndSystem(t *testing.T) {
	bundled, wanted, other := newRoot(t, "bundled"), newRoot(t, "wanted"), newRoot(t, "other")
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: bundled.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := New(Options{CABundle: file})
	if err != nil {
		t.Fatal(err)
	}
	n.system = func() [][]byte {
		return [][]byte{other.Raw, wanted.Raw, append([]byte("no certificate "), wanted.RawIssuer...)}
	}
	got := n.RootsOf([]*stdx509.Certificate{wanted}) // its issuer has its own name
	if len(got) != 2 || !got[0].Equal(bundled) || !got[1].Equal(wanted) {
		t.Errorf("%d roots", len(got))
	}
	if got := n.RootsOf(nil); len(got) != 1 || !got[0].Equal(bundled) {
		t.Errorf("%d roots of nothing", len(got))
	}
}

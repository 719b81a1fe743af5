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
	"strings"
	"syscall"
	"testing"
	"time"
)

// newRoot returns a self-signed certificate.
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

func TestSystemRootsOfAChain(t *testing.T) {
	wanted, other := newRoot(t, "wanted"), newRoot(t, "other")
	n, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	n.system = func() [][]byte {
		return [][]byte{other.Raw, wanted.Raw, append([]byte("no certificate "), wanted.RawIssuer...)}
	}
	got := n.SystemRootsOf([]*stdx509.Certificate{wanted}) // its issuer has its own name
	if len(got) != 1 || !got[0].Equal(wanted) {
		t.Errorf("%d roots", len(got))
	}
	if got := n.SystemRootsOf(nil); len(got) != 0 {
		t.Errorf("%d roots of nothing", len(got))
	}
}

func TestBundle(t *testing.T) {
	root := newRoot(t, "bundled")
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := New(Options{CABundle: file})
	if err != nil {
		t.Fatal(err)
	}
	if got := n.Bundle(); len(got) != 1 || !got[0].Equal(root) {
		t.Errorf("%d roots", len(got))
	}
	if _, err := root.Verify(stdx509.VerifyOptions{Roots: n.Roots()}); err != nil {
		t.Errorf("the bundle's root is not trusted: %v", err)
	}
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{CABundle: file}); err == nil || !strings.Contains(err.Error(), "others can write it (mode 0666)") {
		t.Errorf("roots that others can add to: %v", err)
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{CABundle: fifo}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a FIFO: %v", err)
	}
}

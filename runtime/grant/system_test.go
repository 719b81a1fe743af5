package grant

import (
	stdx509 "crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

// The roots are those that crypto/x509 finds, each once.
func TestSystemRootsAreThoseOfGo(t *testing.T) {
	theirs, err := stdx509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	system := readSystem()
	if len(system) == 0 {
		t.Skip("this system has no roots: Debian's package ca-certificates has them")
	}
	if !makePool(system, nil).Equal(theirs) {
		t.Error("others than crypto/x509 has")
	}
	seen := map[string]bool{}
	for _, der := range system {
		if seen[string(der)] {
			t.Fatal("a root is there twice")
		}
		seen[string(der)] = true
	}
}

// The environment says where else they are, as with every Go program.
func TestSystemRootsOfTheEnvironment(t *testing.T) {
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: newRoot(t, "here").Raw})
	dir := t.TempDir()
	write := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one.pem")
	write("two.pem")
	if err := os.Symlink("one.pem", filepath.Join(dir, "hash.0")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", filepath.Join(dir, "none"))
	t.Setenv("SSL_CERT_DIR", dir+":"+filepath.Join(dir, "none"))
	if got := readSystem(); len(got) != 1 {
		t.Errorf("%d roots", len(got))
	}
}

package grant

import (
	"bytes"
	stdx509 "crypto/x509"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// systemBundles returns where Linux systems keep their roots, as crypto/x509 searches for
// them. It reads and parses each up to three times, in every process: as a part of the
// bundle, of the bundle again because that is in the folder, and as a file there. Here each
// is read once.
func systemBundles() []string {
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		return []string{file}
	}
	return []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
	}
}

func systemFolders() []string {
	if folders := os.Getenv("SSL_CERT_DIR"); folders != "" {
		return strings.Split(folders, ":")
	}
	return []string{"/etc/ssl/certs", "/etc/pki/tls/certs"}
}

// readSystem reads the system's roots, DER, each once.
func readSystem() [][]byte {
	var out [][]byte
	seen := map[string]bool{}
	add := func(path string) error {
		data, err := os.ReadFile(path)
		for _, der := range decodeBundle(data) {
			if !seen[string(der)] {
				seen[string(der)] = true
				out = append(out, der)
			}
		}
		return err
	}
	read := ""
	for _, path := range systemBundles() {
		if add(path) == nil {
			read = path
			break
		}
	}
	for _, folder := range systemFolders() {
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue
		}
		for _, e := range entries {
			path := filepath.Join(folder, e.Name())
			if path == read || e.Type()&fs.ModeSymlink != 0 && elsewhere(path, read != "") {
				continue
			}
			_ = add(path) // a file that cannot be read has no root
		}
	}
	return out
}

// elsewhere reports whether a link's target is read by another name, or is in the bundle
// because update-ca-certificates made both.
func elsewhere(link string, bundle bool) bool {
	to, err := os.Readlink(link)
	if err != nil {
		return true
	}
	managed := strings.HasPrefix(to, "/usr/share/ca-certificates/") || strings.HasPrefix(to, "/usr/local/share/ca-certificates/")
	return !strings.Contains(to, "/") || bundle && managed
}

func decodeBundle(data []byte) [][]byte {
	var out [][]byte
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return out
		}
		if block.Type == "CERTIFICATE" && len(block.Headers) == 0 {
			out = append(out, block.Bytes)
		}
	}
}

// makePool puts roots beside the system's.
func makePool(system [][]byte, roots []*stdx509.Certificate) *stdx509.CertPool {
	pool := stdx509.NewCertPool()
	if len(system) == 0 { // not a Linux system: crypto/x509 knows where its roots are
		known, err := stdx509.SystemCertPool()
		if err == nil {
			pool = known
		}
	}
	for _, der := range system {
		if c, err := stdx509.ParseCertificate(der); err == nil {
			pool.AddCert(c)
		}
	}
	for _, c := range roots {
		pool.AddCert(c)
	}
	return pool
}

// SystemRootsOf returns the system's roots that may have issued one of chain: their name is
// its issuer's. Only those are parsed: parsing all takes longer than a whole order.
func (n *Network) SystemRootsOf(chain []*stdx509.Certificate) []*stdx509.Certificate {
	var out []*stdx509.Certificate
	for _, der := range n.system() {
		if !slices.ContainsFunc(chain, func(c *stdx509.Certificate) bool { return bytes.Contains(der, c.RawIssuer) }) {
			continue
		}
		// A system's bundle may hold a root that this Go does not parse; the others count.
		if c, err := stdx509.ParseCertificate(der); err == nil {
			out = append(out, c)
		}
	}
	return out
}

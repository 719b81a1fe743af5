// Package account keeps the files that belong to appliances and CAs, below
// <state>/accounts: users may read and copy them, and other tools find them by the usual
// names of acme.sh and certbot.
//
//	accounts/<host>/<service>/{csr,certificate,chain}.pem
//	accounts/<host>/<service>/restarted.json    the restarts started to have it served
//	accounts/<host>/pins.json      what the host's TLS and SSH keys must be
//	accounts/<host>/renewal.log    what was done, a line each
//	accounts/_acme/<ca>/<directory>/<email>.key and .url    <email>,<key id> with an external account binding
//	accounts/_acme/<ca>/<directory>/renewal-info.json       until when the CA is not asked for renewal windows
//
// A tenant's files are laid out the same way below accounts/<tenant>. Files are 0600
// in folders of 0700; each is written whole and synced, or not at all. Several
// processes may use one folder. Errors are *problem.Error.
package account

import (
	"os"
	"path/filepath"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/plain"
)

// Store is one tenant's files. It is safe for concurrent use.
type Store struct {
	dir    string
	tenant string
}

// Open returns the files of a tenant, "" for the scripts at the top. It accesses no file;
// a tenant's name that cannot be a folder makes later calls fail.
func Open(stateDir, tenant string) *Store {
	dir := filepath.Join(stateDir, "accounts")
	if tenant != "" {
		dir = filepath.Join(dir, filepath.Base(tenant))
	}
	return &Store{dir: dir, tenant: tenant}
}

const csrFile, chainFile, certificateFile = "csr.pem", "chain.pem", "certificate.pem"

// SaveCSR keeps the CSR that host made for service. Its folder is synced with the
// certificate's: if power fails before, the file may have the previous CSR again, and if
// the run then fails the next one stops at a pending CSR that it does not know.
func (s *Store) SaveCSR(host, service, pem string) error {
	dir, err := s.service(host, service)
	if err != nil {
		return err
	}
	return atomicfile.Replace(filepath.Join(dir, csrFile), []byte(pem))
}

// CSR returns the CSR that SaveCSR kept, "" if there is none.
func (s *Store) CSR(host, service string) (string, error) {
	dir, err := s.service(host, service)
	if err != nil {
		return "", err
	}
	b, err := readFile(filepath.Join(dir, csrFile))
	return string(b), err
}

// SaveCertificate keeps a certificate and its chain, which is the leaf and its
// intermediates. The certificate is written last, so that after a crash it has its chain
// beside it. If power fails it may have another one's.
func (s *Store) SaveCertificate(host, service, leafPEM, chainPEM string) error {
	dir, err := s.service(host, service)
	if err != nil {
		return err
	}
	return atomicfile.WriteFiles(dir, atomicfile.File{Name: chainFile, Data: []byte(chainPEM)}, atomicfile.File{Name: certificateFile, Data: []byte(leafPEM)})
}

// Certificate returns what SaveCertificate kept, "" if there is none.
func (s *Store) Certificate(host, service string) (leaf, chain string, err error) {
	dir, err := s.service(host, service)
	if err != nil {
		return "", "", err
	}
	l, err := readFile(filepath.Join(dir, certificateFile))
	if err != nil || l == nil {
		return "", "", err
	}
	c, err := readFile(filepath.Join(dir, chainFile))
	return string(l), string(c), err
}

// AppendLog adds one line to host's renewal.log, with controls and line breaks
// escaped. It must hold no secret.
func (s *Store) AppendLog(host, line string) error {
	dir, err := s.host(host)
	if err != nil {
		return err
	}
	if err := atomicfile.MakeDir(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, "renewal.log")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return atomicfile.Explain("write", path, err)
	}
	_, err = f.WriteString(plain.Line(line) + "\n") // one write: lines of two processes do not mix
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return atomicfile.Explain("write", path, err)
}

func (s *Store) host(host string) (string, error) {
	base, err := s.base()
	if err != nil {
		return "", err
	}
	name, err := hostName(host)
	if err != nil {
		return "", err
	}
	return filepath.Join(base, name), nil
}

func (s *Store) service(host, service string) (string, error) {
	dir, err := s.host(host)
	if err != nil {
		return "", err
	}
	if err := checkWord("service", service); err != nil {
		return "", err
	}
	return filepath.Join(dir, service), nil
}

func (s *Store) base() (string, error) {
	if s.tenant == "" {
		return s.dir, nil
	}
	return s.dir, checkWord("tenant", s.tenant)
}

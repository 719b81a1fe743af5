package account

import (
	"path/filepath"
	"strings"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/problem"
)

// AccountKey gives the private key, in PEM, of the account that email has at a
// CA; where there is none it makes one with generate. Of several processes that
// ask at once, one makes it. The key is on the disk before AccountKey returns,
// so that an account which was made with it is never lost. email may be "".
func (s *Store) AccountKey(caHost, email string, generate func() ([]byte, error)) (pem []byte, created bool, err error) {
	path, err := s.acme(caHost, email)
	if err != nil {
		return nil, false, err
	}
	if err := atomicfile.MakeDir(filepath.Dir(path)); err != nil {
		return nil, false, err
	}
	unlock, err := lock(path + ".lock")
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	pem, err = readFile(path + ".key")
	switch {
	case err != nil:
		return nil, false, err
	case pem != nil && !strings.Contains(string(pem), "-----BEGIN "):
		return nil, false, &problem.Error{
			Kind: problem.Usage, Target: path + ".key", Work: problem.NotDone,
			Message: "the account key is damaged",
			Hint:    "restore it from a backup, or move it away to make a new account",
		}
	case pem != nil:
		return pem, false, nil
	}
	if pem, err = generate(); err != nil {
		return nil, false, err
	}
	return pem, true, atomicfile.WriteFile(path+".key", pem)
}

// AccountURL gives the URL that SaveAccountURL kept, "" where there is none:
// then the account has to be asked for by its key.
func (s *Store) AccountURL(caHost, email string) (string, error) {
	path, err := s.acme(caHost, email)
	if err != nil {
		return "", err
	}
	b, err := readFile(path + ".url")
	return strings.TrimSpace(string(b)), err
}

// SaveAccountURL keeps an account's URL (RFC 8555 section 7.3) beside its key,
// so that the account is found again without a request.
func (s *Store) SaveAccountURL(caHost, email, url string) error {
	path, err := s.acme(caHost, email)
	if err != nil {
		return err
	}
	key, err := readFile(path + ".key")
	if err != nil {
		return err
	}
	if key == nil {
		return &problem.Error{Kind: problem.Internal, Target: path + ".url", Message: "an account's URL is of no use without its key", Work: problem.NotDone}
	}
	return atomicfile.WriteFile(path+".url", []byte(url+"\n"))
}

// acme gives the path of an account's files, without their extension.
func (s *Store) acme(caHost, email string) (string, error) {
	base, err := s.base()
	if err != nil {
		return "", err
	}
	ca, err := caName(caHost)
	if err != nil {
		return "", err
	}
	name, err := emailName(email)
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "_acme", ca, name), nil
}

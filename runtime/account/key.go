package account

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/problem"
)

// Holder identifies an ACME account. A host may have several directories, each with
// accounts of its own; and at one directory each external account binding is another
// contract.
type Holder struct {
	Directory string // the URL of the CA's directory
	KeyID     string // the key identifier of the external account binding, "" for none
	Email     string // the contact address, "" for none
}

// AccountKey returns the private key, in PEM, of a holder's account; if there is none it
// makes one with generate. Of several processes that call it at once, one makes the key.
// The key is on the disk before AccountKey returns, so that an account which was made with
// it is never lost.
//
// A key that an older version kept for the whole host is migrated, without the URL of its
// account: only the CA knows at which directory that is, and finds it by the key. created
// is false then.
func (s *Store) AccountKey(holder Holder, generate func() ([]byte, error)) (pem []byte, created bool, err error) {
	path, err := s.acme(holder)
	if err != nil {
		return nil, false, err
	}
	if err := atomicfile.MakeDir(filepath.Dir(path)); err != nil {
		return nil, false, err
	}
	if err := s.migrate(holder, path); err != nil {
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
		return nil, false, damaged(path)
	case pem != nil:
		return pem, false, nil
	}
	if pem, err = generate(); err != nil {
		return nil, false, err
	}
	return pem, true, atomicfile.WriteFile(path+".key", pem)
}

func damaged(path string) error {
	return &problem.Error{
		Kind: problem.Usage, Target: path + ".key", Work: problem.NotDone,
		Message: "the account key is damaged",
		Hint:    "restore it from a backup, or move it away to make a new account",
	}
}

// migrate copies the key that an older version kept by the CA's host to path, unless
// this holder was migrated before (its lock file stays), or another one of the same
// directory has that key: two bindings do not share an account.
func (s *Store) migrate(holder Holder, path string) error {
	old, err := s.byHost(holder)
	if err != nil {
		return err
	}
	if used, err := exists(path + ".lock"); used || err != nil {
		return err
	}
	if there, err := exists(old + ".key"); !there || err != nil {
		return err
	}
	unlock, err := lock(old + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if done, err := exists(path + ".key"); done || err != nil {
		return err
	}
	pem, err := readFile(old + ".key")
	switch {
	case err != nil:
		return err
	case !strings.Contains(string(pem), "-----BEGIN "):
		return damaged(old)
	}
	others, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return atomicfile.Explain("read", filepath.Dir(path), err)
	}
	for _, other := range others {
		if filepath.Ext(other.Name()) != ".key" {
			continue
		}
		if text, err := readFile(filepath.Join(filepath.Dir(path), other.Name())); err != nil || bytes.Equal(text, pem) {
			return err
		}
	}
	return atomicfile.WriteFile(path+".key", pem)
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, atomicfile.Explain("read", path, err)
}

// AccountURL returns the URL that SaveAccountURL kept, "" if there is none: then the
// account must be looked up by its key.
func (s *Store) AccountURL(holder Holder) (string, error) {
	path, err := s.acme(holder)
	if err != nil {
		return "", err
	}
	b, err := readFile(path + ".url")
	return strings.TrimSpace(string(b)), err
}

// SaveAccountURL keeps an account's URL (RFC 8555 section 7.3) beside its key,
// so that the account is found again without a request.
func (s *Store) SaveAccountURL(holder Holder, url string) error {
	path, err := s.acme(holder)
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

// acme returns the path of a holder's files, without their extension.
func (s *Store) acme(holder Holder) (string, error) {
	base, err := s.base()
	if err != nil {
		return "", err
	}
	host, folder, err := directoryName(holder.Directory)
	if err != nil {
		return "", err
	}
	name, err := holderName(holder)
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "_acme", host, folder, name), nil
}

// byHost returns the path at which an older version kept the files, by host and e-mail
// address only.
func (s *Store) byHost(holder Holder) (string, error) {
	base, err := s.base()
	if err != nil {
		return "", err
	}
	host, _, err := directoryName(holder.Directory)
	if err != nil {
		return "", err
	}
	name, err := emailName(holder.Email)
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "_acme", host, name), nil
}

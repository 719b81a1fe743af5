package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // to read the journal's values as they are stored

	"moonseal/modules/faults"
)

// noSecrets fails the test where a secret of the lab, or a private key, is in
// anything that was printed, in any file but lab.env and the account keys
// themselves, in a value of the journal, or in the lab's ledger.
func (s *site) noSecrets() {
	needles := s.secrets()
	search := func(where string, data []byte) {
		for name, needle := range needles {
			if bytes.Contains(data, needle) {
				s.t.Errorf("%s is in %s", name, where)
			}
		}
	}
	search("what was printed", s.printed.Bytes())
	if s.lab != nil {
		l, err := s.lab.Ledger(context.Background()) // the test's own has ended
		s.check(err)
		text, err := json.Marshal(l)
		s.check(err)
		search("the ledger", text)
	}
	files := 0
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "lab.env" || s.accountKey(path) {
			return err
		}
		data, err := os.ReadFile(path)
		search(path, data)
		files++
		return err
	})
	if err != nil || files == 0 {
		s.t.Errorf("%d files were searched: %v", files, err)
	}
	if err := s.journalValues(search); err != nil {
		s.t.Error(err)
	}
}

// accountKey reports whether path is accounts/**/*.key, which is what a private
// key may be in.
func (s *site) accountKey(path string) bool {
	rel, err := filepath.Rel(filepath.Join(s.dir, "state", "accounts"), path)
	return err == nil && !strings.HasPrefix(rel, "..") && filepath.Ext(path) == ".key"
}

// secrets returns what must be nowhere, by a name that may be shown: the secrets of
// lab.env and the keys of the accounts, in the forms in which they travel.
func (s *site) secrets() map[string][]byte {
	needles := map[string][]byte{"a private key in PEM": []byte("PRIVATE KEY-----")}
	add := func(name, value string) {
		needles[name] = []byte(value)
		needles[name+" in a URL"] = []byte(url.QueryEscape(value))
		needles[name+" in base64"] = []byte(strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(value)), "="))
		needles[name+" in base64url"] = []byte(base64.RawURLEncoding.EncodeToString([]byte(value)))
		needles[name+" in hex"] = []byte(hex.EncodeToString([]byte(value)))
	}
	for name, value := range s.env {
		if !strings.HasSuffix(name, "_USERNAME") {
			add(name, value)
		}
	}
	for _, user := range []string{"CUCM", "CUCM_READER"} {
		add(user+" as HTTP Basic", s.env[user+"_USERNAME"]+":"+s.env[user+"_PASSWORD"])
	}
	keys := 0
	err := filepath.WalkDir(filepath.Join(s.dir, "state", "accounts"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".key" {
			return err
		}
		keys++
		return s.addKey(fmt.Sprintf("the account key %d", keys), path, add)
	})
	if err != nil {
		s.t.Error(err)
	}
	return needles
}

func (s *site) addKey(name, path string, add func(name, value string)) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s is no PEM", path)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	number, err := key.Bytes()
	if err != nil {
		return err
	}
	add(name+" as DER", string(block.Bytes))
	add(name, string(number)) // in base64url it is a JWK's d
	return nil
}

// journalValues returns search every value of the journal: in the file a long one
// is in pieces.
func (s *site) journalValues(search func(string, []byte)) error {
	path := filepath.Join(s.dir, "state", "moonseal.db")
	if _, err := os.Stat(path); err != nil {
		return nil // no run has started
	}
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	tables, err := allValues(db, "SELECT name FROM sqlite_master WHERE type = 'table'")
	if err != nil {
		return err
	}
	for _, table := range tables {
		values, err := allValues(db, `SELECT * FROM "`+string(table)+`"`)
		if err != nil {
			return err
		}
		for _, v := range values {
			search("table "+string(table), v)
		}
	}
	return nil
}

func allValues(db *sql.DB, query string) (out [][]byte, err error) {
	rows, err := db.Query(query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		values := make([]sql.RawBytes, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		for _, v := range values {
			out = append(out, bytes.Clone(v))
		}
	}
	return out, rows.Err()
}

// TestSecretsAreKept lets runs end in all ways, against servers that send back
// what they were sent. What every site is searched for is in noSecrets.
func TestSecretsAreKept(t *testing.T) {
	t.Parallel()
	echo := func(call string, words func(s *site) string) func(*site) {
		return func(s *site) {
			body := `{"messages":["` + words(s) + `"],"errors":[{"code":1,"message":"` + words(s) + `"}],"detail":"` + words(s) + `"}`
			s.fault(faults.Fault{Call: call, Kind: faults.Status, Code: 400, Body: body, Times: -1})
		}
	}
	password := func(s *site) string { return "no such user: administrator " + s.env["CUCM_PASSWORD"] }
	basic := func(s *site) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(s.env["CUCM_USERNAME"]+":"+s.env["CUCM_PASSWORD"]))
	}
	token := func(s *site) string { return "Authorization: Bearer " + s.env["CF_API_TOKEN"] }
	for name, c := range map[string]struct {
		breaks func(*site)
		code   int
		words  string
	}{
		"all is well":           {func(*site) {}, exitDone, "completed"},
		"password in an answer": {echo("cucm.identity", password), exitFailed, "[secret]"},
		"Basic in an answer":    {echo("cucm.upload-identity", basic), exitFailed, "[secret]"},
		"token in an answer":    {echo("dns.cloudflare.create", token), exitFailed, "[secret]"},
		"token at the clean-up": {echo("dns.cloudflare.delete", token), exitDone, "[secret]"},
		"wrong password":        {func(s *site) { s.env["CUCM_PASSWORD"] = "not-the-password-of-anyone" }, exitFailed, "refused the user name or password"},
		"no password":           {func(s *site) { delete(s.env, "CUCM_PASSWORD") }, exitFailed, "CUCM_PASSWORD"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newLabSite(t)
			c.breaks(s)
			if out := s.mustRun(c.code); !strings.Contains(out, c.words) {
				t.Errorf("it does not say %q:\n%s", c.words, out)
			}
			for _, h := range s.histories() {
				p := s.start("", "logs", h.Run.ID, "--config", s.config())
				if code := p.wait(); code != exitDone || p.out.Len() == 0 {
					t.Errorf("logs: exit code %d:\n%s", code, p.out.String())
				}
			}
		})
	}
}

// TestDemoKeepsSecrets searches what the demo leaves in its folder, and prints.
func TestDemoKeepsSecrets(t *testing.T) {
	t.Parallel()
	s := &site{t: t, dir: t.TempDir()}
	p := s.start("", "demo", "--dir", s.dir, "--outage", "50ms")
	if code := p.wait(); code != exitDone {
		t.Fatalf("exit code %d:\n%s", code, p.out.String())
	}
	s.readEnv()
	s.noSecrets()
}

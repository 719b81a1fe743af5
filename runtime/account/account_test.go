package account

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moonseal/runtime/problem"
)

const host = "cucm01.example.com"

func TestFilesComeBackAndAreThePersonsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := Open(dir, "")
	if csr, err := s.CSR(host, "tomcat"); csr != "" || err != nil {
		t.Fatalf("nothing kept yet: %q, %v", csr, err)
	}
	if leaf, chain, err := s.Certificate(host, "tomcat"); leaf+chain != "" || err != nil {
		t.Fatalf("nothing kept yet: %q, %q, %v", leaf, chain, err)
	}
	must(t, s.SaveCSR("CUCM01.Example.com.", "tomcat", "csr"))
	must(t, s.SaveCSR(host, "tomcat", "newer csr"))
	must(t, s.SaveCertificate(host, "tomcat", "leaf", "leaf+chain"))
	must(t, s.AppendLog(host, "one\n\x1b\u202etwo"))
	must(t, s.AppendLog(host, "three"))
	if csr, err := s.CSR(host, "tomcat"); csr != "newer csr" || err != nil {
		t.Errorf("CSR: %q, %v", csr, err)
	}
	if leaf, chain, err := s.Certificate(host, "tomcat"); leaf != "leaf" || chain != "leaf+chain" || err != nil {
		t.Errorf("Certificate: %q, %q, %v", leaf, chain, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "accounts", host, "renewal.log")); string(b) != "one\\n\\x1b\\u202etwo\nthree\n" || err != nil {
		t.Errorf("renewal.log: %q, %v", b, err)
	}
	seen := 0
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		must(t, err)
		st, err := d.Info()
		must(t, err)
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, st.Mode().Perm(), want)
		}
		if strings.HasPrefix(d.Name(), ".new") {
			t.Errorf("left behind: %s", path)
		}
		seen++
		return nil
	}))
	if seen != 8 { // four folders, four files
		t.Errorf("%d files and folders", seen)
	}
}

func TestTenantsAreApart(t *testing.T) {
	dir := t.TempDir()
	a, b := Open(dir, "north"), Open(dir, "south")
	must(t, a.SaveCSR(host, "tomcat", "csr"))
	if csr, err := b.CSR(host, "tomcat"); csr != "" || err != nil {
		t.Errorf("south sees %q, %v", csr, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "accounts", "north", host, "tomcat", "csr.pem")); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"..", "../x", "a/b", ".hidden", "_acme"} {
		if err := Open(dir, bad).SaveCSR(host, "tomcat", "csr"); kind(err) != problem.Usage {
			t.Errorf("tenant %q: %v", bad, err)
		}
	}
}

func TestNames(t *testing.T) {
	good := map[string]string{
		"CUCM01-pub": "cucm01-pub", "a.b.example.com.": "a.b.example.com", "192.0.2.7": "192.0.2.7",
		"2001:DB8::0:1": "2001:db8::1", "my_node.example": "my_node.example",
	}
	for in, want := range good {
		if got, err := hostName(in); got != want || err != nil {
			t.Errorf("hostName(%q) = %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", ".", "..", "../etc", "a/b", "a..b", "_acme", "-x", "a b", "a\x00b", "fe80::1%../x", "ü.example", strings.Repeat("a.", 127) + "a", "a\n"} {
		if got, err := hostName(bad); kind(err) != problem.Usage {
			t.Errorf("hostName(%q) = %q, %v", bad, got, err)
		}
	}
	for in, want := range map[string]string{"": noAddress, "Admin+x@Example.com": "admin+x@example.com"} {
		if got, err := emailName(in); got != want || err != nil {
			t.Errorf("emailName(%q) = %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"x", "@x", "a@", "../a@b", "a/b@c", ".a@b", "a@../b", "a@b/c", strings.Repeat("a", 200) + "@b"} {
		if got, err := emailName(bad); kind(err) != problem.Usage {
			t.Errorf("emailName(%q) = %q, %v", bad, got, err)
		}
	}
	for in, want := range map[string]string{"acme.example": "acme.example", "127.0.0.1:14000": "127.0.0.1:14000", "ACME.example:443": "acme.example:443"} {
		if got, err := caName(in); got != want || err != nil {
			t.Errorf("caName(%q) = %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "a:0", "a:x", "a:99999", "../a:1", "https://a"} {
		if got, err := caName(bad); err == nil {
			t.Errorf("caName(%q) = %q", bad, got)
		}
	}
	for _, bad := range []string{"", "..", "a/b", "pins.json", "renewal.log"} {
		if err := Open(t.TempDir(), "").SaveCSR(host, bad, "x"); kind(err) != problem.Usage {
			t.Errorf("service %q: %v", bad, err)
		}
	}
}

func TestAccountKeyIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	var made, created atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			pem, isNew, err := Open(dir, "").AccountKey(Holder{Directory: "https://acme.example:14000/dir", Email: "a@example.com"}, func() ([]byte, error) {
				made.Add(1)
				return []byte("-----BEGIN KEY-----\n"), nil
			})
			if err != nil || string(pem) != "-----BEGIN KEY-----\n" {
				t.Errorf("%q, %v", pem, err)
			}
			if isNew {
				created.Add(1)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 || created.Load() != 1 {
		t.Errorf("made %d, called created %d", made.Load(), created.Load())
	}
}

func atCA() Holder { return Holder{Directory: "https://ca/directory"} }

func TestAccountKeyErrors(t *testing.T) {
	s := Open(t.TempDir(), "")
	broken := errors.New("no entropy")
	if _, _, err := s.AccountKey(atCA(), func() ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("generate's error: %v", err)
	}
	path := filepath.Join(s.dir, "_acme", "ca", "directory", noAddress+".key")
	must(t, os.WriteFile(path, nil, 0o600))
	_, _, err := s.AccountKey(atCA(), func() ([]byte, error) { t.Error("a damaged key was replaced"); return nil, nil })
	if kind(err) != problem.Usage || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged key: %v", err)
	}
}

func TestAccountURL(t *testing.T) {
	s := Open(t.TempDir(), "")
	if err := s.SaveAccountURL(atCA(), "https://ca/1"); err == nil {
		t.Error("a URL without a key was kept")
	}
	_, _, err := s.AccountKey(atCA(), func() ([]byte, error) { return []byte("-----BEGIN KEY-----\n"), nil })
	must(t, err)
	if url, err := s.AccountURL(atCA()); url != "" || err != nil {
		t.Errorf("none yet: %q, %v", url, err)
	}
	must(t, s.SaveAccountURL(atCA(), "https://ca/1"))
	if url, err := s.AccountURL(atCA()); url != "https://ca/1" || err != nil {
		t.Errorf("%q, %v", url, err)
	}
}

// Accounts are apart where a CA keeps them apart: by directory and by binding.
func TestHoldersAreApart(t *testing.T) {
	s := Open(t.TempDir(), "")
	long := strings.Repeat("k", 200)
	for i, h := range []Holder{
		{Directory: "https://ca.example/acme/one/directory", Email: "a@example.com"},
		{Directory: "https://ca.example/acme/two/directory", Email: "a@example.com"},
		{Directory: "https://ca.example/acme_two_directory", Email: "a@example.com"},
		{Directory: "https://ca.example/acme%2Ftwo%2Fdirectory", Email: "a@example.com"},
		{Directory: "https://ca.example", Email: "a@example.com"},
		{Directory: "https://ca.example/..", Email: "a@example.com"},
		{Directory: "https://ca.example/" + long, Email: "a@example.com"},
		{Directory: "https://ca.example/" + long + "?x", Email: "a@example.com"},
		{Directory: "https://ca.example:9000/acme/one/directory", Email: "a@example.com"},
		{Directory: "https://ca.example/acme/one/directory"},
		{Directory: "https://ca.example/acme/one/directory", Email: "a@example.com", KeyID: "kid-1"},
		{Directory: "https://ca.example/acme/one/directory", Email: "a@example.com", KeyID: "kid/../2"},
		{Directory: "https://ca.example/acme/one/directory", Email: "a@example.com", KeyID: ".."},
		{Directory: "https://ca.example/acme/one/directory", Email: "a@example.com", KeyID: long},
		{Directory: "https://ca.example/acme/one/directory", Email: "a@example.com", KeyID: long + "k"},
		{Directory: "https://ca.example/acme/one/directory", Email: strings.Repeat("u", 60) + "@" + strings.Repeat(strings.Repeat("d", 60)+".", 2) + "example", KeyID: long},
	} {
		own := fmt.Sprintf("-----BEGIN %d-----", i)
		pem, created, err := s.AccountKey(h, func() ([]byte, error) { return []byte(own), nil })
		if string(pem) != own || !created || err != nil {
			t.Errorf("%+v: %q, %v", h, pem, err)
		}
		must(t, s.SaveAccountURL(h, own))
		if url, err := s.AccountURL(h); url != own || err != nil {
			t.Errorf("%+v: %q, %v", h, url, err)
		}
	}
	inside := filepath.Join(s.dir, "_acme")
	must(t, filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		if path != s.dir && !strings.HasPrefix(path, inside) {
			t.Errorf("outside: %s", path)
		}
		return err
	}))
	for _, bad := range []string{"", "http://ca.example/", "ca.example", "https://", "https://u@ca.example/", "https://../x"} {
		if _, _, err := s.AccountKey(Holder{Directory: bad}, nil); kind(err) != problem.Usage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A state directory of an older version has one key for a whole host.
func TestKeysOfAnOlderVersionAreTakenOver(t *testing.T) {
	s := Open(t.TempDir(), "")
	old := filepath.Join(s.dir, "_acme", "ca.example", "a@example.com")
	must(t, os.MkdirAll(filepath.Dir(old), 0o700))
	must(t, os.WriteFile(old+".key", []byte("-----BEGIN OLD-----"), 0o600))
	must(t, os.WriteFile(old+".url", []byte("https://ca.example/acct/1\n"), 0o600))
	fresh := func() ([]byte, error) { return []byte("-----BEGIN NEW-----"), nil }
	at := func(directory, kid string) Holder {
		return Holder{Directory: "https://ca.example/" + directory, KeyID: kid, Email: "a@example.com"}
	}
	for _, c := range []struct {
		holder Holder
		want   string
	}{
		{at("one", "kid-1"), "OLD"},
		{at("one", "kid-2"), "NEW"},
		{at("one", "kid-1"), "OLD"},
		{at("two", ""), "OLD"},
		{Holder{Directory: "https://ca.example/one"}, "NEW"},
		{Holder{Directory: "https://ca.example:444/one", Email: "a@example.com"}, "NEW"},
	} {
		pem, created, err := s.AccountKey(c.holder, fresh)
		if string(pem) != "-----BEGIN "+c.want+"-----" || created != (c.want == "NEW") || err != nil {
			t.Errorf("%+v: %q, %v, %v", c.holder, pem, created, err)
		}
		// At which directory the account is, the file does not say.
		if url, err := s.AccountURL(c.holder); url != "" || err != nil {
			t.Errorf("%+v: %q, %v", c.holder, url, err)
		}
	}
	// Whoever moves a key away asks for a new account, not the oldest.
	must(t, os.Remove(filepath.Join(s.dir, "_acme", "ca.example", "two", "a@example.com.key")))
	if pem, created, err := s.AccountKey(at("two", ""), fresh); string(pem) != "-----BEGIN NEW-----" || !created || err != nil {
		t.Errorf("%q, %v, %v", pem, created, err)
	}
	must(t, os.WriteFile(old+".key", nil, 0o600))
	if _, _, err := s.AccountKey(at("three", ""), fresh); kind(err) != problem.Usage {
		t.Errorf("a damaged key was left behind: %v", err)
	}
}

func TestPins(t *testing.T) {
	s := Open(t.TempDir(), "")
	if p, err := s.Pins(host); len(p.TLS)+len(p.SSH) != 0 || err != nil {
		t.Errorf("none yet: %v, %v", p, err)
	}
	want := Pins{TLS: []string{strings.Repeat("0a", 32)}, SSH: []string{"SHA256:" + strings.Repeat("A", 43)}}
	must(t, s.SavePins(host, want))
	if p, err := s.Pins(host); err != nil || p.TLS[0] != want.TLS[0] || p.SSH[0] != want.SSH[0] {
		t.Errorf("%v, %v", p, err)
	}
	for _, bad := range []Pins{{TLS: []string{""}}, {TLS: []string{strings.Repeat("0A", 32)}}, {TLS: []string{"0a:0b"}}, {SSH: []string{"MD5:x"}}, {SSH: []string{"SHA256:"}}} {
		if err := s.SavePins(host, bad); kind(err) != problem.Usage {
			t.Errorf("%v: %v", bad, err)
		}
	}
	must(t, os.WriteFile(filepath.Join(s.dir, host, "pins.json"), []byte(`{"tsl": []}`), 0o600))
	if _, err := s.Pins(host); kind(err) != problem.Usage {
		t.Errorf("damaged pins count as none: %v", err)
	}
}

// A hint that leaves out the tenant pins for nobody, and would be followed for ever.
func TestTrustCommand(t *testing.T) {
	for want, got := range map[string]string{
		"moonseal trust a.example":                                          Open("x", "").TrustCommand("a.example", 0, 22),
		"moonseal trust --tenant dfw a.example":                             Open("x", "dfw").TrustCommand("a.example", 443, 0),
		"moonseal trust --tenant dfw --port 8443 --ssh-port 2222 a.example": Open("x", "dfw").TrustCommand("a.example", 8443, 2222),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A person may have edited the file: what is no pin is an error, never no pin at all.
func FuzzPins(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"tls":["` + strings.Repeat("ab", 32) + `"]}`, `{"tls":["AB"]}`, `{"ssh":["SHA256:` + strings.Repeat("A", 43) + `"]}`,
		`{"tls":[]}{"tls":["x"]}`, `{"tsl":[]}`, `{"TLS":null}`, strings.Repeat("[", 10000),
	} {
		f.Add([]byte(seed))
	}
	state := f.TempDir()
	path := filepath.Join(state, "accounts", "node", "pins.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s := Open(state, "")
		pins, err := s.Pins("node")
		if err != nil {
			if problem.From(err).Kind != problem.Usage {
				t.Fatalf("%v", err)
			}
			return
		}
		if err := s.SavePins("node", pins); err != nil {
			t.Fatalf("read and not written: %v", err)
		}
		if again, err := s.Pins("node"); err != nil || !slices.Equal(again.TLS, pins.TLS) || !slices.Equal(again.SSH, pins.SSH) {
			t.Fatalf("%+v became %+v, %v", pins, again, err)
		}
	})
}

func TestRestarts(t *testing.T) {
	s := Open(t.TempDir(), "")
	if r, err := s.Restarts(host, "tomcat"); r.SHA256 != "" || len(r.Services) != 0 || err != nil {
		t.Errorf("none yet: %v, %v", r, err)
	}
	at := time.Date(2026, 11, 1, 3, 17, 0, 0, time.UTC)
	must(t, s.SaveRestarts(host, "tomcat", Restarts{SHA256: "0a", Services: map[string]Restart{"Cisco Tomcat": {Run: "r1", At: at}}}))
	if r, err := s.Restarts(host, "tomcat"); err != nil || r.SHA256 != "0a" || r.Services["Cisco Tomcat"] != (Restart{Run: "r1", At: at}) {
		t.Errorf("%v, %v", r, err)
	}
	if r, err := s.Restarts("cucm02.example.com", "tomcat"); r.SHA256 != "" || err != nil {
		t.Errorf("another node's: %v, %v", r, err)
	}
	must(t, os.WriteFile(filepath.Join(s.dir, host, "tomcat", "restarted.json"), []byte(`{"sha`), 0o600))
	if _, err := s.Restarts(host, "tomcat"); kind(err) != problem.Usage {
		t.Errorf("a damaged record counts as none: %v", err)
	}
}

func TestFolderThatOthersCanWrite(t *testing.T) {
	s := Open(t.TempDir(), "")
	must(t, s.SavePins(host, Pins{TLS: []string{strings.Repeat("0a", 32)}}))
	must(t, os.Chmod(filepath.Join(s.dir, host), 0o777))
	if _, err := s.Pins(host); kind(err) != problem.Usage {
		t.Errorf("read: %v", err)
	}
	if err := s.AppendLog(host, "x"); kind(err) != problem.Usage {
		t.Errorf("write: %v", err)
	}
}

func kind(err error) problem.Kind {
	if err == nil {
		return ""
	}
	return problem.From(err).Kind
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const (
	caDirectory = "https://ca.example/directory"
	certificate = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
)

func TestDeferrals(t *testing.T) {
	s := Open(t.TempDir(), "")
	now := time.Date(2026, 11, 1, 3, 17, 0, 0, time.UTC)
	path := filepath.Join(s.dir, "_acme", "ca.example", "directory", "renewal-info.json")
	is := func(what string, directory, id string, at, want time.Time) {
		t.Helper()
		d, err := s.Deferral(directory, id, at)
		if err != nil || !d.Until.Equal(want) || (d.Error == "") != want.IsZero() {
			t.Errorf("%s: %+v, %v", what, d, err)
		}
	}
	is("none yet", caDirectory, certificate, now, time.Time{})
	until := now.Add(LongestDeferral)
	must(t, s.SaveDeferral(caDirectory, certificate, Deferral{Until: until, Error: "answered 404"}, now))
	is("kept", caDirectory, certificate, now, until)
	is("just before its end", caDirectory, certificate, until.Add(-1), until)
	is("over", caDirectory, certificate, until, time.Time{})
	is("another certificate", caDirectory, "x.y", now, time.Time{})
	is("another directory", "https://ca.example/other", certificate, now, time.Time{})
	is("the clock was ahead when it was made", caDirectory, certificate, now.Add(-time.Second), time.Time{})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for _, damaged := range []string{`{"a`, "null", "[]", "", `{"x.y":7}`} {
		must(t, os.WriteFile(path, []byte(damaged), 0o600))
		is("damaged: "+damaged, caDirectory, certificate, now, time.Time{})
		must(t, s.SaveDeferral(caDirectory, certificate, Deferral{Until: until, Error: "answered 404"}, now))
		is("after "+damaged, caDirectory, certificate, now, until)
	}
	for _, bad := range []string{"", strings.Repeat("x", 300)} {
		if err := s.SaveDeferral(caDirectory, bad, Deferral{Until: until}, now); kind(err) != problem.Usage {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := s.SaveDeferral("http://ca.example/", certificate, Deferral{Until: until}, now); kind(err) != problem.Usage {
		t.Errorf("no directory: %v", err)
	}
}

// The file does not grow: what is over goes when another is kept, and so do the oldest
// of too many, and those that a wrong clock made.
func TestDeferralsAreBounded(t *testing.T) {
	s := Open(t.TempDir(), "")
	now := time.Date(2026, 11, 1, 3, 17, 0, 0, time.UTC)
	path := filepath.Join(s.dir, "_acme", "ca.example", "directory", "renewal-info.json")
	save := func(id string, at time.Time) {
		t.Helper()
		must(t, s.SaveDeferral(caDirectory, id, Deferral{Until: at.Add(LongestDeferral), Error: "answered 404"}, at))
	}
	kept := func() map[string]Deferral {
		all, err := readDeferrals(path)
		must(t, err)
		return all
	}
	many := map[string]Deferral{"in a wrong future": {Until: now.AddDate(10, 0, 0), Error: "answered 404"}}
	for i := range maxDeferrals + 3 {
		many[fmt.Sprint(i)] = Deferral{Until: now.Add(time.Hour + time.Duration(i)*time.Second), Error: "answered 404"}
	}
	b, err := json.Marshal(many)
	must(t, err)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, b, 0o600))
	save("new", now)
	all := kept()
	if _, third := all["2"]; len(all) != maxDeferrals || third {
		t.Errorf("%d are kept, the third of them: %v", len(all), third)
	}
	if _, wrong := all["in a wrong future"]; wrong {
		t.Error("one that a wrong clock made is kept")
	}
	save("later", now.Add(7*time.Hour))
	if all := kept(); len(all) != 1 {
		t.Errorf("%d are left though all but one are over", len(all))
	}
}

// Several processes may keep one each at once.
func TestDeferralsOfSeveralProcesses(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 11, 1, 3, 17, 0, 0, time.UTC)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := Open(dir, "").SaveDeferral(caDirectory, fmt.Sprint(i), Deferral{Until: now.Add(time.Hour), Error: "x"}, now); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 20 {
		if d, err := Open(dir, "").Deferral(caDirectory, fmt.Sprint(i), now); d.Until.IsZero() || err != nil {
			t.Errorf("%d: %+v, %v", i, d, err)
		}
	}
}

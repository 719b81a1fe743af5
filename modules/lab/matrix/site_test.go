package matrix

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/dns/dnstest"
	"moonseal/modules/faults"
	"moonseal/modules/lab"
	"moonseal/runtime/account"
	"moonseal/runtime/config"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/secret"
)

const (
	host = "cucm01-pub"
	pub  = host + "." + lab.Domain
)

// site is a lab in which renewals run one after the other.
type site struct {
	world   *lab.World
	network grant.Options
	secrets *vault
	ledger  *lab.Ledger // as of the last look

	accountKey []byte
	accountURL string
}

// vault is a source of secrets that change.
type vault struct {
	mu     sync.Mutex
	values secret.Map
}

func (v *vault) Value(ctx context.Context, name string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.values.Value(ctx, name)
}

func (v *vault) set(name, value string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.values[name] = value
}

func (v *vault) all() secret.Map {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.values)
}

func newSite(t testing.TB, change ...func(*lab.Options)) *site {
	t.Helper()
	o := lab.Options{
		Dir: t.TempDir(), SpareKeys: -1, Nodes: []cucmtest.NodeOptions{{Host: host, Role: cucmtest.Publisher}},
		Behavior:         cucmtest.Behavior{RestartOutage: 10 * time.Millisecond},
		PropagationDelay: []time.Duration{0, 0},
	}
	for _, c := range change {
		c(&o)
	}
	w, err := lab.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	conf, err := config.Load(w.ConfigPath(), os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{world: w, network: conf.Network(), secrets: &vault{values: secret.Map{}}}
	for _, line := range w.Environ() {
		name, value, _ := strings.Cut(line, "=")
		s.secrets.set(name, value)
	}
	s.look(t)
	return s
}

// look returns what has happened since the last look, and remembers.
func (s *site) look(t testing.TB) *lab.Ledger {
	t.Helper()
	now, err := s.world.Ledger(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	since := *now
	if old := s.ledger; old != nil {
		since.Orders, since.Certificates = now.Orders[len(old.Orders):], now.Certificates[len(old.Certificates):]
		since.CSRs, since.Uploads = now.CSRs[len(old.CSRs):], now.Uploads[len(old.Uploads):]
		since.Restarts, since.Logins = now.Restarts[len(old.Restarts):], nil
		since.TXT.History = now.TXT.History[len(old.TXT.History):]
		if len(now.Logins) >= len(old.Logins) { // of very many the oldest go
			since.Logins = now.Logins[len(old.Logins):]
		}
	}
	s.ledger = now
	return &since
}

func (s *site) node() *cucmtest.Node { return s.world.Cluster.Node(pub) }

func (s *site) fault(t testing.TB, f faults.Fault) int {
	t.Helper()
	id, err := s.world.Faults().Add(f)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (s *site) hits(id int) int {
	for _, f := range s.world.Faults().List() {
		if f.ID == id {
			return f.Hits
		}
	}
	return 0
}

// reset makes the site as good as new, but for the certificate that is served
// and what the CA has issued.
func (s *site) reset(t testing.TB) {
	t.Helper()
	s.world.Faults().Clear()
	s.node().DropCSR("tomcat")
	if _, err := s.node().RemoveTrust("tomcat", ""); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.world.DNS.Records() {
		if r.Type == "TXT" {
			s.world.DNS.Remove(r.Name, r.Type, r.Value)
		}
	}
	s.look(t)
}

// pin stores what the node shows now, as moonseal trust does.
func (s *site) pin(t testing.TB, state string) {
	t.Helper()
	pinNode(t, state, pub, s.node())
}

func pinNode(t testing.TB, state, host string, node *cucmtest.Node) {
	t.Helper()
	key, err := node.HostKeyFingerprint()
	if err != nil {
		t.Fatal(err)
	}
	pins := account.Pins{TLS: []string{node.ServedSHA256()}, SSH: []string{key}}
	if err := account.Open(state, "").SavePins(host, pins); err != nil {
		t.Fatal(err)
	}
}

// pinHostKey stores the host key that the node shows now, beside its certificates.
func (r *renewal) pinHostKey(t *testing.T) {
	t.Helper()
	store := account.Open(r.state, "")
	pins, err := store.Pins(pub)
	if err == nil {
		var key string
		key, err = r.node().HostKeyFingerprint()
		pins.SSH = []string{key}
	}
	if err == nil {
		err = store.SavePins(pub, pins)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// quoted returns text as JSON.
func quoted(text string) string {
	out, _ := json.Marshal(text) // a string does not fail
	return string(out)
}

// Who the runs of a site are at its CA: one account, as in a state directory that has
// seen a few renewals.
const (
	caHost = "acme-v02.api.letsencrypt.org"
	email  = "admin@automate.builders"
)

func holder() account.Holder {
	return account.Holder{Directory: "https://" + caHost + "/directory", Email: email}
}

// giveAccount puts the site's account into a state directory, if there is one yet.
func (s *site) giveAccount(t testing.TB, state string) {
	t.Helper()
	if s.accountURL == "" {
		return
	}
	store := account.Open(state, "")
	if _, _, err := store.AccountKey(holder(), func() ([]byte, error) { return s.accountKey, nil }); err != nil {
		t.Fatal(err)
	}
	if err := store.SaveAccountURL(holder(), s.accountURL); err != nil {
		t.Fatal(err)
	}
}

// keepAccount remembers the account that a run has made.
func (s *site) keepAccount(t testing.TB, state string) {
	t.Helper()
	store := account.Open(state, "")
	var err error
	if s.accountKey, _, err = store.AccountKey(holder(), func() ([]byte, error) { return nil, os.ErrNotExist }); err != nil {
		t.Fatal(err)
	}
	if s.accountURL, err = store.AccountURL(holder()); err != nil || s.accountURL == "" {
		t.Fatalf("no account: %v", err)
	}
}

// leftOver returns what is at the site and in a state directory that no run may leave.
func (s *site) leftOver(state string) (out []string) {
	for _, txt := range s.world.DNS.TXT().Present {
		if txt.Value != foreignValue {
			out = append(out, "TXT record "+txt.Name)
		}
	}
	err := filepath.WalkDir(state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for name, value := range s.secrets.all() {
			if name != "CUCM_USERNAME" && name != "CUCM_READER_USERNAME" && bytes.Contains(data, []byte(value)) {
				out = append(out, fmt.Sprintf("secret %s in %s", name, filepath.Base(path)))
			}
		}
		if filepath.Ext(path) == ".lock" && filepath.Base(filepath.Dir(path)) == "runs" {
			out = append(out, held(state, strings.TrimSuffix(filepath.Base(path), ".lock"))...)
		}
		return err
	})
	if err != nil {
		out = append(out, err.Error())
	}
	return out
}

// held reports a run's lock that is held. A file alone is not: another test's child, at
// the moment of its fork, has all files of this process open.
func held(state, run string) []string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := journal.LockRun(ctx, state, run)
	if err == nil {
		err = l.Release()
	}
	if err != nil {
		return []string{err.Error()}
	}
	return nil
}

// zone returns the zone of a drop-in for each provider.
func zone(provider string) string {
	return map[string]string{
		"cloudflare":   `{ provider = "cloudflare", api_token = secret "CF_API_TOKEN" }`,
		"digitalocean": `{ provider = "digitalocean", api_token = secret "DO_API_TOKEN" }`,
		"route53":      `{ provider = "route53", access_key_id = secret "AWS_ACCESS_KEY_ID", secret_access_key = secret "AWS_SECRET_ACCESS_KEY" }`,
		"rfc2136":      `{ provider = "rfc2136", server = "ns1.` + lab.Domain + `", key_name = "` + dnstest.DefaultCredentials().TSIGName + `", key = secret "TSIG_KEY" }`,
	}[provider]
}

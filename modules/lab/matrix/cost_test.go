package matrix

import (
	"database/sql"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/runtime/journal"
)

// cost is something that a run is counted by.
type cost struct {
	what string
	most int
	why  string // what cannot be less, and what most holds beside that
}

// renewalCosts are those of one renewal of one node by the standard pipeline, with an
// account that is there and a certificate that an earlier renewal has brought.
func renewalCosts() []cost {
	return []cost{
		{"TLS connections to the node", 3, "1 that is kept until the restart; before and after that only a handshake of its own proves what is served"},
		{"REST requests to the node", 9, "each change looks again: identity and pending request, pending and new request, identity, pending request, trust and upload, identity before the restart"},
		{"SSH logins", 2, "1 that tries the password before the first change, 1 that lists and restarts"},
		{"connections to the CA", 1, "all requests go over one"},
		{"requests to the CA", 10, "directory, renewal window, nonce, order, authorization, challenge, authorization, finalize, order, certificate; a slow CA is polled more often"},
		{"synced commits", 26, "the scripts, if they are new, begin, adoption and end; 7 marks of a change, 3 of how far the restart is, 11 steps and polls done, 1 undo; log lines come with those"},
		{"files replaced", 6, "request, chain, certificate, mark of the restart, pins before and after it: each is synced, and with 4 syncs of folders that is 10"},
		{"stored bytes", 17_300, "5.5 KB of log lines; 6.5 KB of values, in which the certificate and the request stand once, as what would be 55 KB without that; 4 KB of calls and steps around them"},
	}
}

// notDueCosts are those of a run that looks, and finds nothing to do.
func notDueCosts() []cost {
	return []cost{
		{"TLS connections to the node", 1, "1, which shows what is served too"},
		{"REST requests to the node", 2, "identity, pending request"},
		{"SSH logins", 0, "nothing is to be restarted"},
		{"connections to the CA", 1, "1"},
		{"requests to the CA", 2, "directory, renewal window"},
		{"synced commits", 5, "the scripts, if they are new, begin, adoption, step, end"},
		{"files replaced", 0, "nothing has changed"},
		{"stored bytes", 2_000, "what was found: the installed, the served and the kept certificate are one that is stored"},
	}
}

// No change makes a run ask more of the node, of the CA or of the disk unseen.
func TestCost(t *testing.T) {
	s := newSite(t)
	m := newMeter(t, s)
	r := s.renewal(t, dropIn{}, patient())
	if out := r.toTheEnd(t); out.Status != journal.Done {
		t.Fatalf("%s: %v", out.Reason, out.Error)
	}
	m.watch(t, r)
	for _, run := range []struct {
		name  string
		force bool
		costs []cost
		want  journal.Status
	}{
		{"renewal", true, renewalCosts(), journal.Done},
		{"not due", false, notDueCosts(), journal.Skipped},
	} {
		before := m.read(t)
		out, _ := r.beginWith(t, run.force)
		if out.Status != run.want {
			t.Fatalf("%s: %s, %s: %v", run.name, out.Status, out.Reason, out.Error)
		}
		after := m.read(t)
		for call, n := range after {
			if strings.HasPrefix(call, "acme.") {
				after["requests to the CA"] += oncePolled(call, n-before[call])
			}
		}
		for _, c := range run.costs {
			n := after[c.what] - before[c.what]
			t.Logf("%s: %s: %d", run.name, c.what, n)
			if n > c.most {
				t.Errorf("%s: %s: %d, at most %d is expected: %s", run.name, c.what, n, c.most, c.why)
			}
		}
	}
}

// oncePolled is n without the polls that follow one to which the CA had not decided yet.
func oncePolled(call string, n int) int {
	if most, ok := map[string]int{"acme.authorization": 2, "acme.order": 1}[call]; ok {
		return min(n, most)
	}
	return n
}

// meter counts what leaves the machine for a site, and what is written.
type meter struct {
	site     *site
	node, ca *relay         // HTTPS
	shell    *relay         // SSH
	asked    map[string]int // by call of the CA, a fault that each request meets, and none is harmed by
	files    *replaced
	journal  *journal.Journal
	state    string
}

func newMeter(t testing.TB, s *site) *meter {
	t.Helper()
	m := &meter{site: s, asked: map[string]int{}}
	hosts := maps.Clone(s.network.Hosts)
	through := func(name string) *relay {
		r := &relay{to: hosts[name]}
		hosts[name] = r.listen(t, "127.0.0.1:0")
		return r
	}
	m.node, m.shell, m.ca = through(pub+":443"), through(pub+":22"), through(caHost+":443")
	s.network.Hosts = hosts
	for _, call := range acmetest.Calls() {
		m.asked[call] = s.fault(t, faults.Fault{Call: call, Kind: faults.Delay, Wait: time.Nanosecond, Times: -1})
	}
	return m
}

// watch begins to count what a renewal writes.
func (m *meter) watch(t testing.TB, r *renewal) {
	t.Helper()
	m.journal, m.state, m.files = r.journal, r.state, watchReplaced(t, filepath.Join(r.state, "accounts"))
}

func (m *meter) read(t testing.TB) map[string]int {
	t.Helper()
	out := map[string]int{
		"TLS connections to the node": int(m.node.opened.Load()), "connections to the CA": int(m.ca.opened.Load()),
		"synced commits": int(m.journal.Stats().Commits), "files replaced": m.files.count(t), "stored bytes": stored(t, m.state),
	}
	for call, id := range m.asked {
		out[call] = m.site.hits(id)
	}
	ledger, err := m.site.world.Ledger(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range ledger.Logins {
		out[map[string]string{cucmtest.ViaREST: "REST requests to the node", cucmtest.ViaSSH: "SSH logins"}[l.Via]]++
	}
	return out
}

// replaced counts the files below a directory that are replaced, each by a rename.
type replaced struct {
	watcher *fsnotify.Watcher
	dir     string
	n       int
}

func watchReplaced(t testing.TB, dir string) *replaced {
	t.Helper()
	w, err := fsnotify.NewBufferedWatcher(4096)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = w.Add(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return &replaced{watcher: w, dir: dir}
}

// count returns how many files were replaced so far. A file of its own marks the end of
// what has happened by now.
func (r *replaced) count(t testing.TB) int {
	t.Helper()
	end := filepath.Join(r.dir, ".counted")
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(end); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case e := <-r.watcher.Events:
			switch name := filepath.Base(e.Name); {
			case e.Name == end && e.Has(fsnotify.Remove):
				return r.n
			case e.Has(fsnotify.Create) && strings.HasPrefix(name, ".new-"):
				r.n++
			}
		case err := <-r.watcher.Errors:
			t.Fatal(err)
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// stored returns how many bytes all rows of a journal hold, shared parts of values
// included: what a run adds to that is what it stores, each certificate once.
func stored(t testing.TB, state string) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(state, "moonseal.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for q := range strings.SplitSeq(column(t, db, `SELECT group_concat(
		'SELECT coalesce(sum(length(CAST("' || c.name || '" AS BLOB))), 0) FROM "' || t.name || '"', ';')
		FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'`), ";") {
		bytes, err := strconv.Atoi(column(t, db, q))
		if err != nil {
			t.Fatal(err)
		}
		n += bytes
	}
	return n
}

// column returns the one value that a query has.
func column(t testing.TB, db *sql.DB, query string) (value string) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

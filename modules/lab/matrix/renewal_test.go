package matrix

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"gopkg.in/yaml.v3"

	"moonseal/modules"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/secret"
	"moonseal/runtime/worker"
	"moonseal/scripts"
)

// dropIn is the eight-line script, as far as a test changes it.
type dropIn struct {
	provider  string // cloudflare if empty
	node      string // further keys of node
	ca        string // further keys of ca
	directory string // of the CA; Let's Encrypt's if empty
	email     string // whose account; the site's if empty
	csr       string // further keys of csr
	more      string // further keys of the drop-in

	zone     string // the whole zone, in place of the provider's
	username string // names of secrets
	password string
}

func (d dropIn) source() string {
	or := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return s
	}
	// An elliptic key, because it is made at once.
	return `return require("moonseal.renew").tomcat {
  name = "renewal",
  node = { host = "` + host + `", domain = "automate.builders",
    username = secret "` + or(d.username, "CUCM_USERNAME") + `", password = secret "` + or(d.password, "CUCM_PASSWORD") + `", ` + d.node + ` },
  zone = ` + or(d.zone, zone(or(d.provider, "cloudflare"))) + `,
  ca = { directory = "` + or(d.directory, "letsencrypt") + `", email = "` + or(d.email, email) + `", ` + d.ca + ` },
  csr = { key_type = "ec", ` + d.csr + ` }, ` + d.more + `
}`
}

// settings of modules, by module.
type settings map[string]map[string]any

// patient waits long enough for a busy machine.
func patient() settings {
	return settings{
		"acme": {"timeout": "20s"},
		"dns":  {"timeout": "20s", "query_timeout": "10s"},
		"cucm": {
			"timeout": "20s", "banner_timeout": "20s", "restart_timeout": "20s",
			"prompt_settle": "10ms", "settle": "200ms", "poll": "10ms", "replication": "1s",
		},
	}
}

func (s settings) with(module, key string, value any) settings {
	if s[module] == nil {
		s[module] = map[string]any{}
	}
	s[module][key] = value
	return s
}

// renewal is one state directory at a site, with a clock of its own.
type renewal struct {
	*site
	clock   *clock
	state   string
	journal *journal.Journal
	parent  *worker.Parent
	job     worker.Job

	mu      sync.Mutex
	records []journal.Record
	watch   func(journal.Record) // sees each, before the run continues; may be nil
}

func (s *site) renewal(t testing.TB, d dropIn, set settings) *renewal {
	t.Helper()
	r := &renewal{site: s, clock: newClock(), state: filepath.Join(folder(t), "state")}
	s.pin(t, r.state)
	if d.email == "" {
		s.giveAccount(t, r.state)
	}
	var err error
	if r.journal, err = journal.Open(t.Context(), r.state, journal.Options{Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.journal.Close(); err != nil {
			t.Error("close the journal:", err)
		}
	})
	r.parent = &worker.Parent{
		Journal: r.journal, Control: control.New(r.journal, r.clock), Spawner: children{r.clock, modules.All}, Secrets: s.secrets, Redactor: &secret.Redactor{},
		Embedded: scripts.Embedded(), Clock: r.clock, Observe: r.observe,
	}
	set.with("dns", "resolvers", []string{s.world.Resolver()})
	r.job = worker.Job{
		Playbook: "renewal", Files: map[string]string{"renewal.lua": d.source()}, Network: s.network, State: r.state, Settings: map[string]string{},
	}
	for module, values := range set {
		text, err := yaml.Marshal(maps.Clone(values))
		if err != nil {
			t.Fatal(err)
		}
		r.job.Settings[module] = string(text)
	}
	return r
}

// folder returns a folder in memory if there is such a thing: the journal syncs dozens of
// times in a renewal, and no power cut is under test.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "moonseal-matrix-*") //nolint:usetesting // t.TempDir is on the disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (r *renewal) observe(rec journal.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, rec)
	if r.watch != nil {
		r.watch(rec)
	}
}

// seen returns the journal's records so far.
func (r *renewal) seen() []journal.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.records)
}

// begin creates a run, forced, and runs it until it ends or stops half-way.
func (r *renewal) begin(t testing.TB) (*run.Outcome, string) {
	t.Helper()
	return r.beginWith(t, true)
}

func (r *renewal) beginWith(t testing.TB, force bool) (*run.Outcome, string) {
	t.Helper()
	var id string
	out, err := r.parent.Begin(t.Context(), r.job, worker.Ask{Force: force}, func(run string) { id = run })
	if err != nil {
		t.Fatalf("begin: %v (hint: %s)", err, problem.From(err).Hint)
	}
	return out, id
}

// proceed advances the clock to the moment at which a waiting run continues, and resumes
// it.
func (r *renewal) proceed(t testing.TB, out *run.Outcome, id string) *run.Outcome {
	t.Helper()
	r.clock.jump(max(out.Until.Sub(r.clock.Now()), 0))
	out, err := r.parent.Resume(t.Context(), r.job, id)
	if err != nil {
		t.Fatalf("resume: %v", err)
	}
	return out
}

// toTheEnd runs until the run has ended or parked.
func (r *renewal) toTheEnd(t testing.TB) *run.Outcome {
	t.Helper()
	out, id := r.begin(t)
	for range 8 {
		if out.Status != journal.Waiting {
			return out
		}
		out = r.proceed(t, out, id)
	}
	t.Fatalf("still waiting: %s: %v", out.Reason, out.Error)
	return nil
}

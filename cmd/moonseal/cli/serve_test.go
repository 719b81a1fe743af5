package cli

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/lab"
	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
)

// newWorld is a world whose lab is in this process, so that it can be of any kind.
func newWorld(t *testing.T, o lab.Options) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	o.Dir = w.dir
	l, err := lab.Start(context.WithoutCancel(t.Context()), o)
	w.check(err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	w.lab, err = lab.Open(w.dir)
	w.check(err)
	w.readEnv()
	t.Cleanup(w.noSecrets)
	return w
}

// configure adds lines to the config.
func (w *world) configure(lines string) {
	w.t.Helper()
	text, err := os.ReadFile(w.config())
	w.check(err)
	w.check(os.WriteFile(w.config(), append(text, lines...), 0o600))
}

// served is a moonseal serve.
type served struct {
	*process

	api   *api.Client
	state string
}

// serve starts the daemon and waits until it is ready.
func (w *world) serve() *served {
	w.t.Helper()
	cfg, err := config.Load(w.config(), os.Getenv)
	w.check(err)
	d := &served{process: w.start("", "serve", "--config", w.config()), api: api.Dial(cfg.Listen.Socket), state: cfg.State}
	w.t.Cleanup(d.kill)
	w.until("the daemon answers", func() bool {
		if d.done.Err() != nil {
			w.t.Fatalf("the daemon ended with %d:\n%s", d.wait(), d.out.String())
		}
		_, err := d.api.Status(w.t.Context())
		return err == nil
	})
	return d
}

// until waits until it is so, looking again and again.
func (w *world) until(what string, so func() bool) {
	w.t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	late := time.After(patience)
	for !so() {
		select {
		case <-again.C:
		case <-late:
			w.t.Fatalf("it never happens: %s", what)
		}
	}
}

// is waits until the run has the status, and returns it.
func (d *served) is(id string, want journal.Status) journal.Run {
	d.w.t.Helper()
	j, err := journal.OpenReadOnly(d.w.t.Context(), d.state)
	d.w.check(err)
	defer func() { d.w.check(j.Close()) }()
	var r journal.Run
	d.w.until(id+" is "+string(want), func() bool {
		r, err = j.Run(d.w.t.Context(), id)
		d.w.check(err)
		if !r.Ended.IsZero() && r.Status != want {
			d.w.t.Fatalf("run %s of %s is %s: %v", id, r.Playbook, r.Status, r.Error)
		}
		return r.Status == want
	})
	return r
}

func (d *served) begin(playbook string) string {
	d.w.t.Helper()
	r, err := d.api.Run(d.w.t.Context(), api.RunRequest{Playbook: playbook, Force: true})
	d.w.check(err)
	return r.ID
}

// moonseal runs a command to its end.
func (w *world) moonseal(want int, args ...string) string {
	w.t.Helper()
	p := w.start("", append(args, "--config", w.config())...)
	if code := p.wait(); code != want {
		w.t.Fatalf("moonseal %s: exit code %d, want %d:\n%s", strings.Join(args, " "), code, want, p.out.String())
	}
	return p.out.String()
}

// A person's day with the daemon, typed.
func TestServeByHand(t *testing.T) {
	t.Parallel()
	w := startWorld(t)
	if out := w.moonseal(exitFailed, "status"); !strings.Contains(out, "no daemon is running") || !strings.Contains(out, "moonseal serve") {
		t.Errorf("without a daemon: %s", out)
	}
	path := filepath.Join(w.dir, "scripts", demoPlaybook+".lua")
	text, err := os.ReadFile(path)
	w.check(err)
	asking := strings.Replace(string(text), `schedule =`, "mode = \"ask\",\n  schedule =", 1)
	w.script(demoPlaybook, asking)
	d := w.serve()

	out := w.moonseal(exitWaiting, "run", demoPlaybook, "--force")
	if !strings.Contains(out, "approv") {
		t.Errorf("asked to run: %s", out)
	}
	s := w.statusJSON()
	running, _ := s["running"].(map[string]any)
	id, _ := running["id"].(string)
	if waits, _ := running["waits_for"].(string); id == "" || !strings.HasPrefix(waits, "approval: ") || s["last_run"] != nil || s["error"] != nil {
		t.Fatalf("status: %v", s)
	}
	if l := w.ledger(); len(l.CSRs)+len(l.Orders) > 0 {
		t.Errorf("something was changed before the approval: %+v", l)
	}
	w.moonseal(exitDone, "approve", id, "--ticket", "CHG0042", "--reason", "in the window")
	d.is(id, journal.Done)
	w.renewed()
	s = w.statusJSON()
	served, _ := s["served"].([]any)
	last, _ := s["last_run"].(map[string]any)
	if len(served) != 1 || last["id"] != id || last["status"] != "done" || s["running"] != nil || s["next_run"] == nil {
		t.Errorf("status: %v", s)
	}
	if one, _ := served[0].(map[string]any); one["sha256"] != w.ledger().Certificates[0].SHA256 || one["subject"] == nil || one["not_after"] == nil {
		t.Errorf("served: %v", served)
	}

	w.script(demoPlaybook, asking+"\nhalf a script")
	if out := w.moonseal(exitFailed, "reload"); !strings.Contains(out, demoPlaybook+".lua") {
		t.Errorf("reload of a broken script: %s", out)
	}
	if s = w.statusJSON(); s["error"] == nil || s["bundle"] == nil {
		t.Errorf("status of a broken script: %v", s)
	}
	w.script(demoPlaybook, string(text))
	w.check(d.cmd.Process.Signal(syscall.SIGHUP))
	w.until("the script is mended", func() bool { return w.statusJSON()["error"] == nil })

	w.moonseal(exitDone, "pause")
	w.check(d.cmd.Process.Signal(syscall.SIGTERM))
	if code := d.process.wait(); code != exitDone {
		t.Errorf("exit code %d:\n%s", code, d.out.String())
	}
	d = w.serve()
	if s = w.statusJSON(); s["next_run"] != nil {
		t.Errorf("status while all is paused: %v", s)
	}
	w.moonseal(exitDone, "unpause")
	if s = w.statusJSON(); s["next_run"] == nil {
		t.Errorf("status: %v", s)
	}
	if out := w.moonseal(exitFailed, "approve", id); !strings.Contains(out, "ended already: done") {
		t.Errorf("approved twice: %s", out)
	}
	w.check(d.cmd.Process.Signal(syscall.SIGTERM))
	d.process.wait()
}

// statusJSON returns the demo playbook's part of status --json, whose keys are all
// there.
func (w *world) statusJSON() map[string]any {
	w.t.Helper()
	var s struct {
		Playbooks []map[string]any `json:"playbooks"`
	}
	w.check(json.Unmarshal([]byte(w.moonseal(exitDone, "status", "--json")), &s))
	for _, p := range s.Playbooks {
		for _, key := range []string{"name", "script", "bundle", "error", "next_run", "served", "last_run", "running"} {
			if _, ok := p[key]; !ok {
				w.t.Errorf("there is no %s in %v", key, p)
			}
		}
		if p["name"] == demoPlaybook {
			return p
		}
	}
	w.t.Fatalf("%s is not in %v", demoPlaybook, s)
	return nil
}

// TestServeKeepsLocks renews three nodes of one cluster at once: all of them order,
// one at a time changes its node, from its first disruptive change to its end.
func TestServeKeepsLocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Behavior: cucmtest.Behavior{RestartOutage: -1}})
	nodes := []string{"cucm01-pub", "cucm02-sub", "imp01"}
	for _, node := range nodes {
		w.script(node, strings.ReplaceAll(oneNode, "NODE", node))
	}
	d := w.serve()
	var ids []string
	for _, node := range nodes {
		ids = append(ids, d.begin(node))
	}
	type span struct{ from, to time.Time }
	var held []span
	for _, id := range ids {
		d.is(id, journal.Done)
		h, err := d.api.Records().History(t.Context(), id)
		w.check(err)
		for _, e := range h.Effects {
			if e.Fn == "cucm.Node:upload" {
				held = append(held, span{e.Marked, h.Run.Ended})
			}
		}
	}
	slices.SortFunc(held, func(a, b span) int { return a.from.Compare(b.from) })
	for i := range held[1:] {
		if held[i+1].from.Before(held[i].to) {
			t.Errorf("a run uploads at %s, and the one before ends at %s", held[i+1].from, held[i].to)
		}
	}
	locks, err := d.api.Records().Locks(t.Context())
	if err != nil || len(held) != len(nodes) || len(locks) != 0 {
		t.Errorf("%d uploads; locks that are held: %v, %v", len(held), locks, err)
	}
	d.kill()
	d.process.wait()
}

// oneNode renews NODE's certificate; all such playbooks share a lock.
const oneNode = `
return require("moonseal.renew").tomcat {
  locks = { "cluster:dfw" },
  node = { host = "NODE", domain = "automate.builders", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" },
  zone = { provider = "cloudflare", api_token = secret "CF_API_TOKEN" },
  ca = { directory = "letsencrypt", email = "admin@automate.builders" },
}
`

// manager plays the service manager: it has the socket that sd_notify writes to.
type manager struct {
	mu   sync.Mutex
	said []string
}

// manager plays the service manager for the processes that are started from now on.
func (w *world) manager() *manager {
	w.t.Helper()
	path := filepath.Join(w.dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	w.check(err)
	m := &manager{}
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		buf := make([]byte, 4096)
		for {
			n, err := l.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.said = append(m.said, string(buf[:n]))
			m.mu.Unlock()
		}
	}()
	w.t.Cleanup(func() {
		_ = l.Close()
		<-listening
	})
	w.env["NOTIFY_SOCKET"] = path
	return m
}

// forget forgets what was said.
func (m *manager) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = nil
}

func (m *manager) has(prefix string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.said, func(s string) bool {
		return strings.HasPrefix(s, prefix) || strings.Contains(s, "\n"+prefix)
	})
}

func TestServeTellsTheServiceManager(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir(), env: map[string]string{}}
	w.check(os.MkdirAll(filepath.Join(w.dir, "scripts"), 0o755))
	w.check(os.WriteFile(w.config(), []byte("state: state\nscripts: scripts\n"), 0o600))
	m := w.manager()
	w.env["WATCHDOG_USEC"] = "100000"
	d := w.serve()
	w.until("READY", func() bool { return m.has("READY=1") && m.has("STATUS=0 playbooks") })
	w.until("WATCHDOG", func() bool { return m.has("WATCHDOG=1") })
	w.script("bad", "half a script")
	w.check(d.cmd.Process.Signal(syscall.SIGHUP))
	w.until("RELOADING", func() bool { return m.has("RELOADING=1\nMONOTONIC_USEC=") })
	w.until("READY again", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		i := slices.IndexFunc(m.said, func(s string) bool { return strings.HasPrefix(s, "RELOADING=1") })
		return slices.ContainsFunc(m.said[i:], func(s string) bool { return strings.HasPrefix(s, "READY=1") })
	})
	w.until("STATUS", func() bool { return m.has("STATUS=0 playbooks, 1 broken script") })
	w.check(d.cmd.Process.Signal(syscall.SIGTERM))
	if code := d.process.wait(); code != exitDone {
		t.Errorf("exit code %d:\n%s", code, d.out.String())
	}
	w.until("STOPPING", func() bool { return m.has("STOPPING=1") })
}

// What the state folder cannot do is said plainly, at once.
func TestServeWithoutAState(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(state string) error
		says  string
	}{
		"damaged journal": {func(state string) error {
			return os.WriteFile(filepath.Join(state, "moonseal.db"), []byte(strings.Repeat("no database ", 1000)), 0o600)
		}, "moonseal.db"},
		"damaged pauses": {func(state string) error {
			return os.WriteFile(filepath.Join(state, "paused.json"), []byte("{"), 0o600)
		}, "cannot read what is paused"},
		"a file in the way of the socket": {func(state string) error {
			return os.WriteFile(filepath.Join(state, "moonseal.sock"), nil, 0o600)
		}, "not a socket"},
	} {
		w := &world{t: t, dir: t.TempDir(), env: map[string]string{}}
		w.check(os.MkdirAll(filepath.Join(w.dir, "scripts"), 0o755))
		w.check(os.MkdirAll(filepath.Join(w.dir, "state"), 0o700))
		w.check(os.WriteFile(w.config(), []byte("state: state\nscripts: scripts\n"), 0o600))
		w.check(c.spoil(filepath.Join(w.dir, "state")))
		p := w.start("", "serve", "--config", w.config())
		code := p.wait()
		if out := p.out.String(); code != exitUsage && code != exitFailed || !strings.Contains(out, c.says) || strings.Contains(out, "goroutine") {
			t.Errorf("%s: exit code %d:\n%s", name, code, out)
		}
	}
}

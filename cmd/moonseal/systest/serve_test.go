package systest

import (
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
)

// A day with the daemon, typed by hand.
func TestServeByHand(t *testing.T) {
	t.Parallel()
	s := newLabSite(t, 50*time.Millisecond)
	if out := s.moonseal(exitFailed, "status"); !strings.Contains(out, "no daemon is running") || !strings.Contains(out, "moonseal serve") {
		t.Errorf("without a daemon: %s", out)
	}
	text := read(t, filepath.Join(s.dir, "scripts", demoPlaybook+".lua"))
	asking := strings.Replace(text, `schedule =`, "mode = \"ask\",\n  schedule =", 1)
	s.script(demoPlaybook, asking)
	d := s.serve()

	out := s.moonseal(exitWaiting, "run", demoPlaybook, "--force")
	if !strings.Contains(out, "approv") {
		t.Errorf("asked to run: %s", out)
	}
	status := s.statusJSON()
	running, _ := status["running"].(map[string]any)
	id, _ := running["id"].(string)
	if waits, _ := running["waits_for"].(string); id == "" || !strings.HasPrefix(waits, "approval: ") || status["last_run"] != nil || status["error"] != nil {
		t.Fatalf("status: %v", status)
	}
	if l := s.lab.ledger(); len(l.CSRs)+len(l.Orders) > 0 {
		t.Errorf("something was changed before the approval: %+v", l)
	}
	s.moonseal(exitDone, "approve", id, "--ticket", "CHG0042", "--reason", "in the window")
	d.is(id, "done")
	s.renewed()
	status = s.statusJSON()
	served, _ := status["served"].([]any)
	last, _ := status["last_run"].(map[string]any)
	if len(served) != 1 || last["id"] != id || last["status"] != "done" || status["running"] != nil || status["next_run"] == nil {
		t.Errorf("status: %v", status)
	}
	if one, _ := served[0].(map[string]any); one["sha256"] != s.lab.ledger().Certificates[0].SHA256 || one["subject"] == nil || one["not_after"] == nil {
		t.Errorf("served: %v", served)
	}

	s.script(demoPlaybook, asking+"\nhalf a script")
	if out := s.moonseal(exitFailed, "reload"); !strings.Contains(out, demoPlaybook+".lua") {
		t.Errorf("reload of a broken script: %s", out)
	}
	if status = s.statusJSON(); status["error"] == nil || status["bundle"] == nil {
		t.Errorf("status of a broken script: %v", status)
	}
	s.script(demoPlaybook, text)
	d.signal(syscall.SIGHUP)
	s.until("the script is in order again", func() bool { return s.statusJSON()["error"] == nil })

	s.moonseal(exitDone, "pause")
	d.signal(syscall.SIGTERM)
	d.stops(exitDone)
	d = s.serve()
	if status = s.statusJSON(); status["next_run"] != nil {
		t.Errorf("status while all is paused: %v", status)
	}
	s.moonseal(exitDone, "unpause")
	if status = s.statusJSON(); status["next_run"] == nil {
		t.Errorf("status: %v", status)
	}
	if out := s.moonseal(exitFailed, "approve", id); !strings.Contains(out, "ended already: done") {
		t.Errorf("approved twice: %s", out)
	}
	d.signal(syscall.SIGTERM)
	d.process.wait()
}

// statusJSON returns the demo playbook's part of status --json, whose keys are all
// there.
func (s *site) statusJSON() map[string]any {
	s.t.Helper()
	var status struct {
		Playbooks []map[string]any `json:"playbooks"`
	}
	s.check(json.Unmarshal([]byte(s.moonseal(exitDone, "status", "--json")), &status))
	for _, p := range status.Playbooks {
		for _, key := range []string{"name", "script", "bundle", "error", "next_run", "served", "last_run", "running"} {
			if _, ok := p[key]; !ok {
				s.t.Errorf("there is no %s in %v", key, p)
			}
		}
		if p["name"] == demoPlaybook {
			return p
		}
	}
	s.t.Fatalf("%s is not in %v", demoPlaybook, status)
	return nil
}

// TestServeKeepsLocks renews three nodes of one cluster at once: all of them order,
// one at a time changes its node, from its first disruptive change to its end.
func TestServeKeepsLocks(t *testing.T) {
	t.Parallel()
	s := newLabSite(t, noOutage)
	nodes := []string{"cucm01-pub", "cucm02-sub", "imp01"}
	for _, node := range nodes {
		s.script(node, strings.ReplaceAll(oneNode, "NODE", node))
	}
	d := s.serve()
	var ids []string
	for _, node := range nodes {
		ids = append(ids, d.begin(node))
	}
	type span struct{ from, to time.Time }
	var held []span
	for _, id := range ids {
		d.is(id, "done")
		h := get[history](d, "/runs/"+id+"/history")
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
	if locks := get[[]any](d, "/locks"); len(held) != len(nodes) || len(locks) != 0 {
		t.Errorf("%d uploads; locks that are held: %v", len(held), locks)
	}
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
func (s *site) manager() *manager {
	s.t.Helper()
	path := filepath.Join(s.dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	s.check(err)
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
	s.t.Cleanup(func() {
		_ = l.Close()
		<-listening
	})
	s.env["NOTIFY_SOCKET"] = path
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
	return slices.ContainsFunc(m.said, func(line string) bool {
		return strings.HasPrefix(line, prefix) || strings.Contains(line, "\n"+prefix)
	})
}

func TestServeTellsTheServiceManager(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	m := s.manager()
	s.env["WATCHDOG_USEC"] = "100000"
	d := s.serve()
	s.until("READY", func() bool { return m.has("READY=1") && m.has("STATUS=0 playbooks") })
	s.until("WATCHDOG", func() bool { return m.has("WATCHDOG=1") })
	s.script("bad", "half a script")
	d.signal(syscall.SIGHUP)
	s.until("RELOADING", func() bool { return m.has("RELOADING=1\nMONOTONIC_USEC=") })
	s.until("READY again", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		i := slices.IndexFunc(m.said, func(line string) bool { return strings.HasPrefix(line, "RELOADING=1") })
		return slices.ContainsFunc(m.said[i:], func(line string) bool { return strings.HasPrefix(line, "READY=1") })
	})
	s.until("STATUS", func() bool { return m.has("STATUS=0 playbooks, 1 broken script") })
	d.signal(syscall.SIGTERM)
	d.stops(exitDone)
	s.until("STOPPING", func() bool { return m.has("STOPPING=1") })
}

// A state directory that cannot be used is reported at once, in plain words.
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
		s := newSite(t, "")
		s.check(os.Mkdir(s.state(), 0o700))
		s.check(c.spoil(s.state()))
		p := s.start("serve")
		code := p.wait()
		if out := p.out.String(); code != exitUsage && code != exitFailed || !strings.Contains(out, c.says) || strings.Contains(out, "goroutine") {
			t.Errorf("%s: exit code %d:\n%s", name, code, out)
		}
	}
}

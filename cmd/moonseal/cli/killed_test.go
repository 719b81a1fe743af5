package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/modules/lab"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
)

// TestServeIsKilled kills the daemon, and only it, while 50 runs are in flight,
// each renewing the certificate of a node of its own. Two children are stopped in
// the middle of an upload, so that they cannot notice by themselves that their
// parent is gone; one of them continues when the next daemon is at work already.
//
// The first daemon's children reach the lab through doors of their own, which tell
// when each was last used: never after the run was adopted.
func TestServeIsKilled(t *testing.T) {
	t.Parallel()
	n := 50
	if raceDetector {
		n = 8
	}
	var nodes []cucmtest.NodeOptions
	for i := range n {
		nodes = append(nodes, cucmtest.NodeOptions{Host: fmt.Sprintf("cucm%02d", i)})
	}
	w := newWorld(t, lab.Options{Nodes: nodes, Behavior: cucmtest.Behavior{RestartOutage: -1}, SpareKeys: n})
	w.configure("concurrency: 64\n")
	for _, node := range nodes {
		w.script(node.Host, fmt.Sprintf(`return require("moonseal.renew").tomcat {
  name = %q,
  node = { host = %q, domain = "automate.builders", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" },
  zone = { provider = "cloudflare", api_token = secret "CF_API_TOKEN" },
  ca = { directory = "letsencrypt", email = "admin@automate.builders" },
}
`, node.Host, node.Host))
	}
	doors := w.openDoors()
	d := w.serve()
	var held [2]int
	for i := range held {
		held[i] = w.fault(faults.Fault{Call: "cucm.upload-identity", Kind: faults.HoldAfter})
	}
	byHost := map[string]string{} // the runs
	for _, node := range nodes {
		byHost[node.Host] = d.begin(node.Host)
	}
	for _, id := range held {
		w.held(d.process, id)
	}
	w.until("some are done, and many are under way", func() bool { return len(w.ledger().Uploads) > n/2 })
	old := d.children()
	stopped := d.stopUploads(2)
	w.check(syscall.Kill(d.cmd.Process.Pid, syscall.SIGKILL))
	d.process.wait()
	w.clearFaults()
	doors.leave()

	adoptions := w.watchAdoptions(d.state, slices.DeleteFunc(slices.Clone(old), func(pid int) bool { return slices.Contains(stopped, pid) }))
	started := time.Now()
	d = w.serve()
	w.until("a run is adopted", func() bool { return adoptions.first().After(started) })
	if err := syscall.Kill(stopped[0], syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) { // the next daemon may have ended it
		t.Error(err)
	}
	for _, id := range byHost {
		d.is(id, journal.Done)
	}
	for _, pid := range old {
		if alive(pid) {
			t.Errorf("the old process %d lives", pid)
		}
	}
	adoptions.end()
	// What it takes if nothing else is at work is for BenchmarkResume to say.
	t.Logf("the first run continues %s after the start", adoptions.first().Sub(started).Round(time.Millisecond))
	w.onlyBefore(doors, adoptions, byHost)
	w.renewedEach(nodes)
	w.check(d.cmd.Process.Signal(syscall.SIGTERM))
	if code := d.process.wait(); code != exitDone {
		t.Errorf("exit code %d:\n%s", code, d.out.String())
	}
}

// stopUploads stops the processes of n runs whose certificate the node has taken and
// who do not know it yet. One that has learned of it before it was stopped continues.
func (d *served) stopUploads(n int) (stopped []int) {
	d.w.t.Helper()
	d.w.until("uploads are under way", func() bool {
		for _, pid := range d.uploading() {
			if slices.Contains(stopped, pid) || len(stopped) == n || syscall.Kill(pid, syscall.SIGSTOP) != nil {
				continue
			}
			if slices.Contains(d.uploading(), pid) {
				stopped = append(stopped, pid)
				continue
			}
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
		return len(stopped) == n
	})
	return stopped
}

// uploading returns the processes of runs whose certificate the node has taken and who
// have not written that they know.
func (d *served) uploading() []int {
	d.w.t.Helper()
	var pids []int
	running := map[string]string{} // by playbook
	for _, h := range d.w.histories() {
		if len(h.Steps) > 0 && h.Steps[len(h.Steps)-1].Name == "uploading_certificate" && h.Steps[len(h.Steps)-1].State == journal.StepRunning {
			running[h.Run.Playbook] = h.Run.ID
		}
	}
	for _, u := range d.w.ledger().Uploads {
		host, _, _ := strings.Cut(u.Node, ".")
		if id := running[host]; u.Kind == "identity" && id != "" {
			text, err := os.ReadFile(filepath.Join(d.state, "runs", id+".lock"))
			if errors.Is(err, fs.ErrNotExist) {
				continue // it has ended
			}
			d.w.check(err)
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			d.w.check(err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// doors are ways to the lab that only those know who read the config while they
// were in it.
type doors struct {
	w      *world
	config []byte // without them

	mu   sync.Mutex
	last map[string]time.Time     // by host: when something last came in
	shut map[string]chan struct{} // by host:port: nobody more is let in until it is closed
	lag  time.Duration            // the longest that this process had to wait for a processor
	all  sync.WaitGroup
}

// measure measures the lag until quit is closed.
func (d *doors) measure(quit <-chan struct{}) {
	const every = 2 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-tick.C:
		case <-quit:
			return
		}
		now := time.Now()
		d.mu.Lock()
		d.lag = max(d.lag, now.Sub(last)-every)
		d.mu.Unlock()
		last = now
	}
}

// openDoors puts a door before each address in the config, but those of name
// servers, which are only asked.
func (w *world) openDoors() *doors {
	w.t.Helper()
	d := &doors{w: w, last: map[string]time.Time{}, shut: map[string]chan struct{}{}}
	var err error
	d.config, err = os.ReadFile(w.config())
	w.check(err)
	var all map[string]any
	w.check(yaml.Unmarshal(d.config, &all))
	cfg, err := config.Load(w.config(), os.Getenv)
	w.check(err)
	var listeners []net.Listener
	for name, to := range cfg.Hosts {
		_, port, err := net.SplitHostPort(name)
		w.check(err)
		if port == "53" {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(w.t.Context(), "tcp4", "127.0.0.1:0")
		w.check(err)
		listeners = append(listeners, l)
		cfg.Hosts[name] = l.Addr().String()
		d.all.Go(func() { d.stand(l, name, to) })
	}
	quit := make(chan struct{})
	d.all.Go(func() { d.measure(quit) })
	w.t.Cleanup(func() {
		close(quit)
		for _, l := range listeners {
			_ = l.Close()
		}
		d.all.Wait()
	})
	all["hosts"] = cfg.Hosts
	text, err := yaml.Marshal(all)
	w.check(err)
	w.check(os.WriteFile(w.config(), text, 0o600))
	return d
}

// leave takes the doors out of the config. They stay open.
func (d *doors) leave() {
	d.w.t.Helper()
	d.w.check(os.WriteFile(d.w.config(), d.config, 0o600))
}

// stand lets in who comes, until l is closed.
func (d *doors) stand(l net.Listener, name, to string) {
	host, _, _ := net.SplitHostPort(name)
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		d.passed(host)
		d.all.Go(func() {
			d.mu.Lock()
			shut := d.shut[name]
			d.mu.Unlock()
			if shut != nil {
				<-shut
			}
			d.letIn(from, host, to)
		})
	}
}

func (d *doors) letIn(from net.Conn, host, to string) {
	defer func() { _ = from.Close() }()
	in, err := net.Dial("tcp4", to)
	if err != nil {
		return
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(from, in)
		_ = from.Close()
	}()
	defer func() { <-back }()
	defer func() { _ = in.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			d.passed(host)
			if _, err := in.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// close keeps out who comes to host:port from now on, until the function is called.
func (d *doors) close(name string) (open func()) {
	shut := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut[name] = shut
	open = sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.shut, name)
		close(shut)
	})
	d.w.t.Cleanup(open)
	return open
}

func (d *doors) passed(host string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last[host] = time.Now()
}

// adoptions tells when runs were taken up, and when the processes that had them
// before were seen to live last.
type adoptions struct {
	stop func()

	mu    sync.Mutex
	at    map[string]time.Time // by run
	alive time.Time
}

// watchAdoptions watches the journal from now on, which nobody writes yet.
func (w *world) watchAdoptions(state string, old []int) *adoptions {
	w.t.Helper()
	j, err := journal.OpenReadOnly(w.t.Context(), state)
	w.check(err)
	before := map[string]int64{}
	runs, err := j.Runs(w.t.Context(), journal.Filter{})
	w.check(err)
	for _, r := range runs {
		before[r.ID] = r.Epoch
	}
	a := &adoptions{at: map[string]time.Time{}}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = j.Close() }()
		look := time.NewTicker(2 * time.Millisecond)
		defer look.Stop()
		for {
			runs, err := j.Runs(w.t.Context(), journal.Filter{})
			if err != nil {
				w.t.Error(err)
				return
			}
			a.see(runs, before, slices.ContainsFunc(old, alive))
			select {
			case <-look.C:
			case <-quit:
				return
			}
		}
	}()
	a.stop = sync.OnceFunc(func() { close(quit); <-done })
	w.t.Cleanup(a.stop)
	return a
}

func (a *adoptions) see(runs []journal.Run, before map[string]int64, alive bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if alive {
		a.alive = now
	}
	for _, r := range runs {
		at, known := a.at[r.ID]
		if r.Epoch == before[r.ID] || known && !r.Resumed.Before(at) {
			continue
		}
		switch {
		case !r.Resumed.IsZero():
			a.at[r.ID] = r.Resumed
		case !known: // it was adopted just now, or has ended since the last look
			a.at[r.ID] = now
		}
	}
}

func (a *adoptions) end() { a.stop() }

// first is when the first run was adopted, zero before.
func (a *adoptions) first() (first time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for at := range maps.Values(a.at) {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// onlyBefore checks that nothing came through the doors once the run whose it was
// had been adopted. A door of all runs must be shut once the first was adopted and
// the old processes are gone that were not stopped: those that were had to do with
// their nodes alone.
func (w *world) onlyBefore(d *doors, a *adoptions, runs map[string]string) {
	w.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	// What a process sends before it dies is seen when the doors come to it.
	late := 100*time.Millisecond + 2*d.lag
	for host, last := range d.last {
		name, _, _ := strings.Cut(host, ".")
		limit := a.at[runs[name]]
		if runs[name] == "" {
			if limit = a.first(); limit.Before(a.alive) {
				limit = a.alive
			}
		}
		if limit.IsZero() && runs[name] != "" {
			continue // it had ended before
		}
		if last.Add(-late).After(limit) {
			w.t.Errorf("%s was touched by an old process %s after its run was adopted", host, last.Sub(limit))
		}
	}
}

// alive says that there is such a process, and that it is no zombie.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	return len(fields) > 0 && fields[0] != "Z"
}

// renewedEach checks that each node has one certificate of its own, uploaded once.
func (w *world) renewedEach(nodes []cucmtest.NodeOptions) {
	w.t.Helper()
	l := w.ledger()
	if len(l.Certificates) != len(nodes) {
		w.t.Errorf("%d certificates were issued, want %d", len(l.Certificates), len(nodes))
	}
	issued := map[string]bool{}
	for _, c := range l.Certificates {
		issued[c.SHA256] = true
	}
	uploads := map[string]int{}
	for _, u := range l.Uploads {
		if u.Kind == "identity" {
			uploads[u.Node]++
			if !u.Accepted {
				w.t.Errorf("an upload to %s was refused: %s", u.Node, u.Reason)
			}
		}
	}
	for node, sha := range l.Served {
		if !issued[sha] {
			w.t.Errorf("%s serves what was not issued", node)
		}
		if uploads[node] != 1 {
			w.t.Errorf("%s got %d certificates", node, uploads[node])
		}
	}
	if len(l.Served) != len(nodes) || len(l.TXT.Present) > 0 {
		w.t.Errorf("%d nodes serve; TXT records that are left: %v", len(l.Served), l.TXT.Present)
	}
}

// setConfig sets a key of the config.
func (w *world) setConfig(key string, value any) {
	w.t.Helper()
	text, err := os.ReadFile(w.config())
	w.check(err)
	var all map[string]any
	w.check(yaml.Unmarshal(text, &all))
	all[key] = value
	text, err = yaml.Marshal(all)
	w.check(err)
	w.check(os.WriteFile(w.config(), text, 0o600))
}

// renewal puts a playbook into the scripts folder that renews the host's certificate.
func (w *world) renewal(host string) {
	w.t.Helper()
	w.script(host, fmt.Sprintf(`return require("moonseal.renew").tomcat {
  name = %q,
  node = { host = %q, domain = "automate.builders", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" },
  zone = { provider = "cloudflare", api_token = secret "CF_API_TOKEN" },
  ca = { directory = "letsencrypt", email = "admin@automate.builders" },
}
`, host, host))
}

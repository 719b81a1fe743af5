package systest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestKilled kills the daemon, the run's process, or both, as kill -9 does, while the lab
// holds the answer to a call that has changed something. The run continues, by itself if
// the daemon lives, and what was done is not done again.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ step, call string }{
		{"generating_csr", "cucm.csr"},
		{"creating_dns_challenge", "dns.cloudflare.create"},
		{"downloading_certificate", "acme.finalize"},
		{"uploading_certificate", "cucm.upload-identity"},
		{"restarting_services", "cucm.restart"},
	} {
		for _, which := range []string{"daemon", "run", "both"} {
			if !full() && (which == "daemon") == (c.step == "uploading_certificate" || c.step == "restarting_services") {
				continue // the sample: disruptive steps lose the run's process, alone and with the daemon, the others the daemon
			}
			t.Run(c.step+"/"+which, func(t *testing.T) {
				t.Parallel()
				s := newLabSite(t, noOutage)
				d := s.serve()
				hold := s.lab.add(fault{Call: c.call, Kind: holdAfter})
				id := d.begin(demoPlaybook)
				s.lab.held(d.process, hold)
				child := d.child()
				if which != "daemon" {
					s.check(syscall.Kill(child, syscall.SIGKILL))
				}
				if which != "run" {
					d.signal(syscall.SIGKILL)
					d.stops(-int(syscall.SIGKILL))
					s.lab.dropped(hold)
					s.lab.clear()
					d = s.serve()
				}
				d.is(id, "done")
				if alive(child) {
					t.Errorf("the old process %d lives", child)
				}
				s.renewed()
				s.attempts(map[string]int{c.step: 2})
				d.signal(syscall.SIGTERM)
				d.stops(exitDone)
			})
		}
	}
}

// attempts checks that the site has one run, and that no step was attempted more often than
// this, or once.
func (s *site) attempts(most map[string]int) {
	s.t.Helper()
	j := s.journal()
	defer j.close()
	runs := j.runs()
	if len(runs) != 1 {
		s.t.Fatalf("there are %d runs, want 1: the first continues", len(runs))
	}
	for _, one := range j.steps(runs[0].ID) {
		if one.Attempt > max(1, most[one.Name]) {
			s.t.Errorf("step %s was attempted %d times", one.Name, one.Attempt)
		}
	}
}

// TestChildKilled kills only the run's own process, while its request is being served: the
// moonseal run that started it continues by itself.
func TestChildKilled(t *testing.T) {
	t.Parallel()
	s := newLabSite(t, noOutage)
	hold := s.lab.add(fault{Call: "cucm.upload-identity", Kind: holdAfter})
	p := s.startRun()
	s.lab.held(p, hold)
	s.check(syscall.Kill(p.child(), syscall.SIGKILL))
	if code := p.wait(); code != exitDone {
		t.Fatalf("exit code %d:\n%s", code, p.out.String())
	}
	if out := p.out.String(); !strings.Contains(out, "signal: killed") {
		t.Errorf("it does not say how the process died:\n%s", out)
	}
	s.renewed()
	s.attempts(map[string]int{"uploading_certificate": 2})
}

// TestParentKilled kills only the parent, while the child's request is held: the child ends
// with it, and the next parent waits for that.
func TestParentKilled(t *testing.T) {
	t.Parallel()
	s := newLabSite(t, noOutage)
	hold := s.lab.add(fault{Call: "cucm.csr", Kind: holdAfter})
	p := s.startRun()
	s.lab.held(p, hold)
	p.signal(syscall.SIGKILL)
	s.run(exitDone)
	if code := p.wait(); code != -int(syscall.SIGKILL) {
		t.Errorf("exit code %d", code)
	}
	s.renewed()
	s.attempts(map[string]int{"generating_csr": 2})
}

// TestChildStopped stops the child, as a debugger does, and interrupts the parent, which
// kills the child after a grace period.
func TestChildStopped(t *testing.T) {
	t.Parallel()
	s := newLabSite(t, noOutage)
	hold := s.lab.add(fault{Call: "cucm.csr", Kind: holdAfter})
	p := s.startRun()
	s.lab.held(p, hold)
	s.check(syscall.Kill(p.child(), syscall.SIGSTOP))
	p.signal(syscall.SIGINT)
	if code := p.wait(); code != exitFailed || !strings.Contains(p.out.String(), "interrupted") {
		t.Errorf("exit code %d:\n%s", code, p.out.String())
	}
	s.lab.clear()
	s.run(exitDone)
	s.renewed()
	s.attempts(map[string]int{"generating_csr": 2})
}

// TestMemoryBomb lets a script take more memory than it may have. It must not take the
// machine's.
func TestMemoryBomb(t *testing.T) {
	if raceDetector {
		t.Skip("there is no limit under the race detector")
	}
	t.Parallel()
	s := newSite(t, "limits: { memory: 128MiB }\n")
	s.script(demoPlaybook, `
return playbook { name = "cucm-tomcat", run = function(ctx)
  ctx:step("growing", function()
    local all = {}
    for i = 1, 1e9 do all[i] = { i } end
  end)
end }`)
	// The second time it stays parked, and says so again.
	for range 2 {
		// The Go runtime says that there is no memory, or is killed by a signal at that.
		out := s.run(exitParked)
		j := s.journal()
		r := j.runs()[0]
		j.close()
		for _, word := range []string{"died in step growing", "3 times"} {
			if !strings.Contains(out, word) || !strings.Contains(r.Reason, word) {
				t.Errorf("it does not say %q: %s\n%s", word, r.Reason, out)
			}
		}
		if r.Status != "parked" {
			t.Errorf("the run is %s", r.Status)
		}
	}
}

// TestKilledWhileServiceRestarts kills the run while a service restarts. Of Tomcat the
// journal knows that, and its restart is not started again; a service that may be restarted
// twice is, and nothing else.
func TestKilledWhileServiceRestarts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		service   string
		journaled bool
		next      int // the restart after it
	}{{"Cisco Tomcat", true, 1}, {"Cisco UDS Tomcat", false, 2}} {
		t.Run(strings.ReplaceAll(c.service, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newLabSite(t, noOutage)
			s.lab.behave(demoNode, map[string]any{"restart_outage": 2 * time.Second, "service_restart": time.Second})
			d := s.serve()
			next := s.lab.add(fault{Call: "cucm.restart", Kind: holdBefore, Skip: c.next}) // no other service restarts before the kill
			id := d.begin(demoPlaybook)
			s.until(c.service+" restarts", func() bool {
				return s.lab.ledger().restarts()[c.service] > 0 && (!c.journaled || d.restarting(id, c.service))
			})
			d.kill()
			d.stops(-int(syscall.SIGKILL))
			s.lab.dropped(next)
			s.lab.clear()
			s.serve().is(id, "done")
			if c.journaled {
				s.renewed()
			} else {
				s.renewed(c.service)
			}
			s.attempts(map[string]int{"restarting_services": 2})
		})
	}
}

// restarting reports whether the journal has that the service's restart has started.
func (d *daemon) restarting(id, service string) bool {
	d.s.t.Helper()
	for _, e := range get[history](d, "/runs/"+id+"/history").Effects {
		var progress struct {
			Services []struct{ Service, State string }
		}
		_ = json.Unmarshal(e.Progress, &progress) // there may be none yet
		for _, one := range progress.Services {
			if one.Service == service && one.State == "begun" {
				return true
			}
		}
	}
	return false
}

// TestDaemonIsKilledWithRuns kills the daemon, and only it, while many runs are in flight,
// each renewing the certificate of a node of its own. Two children are stopped in
// the middle of an upload, so that they cannot notice by themselves that their
// parent is gone; one of them continues when the next daemon is at work already.
//
// The first daemon's children reach the lab through doors of their own, which tell
// when each was last used: never after the run was adopted.
func TestDaemonIsKilledWithRuns(t *testing.T) {
	t.Parallel()
	n := 12
	switch {
	case raceDetector:
		n = 8
	case full():
		n = 50
	}
	var hosts []string
	for i := range n {
		hosts = append(hosts, fmt.Sprintf("cucm%02d", i))
	}
	s := newLabSite(t, noOutage, hosts...)
	s.patient()
	s.configure("concurrency: 64\n")
	for _, host := range hosts {
		s.script(host, renewal(host))
	}
	doors := s.openDoors()
	d := s.serve()
	var held [2]int
	for i := range held {
		held[i] = s.lab.add(fault{Call: "cucm.upload-identity", Kind: holdAfter})
	}
	byHost := map[string]string{} // the runs
	for _, host := range hosts {
		byHost[host] = d.begin(host)
	}
	for _, id := range held {
		s.lab.held(d.process, id)
	}
	s.until("some are done, and many are under way", func() bool { return len(s.lab.ledger().Uploads) > n/2 })
	old := d.children()
	stopped := d.stopUploads(2)
	d.signal(syscall.SIGKILL)
	d.process.wait()
	s.lab.clear()
	doors.leave()

	adoptions := s.watchAdoptions(slices.DeleteFunc(slices.Clone(old), func(pid int) bool { return slices.Contains(stopped, pid) }))
	started := time.Now()
	d = s.serve()
	s.until("a run is adopted", func() bool { return adoptions.first().After(started) })
	if err := syscall.Kill(stopped[0], syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) { // the next daemon may have ended it
		t.Error(err)
	}
	for _, id := range byHost {
		d.is(id, "done")
	}
	for _, pid := range old {
		if alive(pid) {
			t.Errorf("the old process %d lives", pid)
		}
	}
	adoptions.end()
	// What it takes if nothing else is at work is for BenchmarkResume to say.
	t.Logf("the first run continues %s after the start", adoptions.first().Sub(started).Round(time.Millisecond))
	s.onlyBefore(doors, adoptions, byHost)
	s.renewedEach(n)
	d.signal(syscall.SIGTERM)
	d.stops(exitDone)
}

// stopUploads stops the processes of n runs whose certificate the node has taken and
// who do not know it yet. One that has learned of it before it was stopped continues.
func (d *daemon) stopUploads(n int) (stopped []int) {
	d.s.t.Helper()
	d.s.until("uploads are under way", func() bool {
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
func (d *daemon) uploading() []int {
	d.s.t.Helper()
	var pids []int
	running := map[string]string{} // by playbook
	j := d.s.journal()
	defer j.close()
	for _, r := range j.runs() {
		if last := j.last(r.ID); last.Name == "uploading_certificate" && last.State == stepStarted {
			running[r.Playbook] = r.ID
		}
	}
	for _, u := range d.s.lab.ledger().Uploads {
		host, _, _ := strings.Cut(u.Node, ".")
		if id := running[host]; u.Kind == "identity" && id != "" {
			text, err := os.ReadFile(filepath.Join(d.s.state(), "runs", id+".lock"))
			if errors.Is(err, fs.ErrNotExist) {
				continue // it has ended
			}
			d.s.check(err)
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			d.s.check(err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// adoptions tells when runs were taken up, and when the processes that had them
// before were seen to live last.
type adoptions struct {
	stop func()

	mu    sync.Mutex
	at    map[string]time.Time // by run
	alive time.Time
}

// watchAdoptions watches the journal from now on, which no process writes yet.
func (s *site) watchAdoptions(old []int) *adoptions {
	s.t.Helper()
	j := s.journal()
	before := map[string]int64{}
	for _, r := range j.runs() {
		before[r.ID] = r.Epoch
	}
	a := &adoptions{at: map[string]time.Time{}}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer j.close()
		look := time.NewTicker(2 * time.Millisecond)
		defer look.Stop()
		for {
			a.see(j.runs(), before, slices.ContainsFunc(old, alive))
			select {
			case <-look.C:
			case <-quit:
				return
			}
		}
	}()
	a.stop = sync.OnceFunc(func() { close(quit); <-done })
	s.t.Cleanup(a.stop)
	return a
}

func (a *adoptions) see(runs []run, before map[string]int64, alive bool) {
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
func (s *site) onlyBefore(d *doors, a *adoptions, runs map[string]string) {
	s.t.Helper()
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
			s.t.Errorf("%s was touched by an old process %s after its run was adopted", host, last.Sub(limit))
		}
	}
}

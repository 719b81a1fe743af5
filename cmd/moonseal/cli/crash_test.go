package cli

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"moonseal/modules/faults"
	"moonseal/modules/lab"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
	"moonseal/runtime/run"
)

// full reports whether all is asked for that is left out by default, as make testfull does.
func full() bool { return os.Getenv("MOONSEAL_TEST") == "full" }

// kill is a moment at which moonseal, parent and child, is killed.
type kill struct {
	name  string
	stage int          // how far the run is
	hook  string       // for killVariable
	hold  faults.Fault // instead: while the lab holds this call
	step  string       // the step that dies, and is attempted again; "" for none
	order bool         // the answer to an order is lost: another may be placed

	unsure bool // the journal has a mark and no answer
}

// stage is a step with one call that changes something outside.
type stage struct {
	step, fn string
	holds    []faults.Fault // the work is done, the answer unread
}

func stages() []stage {
	after := func(call string, skip int) faults.Fault {
		return faults.Fault{Call: call, Kind: faults.HoldAfter, Skip: skip}
	}
	return []stage{
		{"generating_csr", "cucm.Node:csr", []faults.Fault{after("cucm.csr", 0)}},
		{"creating_account", "acme.CA:account", []faults.Fault{after("acme.new-account", 0)}},
		{"requesting_certificate", "acme.Account:order", []faults.Fault{after("acme.new-order", 0)}},
		{"creating_dns_challenge", "dns.Zone:present", []faults.Fault{after("dns.cloudflare.create", 0)}},
		{"completing_validation", "acme.Account:validate", []faults.Fault{after("acme.challenge", 0)}},
		{"downloading_certificate", "acme.Account:finalize", []faults.Fault{after("acme.finalize", 0), after("acme.certificate", 0)}},
		{"uploading_certificate", "cucm.Node:upload", []faults.Fault{after("cucm.upload-trust", 0), after("cucm.upload-trust", 1), after("cucm.upload-identity", 0)}},
		{"restarting_services", "cucm.Node:restart", []faults.Fault{
			{Call: "cucm.restart", Kind: faults.HoldBefore}, after("cucm.restart", 0), after("cucm.restart", 1),
		}},
	}
}

// kills returns the moments in the order in which a run comes to them.
func kills() []kill {
	out := []kill{hooked(0, run.AfterStep, "checking_certificate", "")}
	for i, at := range stages() {
		marked := hooked(i, run.AfterMark, at.fn, at.step)
		marked.unsure = true
		out = append(out, hooked(i, run.BeforeMark, at.fn, at.step), marked)
		for _, f := range at.holds {
			k := kill{name: fmt.Sprintf("%s %s %d", f.Kind, f.Call, f.Skip+1), stage: i, hold: f, step: at.step}
			k.order = f.Call == "acme.new-order"
			out = append(out, k)
		}
		answered := hooked(i, run.AfterAnswer, at.fn, at.step)
		answered.unsure = true
		answered.order = at.fn == "acme.Account:order"
		out = append(out, answered, hooked(i, run.AfterStep, at.step, ""))
	}
	n := len(stages())
	return append(out,
		hooked(n, run.AfterStep, "verifying_certificate", ""),
		kill{name: "hold-after dns.cloudflare.delete", stage: n, hold: faults.Fault{Call: "dns.cloudflare.delete", Kind: faults.HoldAfter}},
		hooked(n+1, run.BetweenUndos, "dns.Zone:present", ""),
		hooked(n+2, run.BeforeEnd, "done", ""))
}

func hooked(stage int, p run.Point, what, step string) kill {
	return kill{name: string(p) + " " + what, stage: stage, hook: string(p) + " " + what + " 1", step: step}
}

// TestCrash kills a run at each moment that matters, as kill -9 does, and runs
// it again: for each call that changes something outside before it is marked in
// the journal, after it, when its work is done and its answer unread (so for each
// request of a call that makes several), when its answer was read, and when its
// step is done; also between the undos and just before the end.
func TestCrash(t *testing.T) {
	t.Parallel()
	for _, k := range kills() {
		t.Run(strings.ReplaceAll(k.name, " ", "_"), func(t *testing.T) { crash(t, k) })
	}
}

// TestCrashTwice kills the run that continues too. The first kill is at each moment at which
// the journal cannot know what became of a call, so that the second meets the question: by
// turns within the same call and in the next one, at another moment of it each time. With
// MOONSEAL_TEST=full the first is at all moments, and the second at all that are not before
// it, which takes half an hour.
func TestCrashTwice(t *testing.T) {
	t.Parallel()
	all := kills()
	for i, first := range all {
		if !full() && !first.unsure {
			continue
		}
		for _, second := range seconds(all, i) {
			t.Run(strings.ReplaceAll(first.name+" then "+second.name, " ", "_"), func(t *testing.T) { crash(t, first, second) })
		}
	}
}

// seconds picks the second kills for the first one, all[i].
func seconds(all []kill, i int) []kill {
	later := all[i:]
	if full() {
		return later
	}
	stage := all[i].stage
	if i%2 == 1 || all[i].step == "" {
		stage = min(stage+1, all[len(all)-1].stage)
	}
	var there []kill
	for _, k := range later {
		if k.stage == stage {
			there = append(there, k)
		}
	}
	return []kill{there[i/2%len(there)]}
}

// crash kills a run at one moment after the other, and then lets it go to its
// end. A second moment of the same call may not come: what has happened is asked
// for, not done again.
func crash(t *testing.T, kills ...kill) {
	t.Parallel()
	s := newLabSite(t)
	var met []kill
	unsure := map[string]int{}
	for i, k := range kills {
		if s.killed(k) {
			met = append(met, k)
			for _, service := range s.unread(k) {
				unsure[service]++
			}
		} else if i == 0 || k.stage > kills[i-1].stage {
			t.Fatalf("the run never comes to %s", k.name)
		}
	}
	if len(met) == len(kills) {
		s.mustRun(exitDone)
	}
	s.survived(s.renewed(), met, unsure)
}

// killed runs until the moment k, at which the run is killed. It reports false
// where the run came to its end instead.
func (s *site) killed(k kill) bool {
	s.t.Helper()
	var code int
	var p *process
	if k.hook != "" {
		p = s.start(k.hook, s.runArgs()...)
		code = p.wait()
	} else {
		id := s.fault(k.hold)
		p = s.start("", s.runArgs()...)
		if !s.heldOrDone(p, id) {
			s.clearFaults()
			return false
		}
		p.kill()
		code = p.wait()
		s.dropped(id)
		s.clearFaults()
	}
	if code != -int(syscall.SIGKILL) && code != exitDone {
		s.t.Fatalf("%s: exit code %d:\n%s", k.name, code, p.out.String())
	}
	return code != exitDone
}

// unread returns the services that were restarted by the time of a kill among the
// restarts: that is journaled at their end, because to restart them twice harms nobody. Of
// Cisco Tomcat the journal tells, or the certificate that it then serves.
func (s *site) unread(k kill) []string {
	s.t.Helper()
	if k.hold.Call != "cucm.restart" {
		return nil
	}
	all := restarts(s.ledger())
	delete(all, "Cisco Tomcat")
	return slices.Collect(maps.Keys(all))
}

// TestCrashWithLocks kills a run between the mark of a disruptive call and the call, and
// before an answer is journaled: it keeps its lock, a neighbour waits for it, and the
// run that continues releases it.
func TestCrashWithLocks(t *testing.T) {
	t.Parallel()
	const lock = "cluster:lab"
	for _, hook := range []string{
		string(run.AfterMark) + " cucm.Node:upload 1", string(run.AfterAnswer) + " cucm.Node:upload 1",
		string(run.AfterMark) + " cucm.Node:restart 1",
	} {
		t.Run(strings.ReplaceAll(hook, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newLabSite(t)
			s.script(demoPlaybook, lockedRenewal(demoPlaybook, lock))
			s.script("neighbour", lockedRenewal("neighbour", lock))
			if !s.killed(kill{name: hook, hook: hook}) {
				t.Fatalf("the run never comes to %s", hook)
			}
			first := s.histories()[0].Run
			if !slices.Equal(first.Locks, []string{lock}) {
				t.Errorf("the locks %v are journaled, want %s", first.Locks, lock)
			}
			s.holder(lock, first.ID)
			before := len(s.ledger().Uploads)

			neighbour := []string{"run", "neighbour", "--config", s.config(), "--force"}
			p := s.start("", neighbour...)
			if code := p.wait(); code != exitWaiting || !strings.Contains(p.out.String(), "lock "+lock+", held by run "+first.ID) {
				t.Fatalf("the neighbour: exit code %d:\n%s", code, p.out.String())
			}
			if l := s.ledger(); len(l.Uploads) != before {
				t.Errorf("the neighbour uploads: %+v", l.Uploads[before:])
			}
			s.holder(lock, first.ID)
			s.mustRun(exitDone)
			s.holder(lock, "")
			p = s.start("", neighbour...)
			if code := p.wait(); code != exitDone {
				t.Fatalf("the neighbour: exit code %d:\n%s", code, p.out.String())
			}
			s.holder(lock, "")
			l := s.renewed()
			for service, n := range restarts(l) {
				if n != 1 {
					t.Errorf("%s was restarted %d times, want once", service, n)
				}
			}
			if n := len(s.histories()); n != 2 {
				t.Errorf("%d runs, want 2", n)
			}
		})
	}
}

func lockedRenewal(name, lock string) string {
	return fmt.Sprintf(`return require("moonseal.renew").tomcat {
  name = %q, locks = { %q },
  node = { host = "cucm01-pub", domain = "automate.builders", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" },
  zone = { provider = "cloudflare", api_token = secret "CF_API_TOKEN" },
  ca = { directory = "letsencrypt", email = "admin@automate.builders" },
}
`, name, lock)
}

// holder checks which run holds the lock, and that no other lock is held; "" for none.
func (s *site) holder(lock, run string) {
	s.t.Helper()
	cfg, err := config.Load(s.config(), os.Getenv)
	s.check(err)
	j, err := journal.OpenReadOnly(s.t.Context(), cfg.State)
	s.check(err)
	defer func() { s.check(j.Close()) }()
	held, err := j.Holders(s.t.Context())
	s.check(err)
	want := map[string]string{}
	if run != "" {
		want[lock] = run
	}
	if !maps.Equal(held, want) {
		s.t.Errorf("held: %v, want %v", held, want)
	}
}

// survived checks what may have been done twice, and what not. unsure counts for
// each service the restarts of which nobody could know.
func (s *site) survived(l *lab.Ledger, kills []kill, unsure map[string]int) {
	s.t.Helper()
	for _, u := range l.Uploads {
		if !u.Accepted {
			s.t.Errorf("an upload of kind %s was refused: %s", u.Kind, u.Reason)
		}
	}
	orders, attempts := 1, map[string]int{}
	for _, k := range kills {
		attempts[k.step]++
		if k.order {
			orders++
		}
	}
	if len(l.CSRs) != 1 {
		s.t.Errorf("%d signing requests were generated, want 1", len(l.CSRs))
	}
	if len(l.Orders) > orders {
		s.t.Errorf("%d orders were placed, want at most %d", len(l.Orders), orders)
	}
	got := restarts(l)
	for _, service := range slices.Sorted(maps.Keys(got)) {
		if got[service] > 1+unsure[service] {
			s.t.Errorf("%s was restarted %d times, want at most %d", service, got[service], 1+unsure[service])
		}
	}
	if len(got) != 6 {
		s.t.Errorf("these were restarted, want 6 services: %v", got)
	}
	histories := s.histories()
	if len(histories) != 1 {
		s.t.Fatalf("there are %d runs, want 1: the first goes on", len(histories))
	}
	for _, step := range histories[0].Steps {
		if step.Attempt > 1+attempts[step.Name] {
			s.t.Errorf("step %s was attempted %d times, want at most %d", step.Name, step.Attempt, 1+attempts[step.Name])
		}
	}
}

// TestDeathsPark lets one step end its process again and again.
func TestDeathsPark(t *testing.T) {
	t.Parallel()
	s := newLabSite(t)
	p := s.start("after-mark cucm.Node:csr 1 child", s.runArgs()...)
	// The node has no request pending, so each process marks and starts again.
	if code := p.wait(); code != exitParked {
		t.Fatalf("exit code %d:\n%s", code, p.out.String())
	}
	s.parked(p.out.String(), "generating_csr", "signal: killed")
}

// parked checks that a run's output and its journal say in which step its process
// died, how, and how often.
func (s *site) parked(out, step, how string) {
	s.t.Helper()
	h := s.histories()[0]
	for _, word := range []string{step, how, "3 times"} {
		if !strings.Contains(out, word) || !strings.Contains(h.Run.Reason, word) {
			s.t.Errorf("it does not say %q: %s\n%s", word, h.Run.Reason, out)
		}
	}
	if h.Run.Status != journal.Parked {
		s.t.Errorf("the run is %s", h.Run.Status)
	}
}

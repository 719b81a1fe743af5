package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/modules/lab"
	"moonseal/runtime/journal"
)

// station is a step at which a run is met by the daemon's stop, each on a node of
// its own.
type station struct {
	step string
	call string // the lab holds it; "" is a poll that has no answer yet
}

func stations() []station {
	return []station{
		{"generating_csr", "cucm.csr"},
		{"creating_account", "acme.new-account"},
		{"requesting_certificate", "acme.new-order"},
		{"creating_dns_challenge", "dns.cloudflare.create"},
		{"downloading_certificate", "acme.finalize"},
		{"uploading_certificate", "cucm.upload-identity"},
		{"restarting_services", "cucm.restart"},
		{"cleaning_up", "dns.cloudflare.delete"},
		{"verifying_certificate", ""},
		{"completed", ""},
		{"completing_validation", "acme.challenge"},
		{"checking_certificate", "cucm.identity"},
		{"waiting_dns_propagation", ""}, // the last, and the first to continue: no record shows meanwhile
	}
}

func (s station) host() string { return strings.ReplaceAll(s.step, "_", "-") }
func (s station) node() string { return s.host() + "." + lab.Domain }

// TestServeStopsAtEachStep stops the daemon while runs are at every step of the
// pipeline at once, and starts it again. One half of the steps ends in time, the
// other is interrupted. Then a second signal stops it at once while changes are
// being made. Each renewal is done once. With MOONSEAL_TEST=full it does so to the
// other halves too.
func TestServeStopsAtEachStep(t *testing.T) {
	t.Parallel()
	all := stations()
	var nodes []cucmtest.NodeOptions
	for _, s := range all {
		nodes = append(nodes, cucmtest.NodeOptions{Host: s.host()})
	}
	// This machine is slow at times, and a run whose held request is given up continues.
	patient := map[string]map[string]any{"acme": {"timeout": "10m"}, "cucm": {"timeout": "10m"}, "dns": {"timeout": "10m"}}
	w := newWorld(t, lab.Options{Nodes: nodes, Behavior: cucmtest.Behavior{RestartOutage: -1}, SpareKeys: len(nodes), Settings: patient})
	x := &stops{world: w, doors: w.openDoors(), manager: w.manager()}
	w.configure("concurrency: 16\nstop_timeout: 4s\n")
	half := func(which int) func(station) bool {
		return func(s station) bool { return slices.Index(all, s)%2 == which }
	}
	none := func(station) bool { return false }
	changes := func(s station) bool {
		return slices.Contains([]string{"requesting_certificate", "uploading_certificate", "restarting_services"}, s.step)
	}
	if full() {
		x.round("one half", all, half(0), false)
		changes = func(station) bool { return true }
	}
	x.round("the other half", all, half(1), false)
	x.round("at once", slices.DeleteFunc(slices.Clone(all), func(s station) bool { return !changes(s) }), none, true)
}

// round stops the daemon, with a second signal where again is, and starts it again.
// ends are the stations whose steps end in time.
func (x *stops) round(name string, all []station, ends func(station) bool, again bool) {
	x.t.Helper()
	x.all, x.name = all, name
	x.reached()
	x.check(x.d.cmd.Process.Signal(syscall.SIGTERM))
	x.until("it stops", func() bool { return x.manager.has("STOPPING=1") })
	code := exitDone
	if again {
		code = exitFailed
		x.check(x.d.cmd.Process.Signal(syscall.SIGTERM))
	}
	for _, s := range slices.Backward(all) {
		if ends(s) {
			x.release[s.step]()
		}
	}
	if got := x.d.process.wait(); got != code {
		x.t.Fatalf("%s: exit code %d, want %d:\n%s", name, got, code, x.d.out.String())
	}
	x.stopped(ends)
	for _, s := range slices.Backward(all) {
		x.release[s.step]()
	}
	x.clearFaults()
	d := x.serve()
	for _, s := range all {
		d.is(x.runs[s.step], journal.Done)
	}
	x.renewedOnce()
	x.check(d.cmd.Process.Signal(os.Interrupt))
	if code := d.process.wait(); code != exitDone {
		x.t.Fatalf("%s: exit code %d at the end:\n%s", name, code, d.out.String())
	}
}

// stops is the world of that test.
type stops struct {
	*world

	doors   *doors
	manager *manager

	name    string // of the round
	all     []station
	d       *served
	runs    map[string]string // by step
	release map[string]func() // by step: lets it continue
	before  *lab.Ledger
}

// reached starts the daemon, and lets a run come to each station.
func (x *stops) reached() {
	x.t.Helper()
	for _, s := range x.all {
		email := "admin"
		if s.step == "creating_account" { // the others have one by then
			email = strings.ReplaceAll(x.name, " ", "-")
		}
		x.script(s.host(), fmt.Sprintf(`return require("moonseal.renew").tomcat {
  node = { host = %q, domain = "automate.builders", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" },
  zone = { provider = "cloudflare", api_token = secret "CF_API_TOKEN" },
  ca = { directory = "letsencrypt", email = "%s@automate.builders" },
}
`, s.host(), email))
	}
	x.manager.forget()
	x.before = x.ledger()
	x.d = x.serve()
	x.runs, x.release = map[string]string{}, map[string]func(){}
	for _, s := range x.all {
		switch s.step {
		case "completed":
			x.runs[s.step], x.release[s.step] = x.d.begin(s.host()), func() {}
			x.d.is(x.runs[s.step], journal.Done)
		case "waiting_dns_propagation":
			x.propagation(time.Hour)
			x.runs[s.step], x.release[s.step] = x.d.begin(s.host()), func() { x.propagation(0) }
			x.at(s)
		case "verifying_certificate":
			x.atVerifying(s)
		default:
			hold := x.fault(faults.Fault{Call: s.call, Kind: faults.HoldBefore})
			x.runs[s.step], x.release[s.step] = x.d.begin(s.host()), func() { x.check(x.lab.Release(x.t.Context(), hold)) }
			x.held(x.d.process, hold)
			x.at(s)
		}
	}
}

// at waits until the run is in the station's step.
func (x *stops) at(s station) {
	x.t.Helper()
	j, err := journal.OpenReadOnly(x.t.Context(), x.d.state)
	x.check(err)
	defer func() { x.check(j.Close()) }()
	x.until("a run is at "+s.step, func() bool {
		h, err := j.History(x.t.Context(), x.runs[s.step])
		x.check(err)
		if s.step == "cleaning_up" { // it is no step of the journal
			return h.Steps[len(h.Steps)-1].Name == "verifying_certificate" && h.Steps[len(h.Steps)-1].State == journal.StepIsDone
		}
		return len(h.Steps) > 0 && h.Steps[len(h.Steps)-1].Name == s.step && h.Steps[len(h.Steps)-1].State == journal.StepRunning
	})
}

// atVerifying lets a run come to where it looks at what the node serves: nobody
// answers once the last service has restarted.
func (x *stops) atVerifying(s station) {
	x.t.Helper()
	services := map[string]bool{}
	for _, r := range x.ledger().Restarts {
		if !strings.HasPrefix(r.Node, stations()[0].host()) { // the first is the publisher, which has more
			services[r.Service] = true
		}
	}
	last := x.fault(faults.Fault{Call: "cucm.restart", Kind: faults.HoldAfter, Skip: len(services) - 1})
	x.runs[s.step] = x.d.begin(s.host())
	x.held(x.d.process, last)
	x.release[s.step] = x.doors.close(s.node() + ":443")
	x.check(x.lab.Release(x.t.Context(), last))
	x.at(s)
}

func (x *stops) propagation(delay time.Duration) {
	x.t.Helper()
	_, err := x.lab.ChangeDNS(x.t.Context(), lab.DNSChange{PropagationDelay: map[int]time.Duration{1: delay, 2: delay}})
	x.check(err)
}

// stopped checks that no run began another step after the one that it was in.
func (x *stops) stopped(ends func(station) bool) {
	x.t.Helper()
	for _, h := range x.histories() {
		for _, s := range x.all {
			if h.Run.ID != x.runs[s.step] {
				continue
			}
			last := h.Steps[len(h.Steps)-1]
			switch {
			case s.step == "completed":
			case s.step == "cleaning_up":
				if ended := !h.Run.Ended.IsZero(); ended != ends(s) || last.Name != "verifying_certificate" {
					x.t.Errorf("%s: the run at %s has ended: %t, in step %s", x.name, s.step, ended, last.Name)
				}
			case s.call == "" && ends(s) && last.Name == s.step: // a poll ends, or stops where it waits
			case last.Name != s.step || (last.State == journal.StepIsDone) != ends(s):
				x.t.Errorf("%s: the run at %s was stopped in step %s, which is %s", x.name, s.step, last.Name, last.State)
			case !h.Run.Ended.IsZero():
				x.t.Errorf("%s: the run at %s has ended: %s", x.name, s.step, h.Run.Status)
			}
		}
	}
}

// renewedOnce checks that on each node everything was done once since the round began.
func (x *stops) renewedOnce() {
	x.t.Helper()
	now := x.ledger()
	for _, s := range x.all {
		name := func(ids []string) bool { return slices.Contains(ids, s.node()) }
		got := map[string]int{}
		for _, o := range now.Orders[len(x.before.Orders):] {
			if name(o.Identifiers) {
				got["orders"]++
			}
		}
		for _, c := range now.Certificates[len(x.before.Certificates):] {
			if name(c.Identifiers) {
				got["certificates"]++
				if now.Served[s.node()] != c.SHA256 {
					x.t.Errorf("%s: %s does not serve its new certificate", x.name, s.step)
				}
			}
		}
		for _, c := range now.CSRs[len(x.before.CSRs):] {
			if c.Node == s.node() {
				got["signing requests"]++
			}
		}
		for _, u := range now.Uploads[len(x.before.Uploads):] {
			if u.Node == s.node() && u.Kind == "identity" {
				got["uploads"]++
			}
		}
		for _, r := range now.Restarts[len(x.before.Restarts):] {
			if r.Node == s.node() {
				got["restarts of "+r.Service]++
			}
		}
		for _, e := range now.TXT.History[len(x.before.TXT.History):] {
			if strings.HasSuffix(e.Name, "."+s.node()) {
				got["TXT records: "+e.Action]++
			}
		}
		for what, n := range got {
			if n != 1 {
				x.t.Errorf("%s: %d %s for the run at %s, want 1", x.name, n, what, s.step)
			}
		}
		for _, what := range []string{"orders", "certificates", "signing requests", "uploads", "restarts of Cisco Tomcat", "TXT records: add", "TXT records: remove"} {
			if got[what] == 0 {
				x.t.Errorf("%s: no %s for the run at %s", x.name, what, s.step)
			}
		}
	}
}

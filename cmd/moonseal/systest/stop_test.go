package systest

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
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

// domain is the zone of the lab's nodes.
const domain = "automate.builders"

func (at station) host() string { return strings.ReplaceAll(at.step, "_", "-") }
func (at station) node() string { return at.host() + "." + domain }

// TestStopsAtEachStep stops the daemon while runs are at every step of the
// pipeline at once, and starts it again. One half of the steps ends in time, the
// other is interrupted. Then a second signal stops it at once while changes are
// being made. Each renewal is done once. With MOONSEAL_TEST=full it does so to the
// other halves too.
func TestStopsAtEachStep(t *testing.T) {
	t.Parallel()
	all := stations()
	var hosts []string
	for _, at := range all {
		hosts = append(hosts, at.host())
	}
	s := newLabSite(t, noOutage, hosts...)
	s.patient()
	x := &stops{site: s, doors: s.openDoors(), manager: s.manager()}
	s.configure("concurrency: 16\nstop_timeout: 4s\n")
	half := func(which int) func(station) bool {
		return func(at station) bool { return slices.Index(all, at)%2 == which }
	}
	none := func(station) bool { return false }
	changes := func(at station) bool {
		return slices.Contains([]string{"requesting_certificate", "uploading_certificate", "restarting_services"}, at.step)
	}
	if full() {
		x.round("one half", all, half(0), false)
		changes = func(station) bool { return true }
	}
	x.round("the other half", all, half(1), false)
	x.round("at once", slices.DeleteFunc(slices.Clone(all), func(at station) bool { return !changes(at) }), none, true)
}

// round stops the daemon, with a second signal if again is set, and starts it again.
// ends are the stations whose steps end in time.
func (x *stops) round(name string, all []station, ends func(station) bool, again bool) {
	x.t.Helper()
	x.all, x.name = all, name
	x.reached()
	x.d.signal(syscall.SIGTERM)
	x.until("it stops", func() bool { return x.manager.has("STOPPING=1") })
	code := exitDone
	if again {
		code = exitFailed
		x.d.signal(syscall.SIGTERM)
	}
	for _, at := range slices.Backward(all) {
		if ends(at) {
			x.release[at.step]()
		}
	}
	if got := x.d.wait(); got != code {
		x.t.Fatalf("%s: exit code %d, want %d:\n%s", name, got, code, x.d.out.String())
	}
	x.stopped(ends)
	for _, at := range all {
		if hold, ok := x.holds[at.step]; ok && !ends(at) {
			x.lab.dropped(hold) // its process is gone: what is released from now on does no work
		}
	}
	for _, at := range slices.Backward(all) {
		x.release[at.step]()
	}
	x.lab.clear()
	d := x.serve()
	for _, at := range all {
		d.is(x.runs[at.step], "done")
	}
	x.renewedOnce()
	d.signal(os.Interrupt)
	if code := d.wait(); code != exitDone {
		x.t.Fatalf("%s: exit code %d at the end:\n%s", name, code, d.out.String())
	}
}

// stops is the site of that test.
type stops struct {
	*site

	doors   *doors
	manager *manager

	name    string // of the round
	all     []station
	d       *daemon
	runs    map[string]string // by step
	holds   map[string]int    // by step: the fault that holds its call
	release map[string]func() // by step: lets it continue
	before  *ledger
}

// reached starts the daemon, and lets a run come to each station.
func (x *stops) reached() {
	x.t.Helper()
	for _, at := range x.all {
		email := "admin"
		if at.step == "creating_account" { // the others have one by then
			email = strings.ReplaceAll(x.name, " ", "-")
		}
		x.script(at.host(), fmt.Sprintf(`return require("moonseal.renew").tomcat {
  node = { host = %q, domain = "automate.builders", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" },
  zone = { provider = "cloudflare", api_token = secret "CF_API_TOKEN" },
  ca = { directory = "letsencrypt", email = "%s@automate.builders" },
}
`, at.host(), email))
	}
	x.manager.forget()
	x.before = x.lab.ledger()
	x.d = x.serve()
	x.runs, x.holds, x.release = map[string]string{}, map[string]int{}, map[string]func(){}
	for _, at := range x.all {
		switch at.step {
		case "completed":
			x.runs[at.step], x.release[at.step] = x.d.begin(at.host()), func() {}
			x.d.is(x.runs[at.step], "done")
		case "waiting_dns_propagation":
			x.propagation(time.Hour)
			x.runs[at.step], x.release[at.step] = x.d.begin(at.host()), func() { x.propagation(0) }
			x.reach(at)
		case "verifying_certificate":
			x.atVerifying(at)
		default:
			hold := x.lab.add(fault{Call: at.call, Kind: holdBefore})
			x.runs[at.step], x.release[at.step] = x.d.begin(at.host()), func() { x.lab.release(hold) }
			x.holds[at.step] = hold
			x.lab.held(x.d.process, hold)
			x.reach(at)
		}
	}
}

// reach waits until the run is in the station's step.
func (x *stops) reach(at station) {
	x.t.Helper()
	j := x.journal()
	defer j.close()
	x.until("a run is at "+at.step, func() bool {
		last := j.last(x.runs[at.step])
		if at.step == "cleaning_up" { // it is not a step of the journal
			return last.Name == "verifying_certificate" && last.State == stepDone
		}
		return last.Name == at.step && last.State == stepStarted
	})
}

// atVerifying lets a run come to where it looks at what the node serves: no node
// answers once the last service has restarted.
func (x *stops) atVerifying(at station) {
	x.t.Helper()
	services := map[string]bool{}
	for _, r := range x.lab.ledger().Restarts {
		if !strings.HasPrefix(r.Node, stations()[0].host()) { // the first is the publisher, which has more
			services[r.Service] = true
		}
	}
	last := x.lab.add(fault{Call: "cucm.restart", Kind: holdAfter, Skip: len(services) - 1})
	x.runs[at.step] = x.d.begin(at.host())
	x.lab.held(x.d.process, last)
	x.release[at.step] = x.doors.close(at.node() + ":443")
	x.lab.release(last)
	x.reach(at)
}

func (x *stops) propagation(delay time.Duration) {
	x.t.Helper()
	x.lab.must(http.MethodPost, "/dns", map[string]any{"propagation_delay": map[string]any{"1": delay, "2": delay}}, nil)
}

// stopped checks that no run began another step after the one that it was in.
func (x *stops) stopped(ends func(station) bool) {
	x.t.Helper()
	j := x.journal()
	defer j.close()
	for _, r := range j.runs() {
		for _, at := range x.all {
			if r.ID != x.runs[at.step] {
				continue
			}
			last := j.last(r.ID)
			switch {
			case at.step == "completed":
			case at.step == "cleaning_up":
				if ended := !r.Ended.IsZero(); ended != ends(at) || last.Name != "verifying_certificate" {
					x.t.Errorf("%s: the run at %s has ended: %t, in step %s", x.name, at.step, ended, last.Name)
				}
			case at.call == "" && ends(at) && last.Name == at.step: // a poll ends, or stops where it waits
			case last.Name != at.step || (last.State == stepDone) != ends(at):
				x.t.Errorf("%s: the run at %s was stopped in step %s, which is %s", x.name, at.step, last.Name, last.State)
			case !r.Ended.IsZero():
				x.t.Errorf("%s: the run at %s has ended: %s", x.name, at.step, r.Status)
			}
		}
	}
}

// renewedOnce checks that on each node everything was done once since the round began.
func (x *stops) renewedOnce() {
	x.t.Helper()
	now := x.lab.ledger()
	for _, at := range x.all {
		name := func(ids []string) bool { return slices.Contains(ids, at.node()) }
		got := map[string]int{}
		for _, o := range now.Orders[len(x.before.Orders):] {
			if name(o.Identifiers) {
				got["orders"]++
			}
		}
		for _, c := range now.Certificates[len(x.before.Certificates):] {
			if name(c.Identifiers) {
				got["certificates"]++
				if now.Served[at.node()] != c.SHA256 {
					x.t.Errorf("%s: %s does not serve its new certificate", x.name, at.step)
				}
			}
		}
		for _, c := range now.CSRs[len(x.before.CSRs):] {
			if c.Node == at.node() {
				got["signing requests"]++
			}
		}
		for _, u := range now.Uploads[len(x.before.Uploads):] {
			if u.Node == at.node() && u.Kind == "identity" {
				got["uploads"]++
			}
		}
		for _, r := range now.Restarts[len(x.before.Restarts):] {
			if r.Node == at.node() {
				got["restarts of "+r.Service]++
			}
		}
		for _, e := range now.TXT.History[len(x.before.TXT.History):] {
			if strings.HasSuffix(e.Name, "."+at.node()) {
				got["TXT records: "+e.Action]++
			}
		}
		for what, n := range got {
			if n != 1 {
				x.t.Errorf("%s: %d %s for the run at %s, want 1", x.name, n, what, at.step)
			}
		}
		for _, what := range []string{"orders", "certificates", "signing requests", "uploads", "restarts of Cisco Tomcat", "TXT records: add", "TXT records: remove"} {
			if got[what] == 0 {
				x.t.Errorf("%s: no %s for the run at %s", x.name, what, at.step)
			}
		}
	}
}

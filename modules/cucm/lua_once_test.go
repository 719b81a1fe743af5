package cucm

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/runtime/account"
	"moonseal/runtime/problem"
)

const restart = `node:restart("tomcat", { expect = cert })`

// uploaded returns a script whose node has a new certificate that is not served.
func uploaded(t *testing.T, change ...func(*cucmtest.Behavior)) *script {
	t.Helper()
	s := newScript(t, func(o *cucmtest.Options) {
		for _, c := range change {
			c(&o.Behavior)
		}
	})
	s.must(`cert = issue(node:csr { key_type = "ec" }) node:upload("tomcat", cert)`)
	return s
}

func stale(b *cucmtest.Behavior) { b.AfterRestart = cucmtest.OldCertificate }

func (s *script) kept() account.Restarts {
	s.t.Helper()
	r, err := s.store.Restarts(pub, "tomcat")
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *script) restarted(want int) {
	s.t.Helper()
	if list := restarts(s.testCluster, pub); len(list) != want {
		s.t.Errorf("%d restarts, want %d: %v", len(list), want, list)
	}
}

// A restart that one run started is not started again by another, as long as the
// certificate is the same and is not served.
func TestRestartOncePerCertificate(t *testing.T) {
	s := uploaded(t, stale)
	s.must(restart)
	s.restarted(6)
	s.must(restart) // the same run, which knows what it does
	s.restarted(12)
	s.name = "r2"
	for range 2 {
		p := problem.From(s.run(restart))
		if p.Kind != problem.Conflict || !p.Park || p.Happened() != problem.NotDone || !strings.Contains(p.Hint, "moonseal resume r2 --as look") {
			t.Fatalf("%+v", p)
		}
		for _, part := range []string{s.issued.SHA256, s.Node(pub).ServedSHA256(), "run r1 began to restart Cisco Tomcat, ", "port 443"} {
			if !strings.Contains(p.Message, part) {
				t.Errorf("it does not say %q: %s", part, p.Message)
			}
		}
	}
	if p := problem.From(s.run(`node:restart("tomcat", { expect = cert, services = { "Cisco Tomcat" } })`)); !p.Park {
		t.Errorf("with a list of its own: %+v", p)
	}
	s.restarted(12)
	s.must(`node:restart("tomcat", { expect = cert, services = { "Cisco WebDialer Web Service" } })`) // never restarted for it
	s.restarted(13)
	s.must(`cert = issue(node:csr { key_type = "ec" }) node:upload("tomcat", cert)`)
	s.must(restart) // another certificate
	s.restarted(19)
	if k := s.kept(); k.SHA256 != s.issued.SHA256 || k.Services[tomcatService].Run != "r2" || len(k.Services) != 6 {
		t.Errorf("kept %+v", k)
	}
}

// After a restart by hand the same call has nothing to do, with a list of services too.
func TestRestartedByHand(t *testing.T) {
	s := uploaded(t, stale)
	const tomcat = `node:restart("tomcat", { expect = cert, services = { "Cisco Tomcat" } })`
	s.must(tomcat)
	s.configure(t, func(b *cucmtest.Behavior) { *b = cucmtest.Behavior{} })
	if err := s.Node(pub).Restart(tomcatService); err != nil {
		t.Fatal(err)
	}
	s.name = "r2"
	s.must(`assert(#` + tomcat + `.services == 0)`)
	s.must(`assert(#` + restart + `.services == 0)`)
	s.restarted(1)
}

// A restart that surely has not started does not count.
func TestRestartThatNeverStarted(t *testing.T) {
	for name, f := range map[string]faults.Fault{
		"refused by the node": {Call: cucmtest.CallRestart, Kind: faults.Status, Times: -1},
		"no SSH":              {Call: cucmtest.CallSSHLogin, Kind: faults.Reset, Times: -1},
	} {
		t.Run(name, func(t *testing.T) {
			s := uploaded(t)
			s.fault(t, f)
			if err := s.run(restart); err == nil {
				t.Fatal("restarted")
			}
			if k := s.kept(); len(k.Services) > 0 {
				t.Errorf("kept %+v", k)
			}
			s.faults.Clear()
			s.name = "r2"
			s.must(restart)
			s.restarted(6)
		})
	}
}

// One whose answer was lost may have started.
func TestRestartThatMayHaveStarted(t *testing.T) {
	s := uploaded(t)
	s.fault(t, faults.Fault{Call: cucmtest.CallRestart, Kind: faults.Reset, Times: -1})
	if err := s.run(restart); err == nil {
		t.Fatal("restarted")
	}
	if k := s.kept(); k.SHA256 != s.issued.SHA256 || k.Services[tomcatService].Run != "r1" {
		t.Errorf("kept %+v", k)
	}
	s.faults.Clear()
	s.name = "r2"
	if p := problem.From(s.run(restart)); !p.Park {
		t.Errorf("%+v", p)
	}
	s.restarted(0)
}

// A run that is killed once Tomcat restarts has its mark on the disk, and continues.
func TestMarkBeforeRestart(t *testing.T) {
	s := uploaded(t)
	s.stop = `"Cisco Tomcat","state":"begun"`
	if err := s.run(restart); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	if k := s.kept(); k.Services[tomcatService].Run != "r1" || k.Services[tomcatService].At.IsZero() {
		t.Errorf("kept %+v", k)
	}
	// What is under way continues even if another playbook has left its mark since.
	others := s.kept()
	for service, r := range others.Services {
		r.Run = "r2"
		others.Services[service] = r
	}
	if err := s.store.SaveRestarts(pub, "tomcat", others); err != nil {
		t.Fatal(err)
	}
	s.stop = ""
	if _, _, err := s.resume(); err != nil {
		t.Fatal(err)
	}
	if list := restarts(s.testCluster, pub); len(list) != 6 || slices.Contains(list[1:], tomcatService) {
		t.Errorf("restarted %v", list)
	}
}

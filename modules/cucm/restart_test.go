package cucm

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/modules/x509"
	"moonseal/runtime/problem"
)

// installed returns a cluster whose publisher has a new certificate that is not
// served yet.
func installed(t *testing.T, change ...func(*cucmtest.Behavior)) (*testCluster, *Client, *x509.Certificate, RestartRequest) {
	t.Helper()
	w := newTestCluster(t, func(o *cucmtest.Options) {
		for _, c := range change {
			c(&o.Behavior)
		}
	})
	c := w.client(t, pub)
	cert := w.ready(t, c)
	if _, err := c.Upload(t.Context(), "tomcat", cert); err != nil {
		t.Fatal(err)
	}
	return w, c, cert, RestartRequest{Service: "tomcat", Expect: cert}
}

func mustLook(t *testing.T, c *Client, r RestartRequest, earlier RestartProgress) RestartLook {
	t.Helper()
	look, done, err := c.LookRestart(t.Context(), r, earlier)
	if err != nil || done != nil {
		t.Fatalf("LookRestart: done %v, %v", done, err)
	}
	return look
}

// journal keeps what a restart reports, as another process would read it.
type journal struct {
	states []string // "Cisco Tomcat begun"
	last   RestartProgress
	stop   string // fail at this state
	killed bool   // from here on
}

var errKilled = errors.New("killed")

func (j *journal) keep(v any) error {
	if j.killed {
		return errKilled
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var p RestartProgress
	if err := json.Unmarshal(raw, &p); err != nil {
		return err
	}
	at := p.Services[len(p.Services)-1]
	for _, s := range p.Services {
		if i := slices.Index(j.last.Services, s); i < 0 {
			at = s
		}
	}
	j.last = p
	j.states = append(j.states, at.Service+" "+at.State)
	if j.killed = j.stop == at.Service+" "+at.State; j.killed {
		return errKilled
	}
	return nil
}

func TestRestartWhateverTheShellLooksLike(t *testing.T) {
	for name, change := range map[string]func(*cucmtest.Behavior){
		"plain":           func(*cucmtest.Behavior) {},
		"split chunks":    func(b *cucmtest.Behavior) { b.ChunkSize, b.ChunkDelay = 7, 100*time.Microsecond },
		"slow prompt":     func(b *cucmtest.Behavior) { b.BannerDelay, b.PromptDelay = 150*time.Millisecond, 150*time.Millisecond },
		"pager":           func(b *cucmtest.Behavior) { b.PageLines = 5 },
		"keyboard only":   func(b *cucmtest.Behavior) { b.NoPassword = true },
		"password only":   func(b *cucmtest.Behavior) { b.NoKeyboard = true },
		"handshake fails": func(b *cucmtest.Behavior) { b.Outage = cucmtest.OutageHandshake },
		"503":             func(b *cucmtest.Behavior) { b.Outage = cucmtest.OutageUnavailable },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, c, cert, r := installed(t, change, func(b *cucmtest.Behavior) { b.RestartOutage = 50 * time.Millisecond })
			j := &journal{}
			got, err := c.Restart(t.Context(), r, mustLook(t, c, r, RestartProgress{}), RestartProgress{}, j.keep)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Services) != 6 || slices.ContainsFunc(got.Services, func(s RestartState) bool { return s.State != Done }) {
				t.Errorf("got %+v", got)
			}
			if want := []string{"Cisco Tomcat sending", "Cisco Tomcat begun", "Cisco Tftp done"}; !slices.Equal(j.states, want) {
				t.Errorf("journaled %v", j.states)
			}
			if ok, _, err := c.Serves(t.Context(), cert); !ok || err != nil {
				t.Errorf("Serves: %v, %v", ok, err)
			}
			if n := len(restarts(w, pub)); n != 6 {
				t.Errorf("%d restarts", n)
			}
		})
	}
}

func TestLegacySSH(t *testing.T) {
	w := newTestCluster(t, func(o *cucmtest.Options) { o.Behavior.LegacySSHOnly = true })
	_, err := w.client(t, pub).Services(t.Context())
	wantProblem(t, err, problem.Refused, "legacy")
	list, err := w.client(t, pub, func(o *Options) { o.Legacy = true }).Services(t.Context())
	if err != nil || find(list, "Cisco Tomcat") == nil || find(list, "Cisco WebDialer Web Service").Note != "Service Not Activated" {
		t.Errorf("%v, %v", list, err)
	}
}

func TestMissingStartedIsAWarning(t *testing.T) {
	w, c, _, r := installed(t, func(b *cucmtest.Behavior) { b.MissingStarted = true })
	if _, err := c.Restart(t.Context(), r, mustLook(t, c, r, RestartProgress{}), RestartProgress{}, nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(w.logs.String(), "without [STARTED]") {
		t.Error("no warning")
	}
}

// A question before a restart is recognised at once, quoted, and nothing was restarted.
func TestRestartThatAsks(t *testing.T) {
	w, c, _, r := installed(t, func(b *cucmtest.Behavior) { b.RestartAsks = "This node has active calls. Continue (yes/no)?" })
	var j journal
	_, err := c.Restart(t.Context(), r, mustLook(t, c, r, RestartProgress{}), RestartProgress{}, j.keep)
	p := problem.From(err)
	if p.Kind != problem.Refused || p.Work != problem.NotDone || !strings.Contains(p.Server, "active calls. Continue (yes/no)?") {
		t.Errorf("%+v", p)
	}
	if want := []string{"Cisco Tomcat sending", "Cisco Tomcat failed"}; !slices.Equal(j.states, want) {
		t.Errorf("journaled %v", j.states)
	}
	if n := len(restarts(w, pub)); n != 0 {
		t.Errorf("%d restarts", n)
	}
}

// What the node says of a restart counts more than the state that it shows, and whether it
// restarted is left to the probe.
func TestRestartThatIsBlamed(t *testing.T) {
	_, c, _, r := installed(t, func(b *cucmtest.Behavior) { b.RestartBlames = true })
	_, err := c.Restart(t.Context(), r, mustLook(t, c, r, RestartProgress{}), RestartProgress{}, nil)
	if p := problem.From(err); p.Work != problem.Unknown || !strings.Contains(p.Server, "Executed command unsuccessfully") {
		t.Errorf("%+v", p)
	}
}

func TestOnlyServicesThatRunAreRestartedBesides(t *testing.T) {
	w := newTestCluster(t)
	c := w.client(t, sub)
	look := mustLook(t, c, RestartRequest{Service: "tomcat"}, RestartProgress{})
	if slices.Contains(look.Services, "Cisco DRF Master") {
		t.Errorf("a subscriber has no DRF Master: %v", look.Services)
	}
	look = mustLook(t, c, RestartRequest{Service: "tomcat", Services: []string{"cisco tomcat", "Cisco WebDialer Web Service"}}, RestartProgress{})
	if !slices.Equal(look.Services, []string{"Cisco Tomcat", "Cisco WebDialer Web Service"}) {
		t.Errorf("own list: %v", look.Services)
	}
	_, _, err := c.LookRestart(t.Context(), RestartRequest{Service: "tomcat-other"}, RestartProgress{})
	if err == nil {
		t.Error("an unknown type passes")
	}
}

func TestAnotherCertificateIsInstalled(t *testing.T) {
	w, c, _, _ := installed(t)
	stranger := w.ca.issue(t, mustCSR(t, w, sub), nil)
	_, _, err := c.LookRestart(t.Context(), RestartRequest{Service: "tomcat", Expect: stranger}, RestartProgress{})
	p := wantProblem(t, err, problem.Conflict, stranger.SHA256, w.Node(pub).InstalledSHA256(), pub)
	if p.Happened() != problem.NotDone || len(restarts(w, pub)) != 0 {
		t.Error("something was restarted")
	}
}

// A service that does not start again is an error, after the others had their turn; the
// next pass restarts only that one.
func TestFailedRestartIsRepaired(t *testing.T) {
	for service, fail := range map[string]int{"Cisco Tomcat": 1, "all": 6} {
		w, c, cert, r := installed(t, func(b *cucmtest.Behavior) { b.FailRestarts = fail })
		j := &journal{}
		look := mustLook(t, c, r, RestartProgress{})
		_, err := c.Restart(t.Context(), r, look, RestartProgress{}, j.keep)
		p := wantProblem(t, err, problem.Unavailable, "did not start again", "Cisco Tomcat[STOPPED]", pub)
		if p.Happened() != problem.Unknown || len(restarts(w, pub)) != 6 {
			t.Errorf("%s: work %s, restarts %v", service, p.Happened(), restarts(w, pub))
		}
		// Tomcat is down, so the API does not answer; the command line does.
		again := mustLook(t, c, r, j.last)
		if !slices.Equal(again.Services, look.Services) || again.SHA256 != cert.SHA256 {
			t.Errorf("%s: %+v", service, again)
		}
		if _, err := c.Restart(t.Context(), r, again, j.last, j.keep); err != nil {
			t.Fatal(err)
		}
		if n := len(restarts(w, pub)); n != 6+fail {
			t.Errorf("%s: %d restarts", service, n)
		}
		if ok, _, err := c.Serves(t.Context(), cert); !ok || err != nil {
			t.Errorf("%s: Serves: %v, %v", service, ok, err)
		}
	}
}

func TestRefusedRestart(t *testing.T) {
	w, c, _, r := installed(t)
	_, err := c.Restart(t.Context(), r, RestartLook{Services: []string{"Cisco Nothing"}}, RestartProgress{}, nil)
	wantProblem(t, err, problem.Refused, "Service [Cisco Nothing] is invalid", "utils service list")
	w.fault(t, faults.Fault{Call: cucmtest.CallRestart, Kind: faults.Status})
	j := &journal{}
	_, err = c.Restart(t.Context(), r, mustLook(t, c, r, RestartProgress{}), RestartProgress{}, j.keep)
	wantProblem(t, err, problem.Unavailable, "Executed command unsuccessfully")
	if slices.Contains(j.states, "Cisco Tomcat begun") || !slices.Contains(j.states, "Cisco Tomcat failed") {
		t.Errorf("journaled %v", j.states)
	}
}

// However a restart breaks off: what is known to have started is not restarted
// again, and what did not happen is.
func TestRestartContinuesAfterAKill(t *testing.T) {
	for name, tc := range map[string]struct {
		stop  string       // killed when this is journaled
		fault faults.Fault // of a restart command
		dead  bool         // the process is killed by then
		times int          // restarts of Tomcat in all
	}{
		"before the command":   {stop: "Cisco Tomcat sending", times: 1},
		"begun":                {stop: "Cisco Tomcat begun", times: 1},
		"killed in the second": {fault: faults.Fault{Kind: faults.Lost, Skip: 1}, dead: true, times: 1},
		"killed in the last":   {fault: faults.Fault{Kind: faults.Lost, Skip: 5}, dead: true, times: 1},
		"never arrived":        {fault: faults.Fault{Kind: faults.Reset}, times: 1},
		"answer lost":          {fault: faults.Fault{Kind: faults.Lost}, times: 1},
		"answer breaks off":    {fault: faults.Fault{Kind: faults.Truncate}, times: 1},
		"second's answer lost": {fault: faults.Fault{Kind: faults.Lost, Skip: 1}, times: 1},
		"second never arrived": {fault: faults.Fault{Kind: faults.Reset, Skip: 1}, times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, c, cert, r := installed(t, func(b *cucmtest.Behavior) { b.RestartOutage = 50 * time.Millisecond })
			if tc.fault.Kind != "" {
				tc.fault.Call = cucmtest.CallRestart
				w.fault(t, tc.fault)
			}
			look := mustLook(t, c, r, RestartProgress{})
			j := &journal{stop: tc.stop}
			_, err := c.Restart(t.Context(), r, look, RestartProgress{}, func(v any) error {
				if tc.dead && len(j.states) == 2 { // Tomcat's
					return errKilled
				}
				return j.keep(v)
			})
			if err == nil {
				t.Fatal("not interrupted")
			}
			if tc.stop == "" && problem.From(err).Happened() != problem.Unknown {
				t.Errorf("work is known: %v", err)
			}
			j.stop, j.killed = "", false
			next := w.client(t, pub, func(o *Options) { o.Pins = []string{look.Served, cert.SHA256} })
			deadline, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, happened, err := next.ProbeRestart(deadline, r, look, j.last)
			if err != nil {
				t.Fatal(err)
			}
			if !happened {
				if _, err := next.Restart(deadline, r, look, j.last, j.keep); err != nil {
					t.Fatal(err)
				}
			}
			if _, happened, err = next.ProbeRestart(deadline, r, look, j.last); err != nil || !happened && tc.fault.Kind == "" {
				t.Errorf("the probe does not see that all is done: %v, %v", happened, err)
			}
			tomcats := 0
			for _, s := range restarts(w, pub) {
				if s == tomcatService {
					tomcats++
				}
			}
			if tomcats != tc.times {
				t.Errorf("Tomcat was restarted %d times", tomcats)
			}
			for _, s := range look.Services {
				if !slices.Contains(restarts(w, pub), s) {
					t.Errorf("%s was never restarted", s)
				}
			}
			waitServes(t, next, cert)
		})
	}
}

func waitServes(t *testing.T, c *Client, cert *x509.Certificate) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if ok, _, err := c.Serves(t.Context(), cert); ok && err == nil {
			return
		}
		if err := c.wait(t.Context(), 5*time.Millisecond); err != nil {
			break
		}
	}
	t.Error("the new certificate is never served")
}

// While the node is away it cannot be found out; an old certificate that stays means no.
func TestProbeWaits(t *testing.T) {
	w, c, _, r := installed(t, func(b *cucmtest.Behavior) { b.RestartOutage = time.Hour })
	look := mustLook(t, c, r, RestartProgress{})
	sending := RestartProgress{Look: look, Services: []RestartState{{"Cisco Tomcat", Sending}}}
	if _, happened, err := c.ProbeRestart(t.Context(), r, look, sending); happened || err != nil {
		t.Errorf("the old certificate is served: happened %v, %v", happened, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	away := func(v any) error {
		if p, ok := v.(*RestartProgress); ok && p.Services[0].State == Started {
			cancel()
		}
		return nil
	}
	if _, err := c.Restart(ctx, r, look, RestartProgress{}, away); err == nil {
		t.Fatal("the restart ended")
	}
	_, happened, err := c.ProbeRestart(t.Context(), r, look, sending)
	if happened || err == nil || !problem.From(err).Kind.Retryable() {
		t.Errorf("the node is away: happened %v, %v", happened, err)
	}
	if n := len(restarts(w, pub)); n != 1 {
		t.Errorf("%d restarts", n)
	}
}

func TestNodeThatComesBackWithTheOldCertificate(t *testing.T) {
	w, c, cert, r := installed(t, func(b *cucmtest.Behavior) { b.AfterRestart = cucmtest.OldCertificate })
	look := mustLook(t, c, r, RestartProgress{})
	if _, err := c.Restart(t.Context(), r, look, RestartProgress{}, nil); err != nil {
		t.Fatal(err)
	}
	ok, served, err := c.Serves(t.Context(), cert)
	if ok || err != nil || served.SHA256 != look.Served {
		t.Errorf("Serves: %v, %v", ok, err)
	}
	if got := c.pins.get(); !slices.Equal(got, []string{look.Served, cert.SHA256}) {
		t.Errorf("pins %v: both must be accepted", got)
	}
	_ = w
}

// A restart whose progress cannot be kept ends at once.
func TestRestartThatCannotBeJournaled(t *testing.T) {
	w, c, _, r := installed(t)
	look := mustLook(t, c, r, RestartProgress{})
	_, err := c.Restart(t.Context(), r, look, RestartProgress{}, func(any) error { return errKilled })
	if !errors.Is(err, errKilled) || len(restarts(w, pub)) != 0 {
		t.Errorf("%v, restarts %v", err, restarts(w, pub))
	}
}

// A pass that was killed before it reported anything still knows, from what it
// looked at, what the pass before it did.
func TestEarlierPassesAreRemembered(t *testing.T) {
	w, c, _, r := installed(t)
	first := mustLook(t, c, r, RestartProgress{})
	j := &journal{stop: "Cisco Tomcat begun"}
	if _, err := c.Restart(t.Context(), r, first, RestartProgress{}, j.keep); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	second := mustLook(t, c, r, first.Progress(j.last))
	if _, happened, err := c.ProbeRestart(t.Context(), r, second, RestartProgress{}); happened || err != nil {
		t.Fatalf("happened %v, %v", happened, err)
	}
	third := mustLook(t, c, r, second.Progress(RestartProgress{}))
	got, err := c.Restart(t.Context(), r, third, RestartProgress{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if list := restarts(w, pub); len(list) != 6 || got.Services[0].State != Started {
		t.Errorf("restarted %v, result %+v", list, got)
	}
}

// If no handshake can show it and no harm is excluded, the run parks.
func TestRestartOfUnknownOutcome(t *testing.T) {
	w := newTestCluster(t)
	c := w.client(t, pub, func(o *Options) { o.AllowPhoneLockout = true })
	sending := func(s string) RestartProgress { return RestartProgress{Services: []RestartState{{s, Sending}}} }
	for _, tc := range []struct{ certificate, service string }{{"CallManager", "Cisco CallManager"}, {"tomcat", "Cisco Tomcat"}} {
		r := RestartRequest{Service: tc.certificate} // tomcat: what is installed is served, and restarted all the same
		_, _, err := c.ProbeRestart(t.Context(), r, mustLook(t, c, r, RestartProgress{}), sending(tc.service))
		wantProblem(t, err, problem.Conflict, tc.service, "by hand")
	}
	r := RestartRequest{Service: "CallManager"}
	if _, happened, err := c.ProbeRestart(t.Context(), r, mustLook(t, c, r, RestartProgress{}), sending("Cisco Tftp")); happened || err != nil {
		t.Errorf("a harmless one: %v, %v", happened, err)
	}
}

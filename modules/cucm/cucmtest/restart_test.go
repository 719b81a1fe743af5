package cucmtest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

const restartTomcat = "utils service restart Cisco Tomcat"

// timed is a cluster on a fake clock whose restarts take a minute, with a new
// certificate installed on the publisher.
func timed(t *testing.T, change func(*Behavior)) (c *Cluster, clock *clockwork.FakeClock, old, sha string) {
	t.Helper()
	clock = clockwork.NewFakeClockAt(time.Now())
	c = start(t, func(o *Options) {
		o.Clock = clock
		o.Behavior.RestartOutage = time.Minute
		if change != nil {
			change(&o.Behavior)
		}
	})
	old = c.Node(pub).ServedSHA256()
	return c, clock, old, renew(t, c.Node(pub), newCA(t))
}

// advance lets d pass once something waits on the clock.
func advance(t *testing.T, clock *clockwork.FakeClock, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := clock.BlockUntilContext(ctx, 1); err != nil {
		t.Fatal("nothing waits on the clock")
	}
	clock.Advance(d)
}

func TestOutages(t *testing.T) {
	for _, test := range []struct {
		outage Outage
		check  func(*testing.T, *Node, string)
	}{
		{"", wantRefused},
		{OutageRefused, wantRefused},
		{OutageHandshake, func(t *testing.T, n *Node, _ string) {
			_, err := live(n)
			if err == nil || errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "tls: ") {
				t.Errorf("handshake gave %v", err)
			}
		}},
		{OutageUnavailable, func(t *testing.T, n *Node, old string) {
			wantLive(t, n, old)
			r, err := as(t.Context(), n, user, pass, "GET", base+"snapshot/server", nil)
			if err != nil || r.status != http.StatusServiceUnavailable || !strings.Contains(r.text, "<html>") {
				t.Errorf("%v %+v", err, r)
			}
		}},
	} {
		t.Run(string(test.outage), func(t *testing.T) {
			c, clock, old, sha := timed(t, func(b *Behavior) { b.Outage = test.outage })
			n := c.Node(pub)
			s := login(t, n)
			s.send(restartTomcat + "\r")
			s.until("Cisco Tomcat[STARTING]")
			advance(t, clock, 59*time.Second)
			test.check(t, n, old)
			if !strings.Contains(login(t, n).run("utils service list"), "Cisco Tomcat[STARTING]") {
				t.Error("the list does not show the restart")
			}
			advance(t, clock, time.Second)
			s.until("Cisco Tomcat[STARTED]\r\nadmin:")
			wantLive(t, n, sha)
			if r := call(t, n, "GET", "snapshot/server", nil); r.status != 200 {
				t.Errorf("REST after the restart: %d", r.status)
			}
		})
	}
}

func wantRefused(t *testing.T, n *Node, _ string) {
	t.Helper()
	if _, err := live(n); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial gave %v, want connection refused", err)
	}
}

// A restart cuts the requests that are under way.
func TestRestartCutsConnections(t *testing.T) {
	c, clock, _, _ := timed(t, nil)
	n := c.Node(pub)
	client := httpClient(n)
	client.Transport.(*http.Transport).DisableKeepAlives = false
	get := func() error {
		response, err := client.Get("https://" + n.RESTAddr() + "/")
		if err == nil {
			err = response.Body.Close()
		}
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	s := login(t, n)
	s.send(restartTomcat + "\r")
	s.until("[STARTING]")
	if get() == nil {
		t.Error("a kept connection outlived the restart")
	}
	advance(t, clock, time.Minute)
	s.until("[STARTED]")
}

func TestRestartContinuesWithoutItsSession(t *testing.T) {
	c, clock, _, sha := timed(t, nil)
	n := c.Node(pub)
	s := login(t, n)
	s.send(restartTomcat + "\r")
	s.until("[STARTING]")
	_ = s.client.Close()
	advance(t, clock, time.Minute)
	waitLive(t, n, sha)
	if l := c.Ledger(); len(l.Restarts) != 1 {
		t.Fatalf("restarts %+v", l.Restarts)
	}
}

// waitLive waits until a handshake shows sha.
func waitLive(t *testing.T, n *Node, sha string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-tick.C {
		if got, err := live(n); err == nil && got == sha {
			return
		}
	}
	t.Fatalf("%s does not serve %s", n.FQDN(), sha)
}

func TestCtrlCLeavesTheRestartAlone(t *testing.T) {
	c, clock, _, sha := timed(t, nil)
	s := login(t, c.Node(pub))
	s.send(restartTomcat + "\r")
	s.until("[STARTING]")
	s.send("\x03")
	s.until("^C\r\nadmin:")
	advance(t, clock, time.Minute)
	waitLive(t, c.Node(pub), sha)
}

func TestMissingStarted(t *testing.T) {
	c, clock, _, sha := timed(t, func(b *Behavior) { b.MissingStarted = true })
	out := login(t, c.Node(pub)).run(restartTomcat)
	if !strings.HasSuffix(out, "Cisco Tomcat[STARTING]\r\n") {
		t.Fatalf("restart printed %q", out)
	}
	wantRefused(t, c.Node(pub), "")
	advance(t, clock, time.Minute)
	waitLive(t, c.Node(pub), sha)
}

func TestOldCertificateAgain(t *testing.T) {
	c, clock, old, sha := timed(t, func(b *Behavior) { b.AfterRestart = OldCertificate })
	n := c.Node(pub)
	s := login(t, n)
	s.send(restartTomcat + "\r")
	s.until("[STARTING]")
	advance(t, clock, time.Minute)
	s.until("[STARTED]")
	wantLive(t, n, old)
	if err := n.Configure(func(b *Behavior) { b.AfterRestart, b.RestartOutage = NewCertificate, 0 }); err != nil {
		t.Fatal(err)
	}
	s.run(restartTomcat)
	wantLive(t, n, sha)
}

func TestFailedRestart(t *testing.T) {
	c := start(t, func(o *Options) { o.Behavior.FailRestarts = 1 })
	n := c.Node(pub)
	sha := renew(t, n, newCA(t))
	s := login(t, n)
	if out := s.run(restartTomcat); !strings.HasSuffix(out, "Cisco Tomcat[STARTING]\r\nCisco Tomcat[STOPPED]\r\n") {
		t.Fatalf("restart printed %q", out)
	}
	wantRefused(t, n, "")
	if !strings.Contains(s.run("utils service list"), "Cisco Tomcat[STOPPED]") {
		t.Error("the list does not show it")
	}
	s.run(restartTomcat)
	wantLive(t, n, sha)
}

func TestOtherServices(t *testing.T) {
	c, clock, old, sha := timed(t, func(b *Behavior) {
		b.ServiceRestart = time.Second
		b.TomcatLag = time.Hour
	})
	n := c.Node(pub)
	s := login(t, n)
	s.send("utils service restart Cisco Tftp\r")
	s.until("[STARTING]")
	wantLive(t, n, old) // HTTPS stays
	advance(t, clock, time.Second)
	s.until("Cisco Tftp[STARTED]")
	s.until("admin:")
	if n.LoadedSHA256("Cisco Tftp") != sha || n.LoadedSHA256("Cisco UDS Tomcat") != old || n.LoadedSHA256("Cisco AMC Service") != "" {
		t.Error("a restart loads the certificate for its own service only")
	}
	s.send("utils service restart Cisco UDS Tomcat\r")
	s.until("[STARTING]")
	advance(t, clock, time.Hour)
	if !strings.Contains(login(t, n).run("utils service list"), "Cisco UDS Tomcat[STARTING]") {
		t.Error("UDS Tomcat does not lag")
	}
	advance(t, clock, time.Second)
	s.until("[STARTED]")
	if n.LoadedSHA256("Cisco UDS Tomcat") != sha {
		t.Error("UDS Tomcat has the old certificate")
	}
}

// Two restarts of one node come one after the other, and both count.
func TestRestartsQueue(t *testing.T) {
	c, clock, _, sha := timed(t, nil)
	n := c.Node(pub)
	first, second := login(t, n), login(t, n)
	first.send(restartTomcat + "\r")
	first.until("[STARTING]")
	second.send(restartTomcat + "\r")
	second.until("Service Manager is running")
	advance(t, clock, time.Minute)
	second.until("[STARTING]")
	wantRefused(t, n, "")
	advance(t, clock, time.Minute)
	second.until("[STARTED]")
	wantLive(t, n, sha)
	if l := c.Ledger(); len(l.Restarts) != 2 {
		t.Fatalf("restarts %+v", l.Restarts)
	}
}

// Close ends what waits: restarts, sessions, the lot.
func TestCloseDuringARestart(t *testing.T) {
	c, _, _, _ := timed(t, nil) //nolint:dogsled // of all that it returns, the cluster
	s := login(t, c.Node(pub))
	s.send(restartTomcat + "\r")
	s.until("[STARTING]")
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Close()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("Close hangs")
	}
	s.end()
}

package cucmtest

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"moonseal/modules/faults"
)

// faulty is a cluster with faults.
func faulty(t *testing.T, fs ...faults.Fault) (*Cluster, *faults.Set, []int) {
	t.Helper()
	set := faults.New()
	var ids []int
	for _, f := range fs {
		id, err := set.Add(f)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return start(t, func(o *Options) { o.Faults = set }), set, ids
}

// Each REST call has its own name, and a Status fault answers it verbatim.
func TestRESTCallsHaveNames(t *testing.T) {
	for _, test := range []struct{ call, method, path string }{
		{CallCSR, "POST", "csr"},
		{CallPendingCSR, "GET", "csr?service=tomcat"},
		{CallUploadIdentity, "POST", "identity/certificates"},
		{CallUploadTrust, "POST", "trust/certificates"},
		{CallTrust, "GET", "trust/certificate?service=tomcat"},
		{CallIdentity, "GET", "identity/certificate?service=tomcat"},
		{CallSnapshot, "GET", "snapshot/server"},
	} {
		c, set, _ := faulty(t, faults.Fault{Call: test.call, Kind: faults.Status, Code: 503, Body: "<html>later</html>", Header: map[string]string{"Retry-After": "7"}})
		r := call(t, c.Node(pub), test.method, test.path, "{}")
		if r.status != 503 || r.text != "<html>later</html>" || r.header.Get("Retry-After") != "7" {
			t.Errorf("%s: %d %q", test.call, r.status, r.text)
		}
		if r := call(t, c.Node(pub), test.method, test.path, "{}"); r.status == 503 || set.List()[0].Hits != 1 {
			t.Errorf("%s was hit again", test.call)
		}
		if l := c.Ledger(); len(l.Logins) != 1 {
			t.Errorf("%s: the fault let the work be done: %+v", test.call, l.Logins)
		}
	}
}

func TestLostAndTruncatedUploads(t *testing.T) {
	for _, kind := range []faults.Kind{faults.Lost, faults.Truncate, faults.Reset} {
		c, _, _ := faulty(t, faults.Fault{Call: CallUploadIdentity, Kind: kind})
		n, a := c.Node(pub), newCA(t)
		cert := a.sign(t, generate(t, n, nil), nil)
		uploadTrust(t, n, a.rootPEM, a.issuerPEM)
		body := map[string]any{"service": "tomcat", "certificates": []string{cert}}
		if r, err := as(t.Context(), n, user, pass, "POST", base+"identity/certificates", body); err == nil {
			t.Errorf("%s: got %d %q", kind, r.status, r.text)
		}
		if done := n.InstalledSHA256() == shaOf(t, cert); done != (kind != faults.Reset) {
			t.Errorf("%s: done is %v", kind, done)
		}
	}
}

func TestHeldUploadIsDroppedWithItsClient(t *testing.T) {
	c, set, ids := faulty(t, faults.Fault{Call: CallUploadIdentity, Kind: faults.HoldBefore}, faults.Fault{Call: CallCSR, Kind: faults.HoldAfter})
	n := c.Node(pub)
	for _, test := range []struct {
		id   int
		path string
		body any
	}{
		{ids[0], "identity/certificates", "{}"},
		{ids[1], "csr", map[string]any{"service": "tomcat", "distribution": "this-server", "keyType": "ec"}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := as(ctx, n, user, pass, "POST", base+test.path, test.body)
			gone <- err
		}()
		if err := waitHeld(t, set, test.id); err != nil {
			t.Fatal(err)
		}
		cancel()
		if <-gone == nil {
			t.Error("the held request was answered")
		}
		waitLetGo(t, set)
	}
	if l := c.Ledger(); len(l.Uploads) != 0 || len(l.CSRs) != 1 {
		t.Errorf("ledger %+v", l)
	}
}

// wantGone waits until a connection has ended. A new session does not show it: in
// x/crypto/ssh one that is asked for while the connection dies waits for ever.
func wantGone(t *testing.T, client *ssh.Client) {
	t.Helper()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = client.Wait()
	}()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the connection stands")
	}
}

func waitHeld(t *testing.T, set *faults.Set, id int) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return set.WaitHeld(ctx, id)
}

// waitLetGo waits until no call is held.
func waitLetGo(t *testing.T, set *faults.Set) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-tick.C {
		held := false
		for _, f := range set.List() {
			held = held || f.Held
		}
		if !held {
			return
		}
	}
	t.Fatal("a call is held though its client is gone")
}

func TestRestartFaults(t *testing.T) {
	for _, test := range []struct {
		fault   faults.Fault
		drops   bool
		restart bool
		prints  string
	}{
		{faults.Fault{Kind: faults.Status, Body: "Service Manager is not running"}, false, false, "Service Manager is not running\r\n"},
		{faults.Fault{Kind: faults.Status}, false, false, "Executed command unsuccessfully\r\n"},
		{faults.Fault{Kind: faults.Reset}, true, false, ""},
		{faults.Fault{Kind: faults.Lost}, true, true, ""},
		{faults.Fault{Kind: faults.Truncate}, true, true, "Service Manager is run"},
		{faults.Fault{Kind: faults.Delay, Wait: time.Millisecond}, false, true, "[STARTED]"},
	} {
		test.fault.Call = CallRestart
		c, _, _ := faulty(t, test.fault)
		n := c.Node(pub)
		sha, old := renew(t, n, newCA(t)), n.ServedSHA256()
		s := login(t, n)
		s.send(restartTomcat + "\r")
		s.until(restartTomcat + "\r\n")
		var out string
		if test.drops {
			out = s.end()
			wantGone(t, s.client)
		} else {
			out = s.until("admin:")
		}
		if !strings.Contains(out, test.prints) {
			t.Errorf("%s printed %q", test.fault.Kind, out)
		}
		if got := len(c.Ledger().Restarts) == 1; got != test.restart {
			t.Errorf("%s: restarted is %v", test.fault.Kind, got)
		}
		if test.restart {
			waitLive(t, n, sha)
		} else {
			wantLive(t, n, old)
		}
	}
}

func TestHeldRestart(t *testing.T) {
	for _, kind := range []faults.Kind{faults.HoldBefore, faults.HoldAfter} {
		for _, end := range []string{"released", "connection gone", "session gone"} {
			c, set, ids := faulty(t, faults.Fault{Call: CallRestart, Kind: kind})
			n := c.Node(pub)
			s := login(t, n)
			s.send(restartTomcat + "\r")
			if err := waitHeld(t, set, ids[0]); err != nil {
				t.Fatal(err)
			}
			if started := len(c.Ledger().Restarts) == 1; started != (kind == faults.HoldAfter) {
				t.Errorf("%s: started is %v", kind, started)
			}
			switch end {
			case "released":
				if err := set.Release(ids[0]); err != nil {
					t.Fatal(err)
				}
				s.until("Cisco Tomcat[STARTED]\r\nadmin:")
				if len(c.Ledger().Restarts) != 1 {
					t.Errorf("%s, released: no restart", kind)
				}
				continue
			case "session gone":
				_ = s.session.Close()
			default:
				_ = s.client.Close()
			}
			waitLetGo(t, set)
			if started := len(c.Ledger().Restarts) == 1; started != (kind == faults.HoldAfter) {
				t.Errorf("%s, %s: started is %v", kind, end, started)
			}
		}
	}
}

func TestServiceListFaults(t *testing.T) {
	c, _, _ := faulty(t, faults.Fault{Call: CallServices, Kind: faults.Status, Body: "busy"}, faults.Fault{Call: CallServices, Kind: faults.Reset})
	s := login(t, c.Node(pub))
	if out := s.run("utils service list"); out != "busy\r\n" {
		t.Errorf("list printed %q", out)
	}
	s.send("utils service list\r")
	s.end()
}

func TestSSHLoginFaults(t *testing.T) {
	for _, f := range []faults.Fault{
		{Kind: faults.Reset}, {Kind: faults.Lost}, {Kind: faults.Status, Body: "Exceeded MaxStartups"},
	} {
		f.Call = CallSSHLogin
		c, _, _ := faulty(t, f)
		if _, err := ssh.Dial("tcp", c.Node(pub).SSHAddr(), sshConfig(pass)); err == nil {
			t.Errorf("%s: logged in", f.Kind)
		}
		login(t, c.Node(pub))
	}
	c, _, _ := faulty(t, faults.Fault{Call: CallSSHLogin, Kind: faults.Delay, Wait: 10 * time.Millisecond})
	login(t, c.Node(pub))
}

// A client that waits for the server's first byte and gives up is noticed.
func TestHeldLoginIsDroppedWithItsClient(t *testing.T) {
	for _, kind := range []faults.Kind{faults.HoldBefore, faults.HoldAfter} {
		c, set, ids := faulty(t, faults.Fault{Call: CallSSHLogin, Kind: kind})
		var d net.Dialer
		conn, err := d.DialContext(t.Context(), "tcp", c.Node(pub).SSHAddr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("SSH-2.0-test\r\n")); err != nil {
			t.Fatal(err)
		}
		if err := waitHeld(t, set, ids[0]); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		waitLetGo(t, set)
	}
}

func TestLoginTimeoutEndsWithTheClient(t *testing.T) {
	c, _, _ := faulty(t, faults.Fault{Call: CallSSHLogin, Kind: faults.Timeout})
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", c.Node(pub).SSHAddr())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d, %v", n, err)
	}
	_ = conn.Close()
	c.Close() // hangs where the handler stayed
}

package cucm

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/runtime/problem"
)

// dials counts connections, by port.
type dials struct{ https, ssh atomic.Int32 }

func (d *dials) count(o *Options) {
	dial := o.Dial
	o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasSuffix(addr, ":443") {
			d.https.Add(1)
		} else {
			d.ssh.Add(1)
		}
		return dial(ctx, network, addr)
	}
}

func (d *dials) want(t *testing.T, when string, https, ssh int32) {
	t.Helper()
	if h, s := d.https.Swap(0), d.ssh.Swap(0); h != https || s != ssh {
		t.Errorf("%s: %d connections to HTTPS and %d to SSH, want %d and %d", when, h, s, https, ssh)
	}
}

// Calls that follow one another share a connection. What proves that a certificate is
// served is a handshake of its own, and a restart ends all that came before it.
func TestConnectionsAreKept(t *testing.T) {
	w, d := newTestCluster(t), &dials{}
	c, ctx := w.client(t, pub, d.count), t.Context()
	old := w.Node(pub).ServedSHA256()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.Identity(ctx, "tomcat")
	must(err)
	served, err := c.Served(ctx)
	must(err)
	cert := w.ready(t, c)
	if d.want(t, "a look and a request", 1, 0); served.SHA256 != old {
		t.Errorf("served %s", served.SHA256)
	}
	_, err = c.LookUpload(ctx, "tomcat", cert)
	must(err)
	_, err = c.Upload(ctx, "tomcat", cert)
	must(err)
	d.want(t, "an upload", 0, 0)

	ask := RestartRequest{Service: "tomcat", Expect: cert}
	look, _, err := c.LookRestart(ctx, ask, RestartProgress{})
	must(err)
	d.want(t, "a look before a restart", 1, 1)
	_, err = c.Restart(ctx, ask, look, RestartProgress{}, nil)
	must(err)
	d.want(t, "a restart", 0, 0)
	if served, err = c.Served(ctx); err != nil || served.SHA256 != cert.SHA256 {
		t.Errorf("served after the restart: %+v, %v", served, err)
	}
	d.want(t, "a look after the restart", 1, 0)
	for range 2 {
		if ok, _, err := c.Serves(ctx, cert); !ok || err != nil {
			t.Errorf("serves: %t, %v", ok, err)
		}
	}
	d.want(t, "two proofs", 2, 0)
}

// What a node has shown grows old, and the session of a look ends.
func TestWhatIsKeptGrowsOld(t *testing.T) {
	w, d, clock := newTestCluster(t), &dials{}, clockwork.NewFakeClockAt(time.Now())
	c := w.client(t, pub, d.count, func(o *Options) { o.Clock = clock })
	cert := w.ready(t, c)
	if _, err := c.LookUpload(t.Context(), "tomcat", cert); err != nil {
		t.Fatal(err)
	}
	list, _, err := c.LookRestart(t.Context(), RestartRequest{Service: "tomcat"}, RestartProgress{})
	if err != nil {
		t.Fatal(err)
	}
	d.want(t, "looks", 2, 1)
	clock.Advance(recent + time.Second)
	if _, err := c.Served(t.Context()); err != nil {
		t.Error(err)
	}
	d.want(t, "served", 1, 0)
	if _, ok := c.takeTrust("tomcat"); ok {
		t.Error("the trust store is taken as it was")
	}
	held := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.shell != nil
	}
	for end := time.Now().Add(10 * time.Second); held() && time.Now().Before(end); { // it ends in the background
		runtime.Gosched()
	}
	if held() {
		t.Error("the session is still open")
	}
	// If it cannot be had any more, nothing was started.
	w.fault(t, faults.Fault{Call: cucmtest.CallSSHLogin, Kind: faults.Reset, Times: -1})
	_, err = c.Restart(t.Context(), RestartRequest{Service: "tomcat"}, list, RestartProgress{}, nil)
	if p := problem.From(err); p == nil || p.Happened() != problem.NotDone {
		t.Errorf("%v", err)
	}
}

// Another pin counts at once, though a connection is open that the old one has opened.
func TestOpenConnectionsFollowThePins(t *testing.T) {
	w, d := newTestCluster(t), &dials{}
	c := w.client(t, pub, d.count)
	if _, err := c.Identity(t.Context(), "tomcat"); err != nil {
		t.Fatal(err)
	}
	o := c.o
	same, err := c.over(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := same.Identity(t.Context(), "tomcat"); err != nil {
		t.Error(err)
	}
	d.want(t, "the same pins", 1, 0)
	o.Pins = []string{strings.Repeat("ab", 32)}
	other, err := c.over(o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.Identity(t.Context(), "tomcat")
	wantProblem(t, err, problem.Untrusted, "another certificate than is pinned")
	d.want(t, "another pin", 1, 0)
}

// A node that has restarted is read on a new connection. What changes something goes over
// no other than one that has just carried an answer.
func TestConnectionThatHasEnded(t *testing.T) {
	w, d, clock := newTestCluster(t), &dials{}, clockwork.NewFakeClockAt(time.Now())
	c := w.client(t, pub, d.count, func(o *Options) { o.Clock = clock })
	for range 2 {
		if _, err := c.Identity(t.Context(), "tomcat"); err != nil {
			t.Fatal(err)
		}
		if err := w.Node(pub).Restart(tomcatService); err != nil {
			t.Fatal(err)
		}
	}
	clock.Advance(alive + time.Second)
	for range 2 {
		if _, err := c.GenerateCSR(t.Context(), CSRRequest{KeyType: "ec"}); err != nil {
			t.Fatal(err)
		}
	}
	d.want(t, "two restarts", 3, 0)
}

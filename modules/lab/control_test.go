package lab

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"moonseal/modules/acme/acmetest"
	"moonseal/modules/cucm"
	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/dns/dnstest"
	"moonseal/modules/faults"
	"moonseal/runtime/problem"
)

func client(t *testing.T, w *World) *Client {
	t.Helper()
	c, err := Open(w.opt.Dir)
	if err != nil {
		t.Fatal(err)
	}
	c.HTTP = &http.Client{Transport: &http.Transport{}}
	t.Cleanup(c.HTTP.CloseIdleConnections)
	return c
}

func (c *Client) must(t *testing.T, f faults.Fault) int {
	t.Helper()
	id, err := c.AddFault(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestFaultIsHit(t *testing.T) {
	w := start(t, nil)
	c, ctx := client(t, w), t.Context()
	id := c.must(t, faults.Fault{Call: "cucm.csr", Kind: faults.Status, Code: 503, Times: 2})
	node := newUser(t, w.opt.Dir).node(t, pub)
	for range 2 {
		if _, err := node.GenerateCSR(ctx, cucm.CSRRequest{KeyType: "ec"}); problem.From(err).Status != 503 {
			t.Errorf("got %v", err)
		}
	}
	if _, err := node.GenerateCSR(ctx, cucm.CSRRequest{KeyType: "ec"}); err != nil {
		t.Error(err)
	}
	f, err := c.Fault(ctx, id)
	if err != nil || f.Hits != 2 || f.Held || f.Call != "cucm.csr" {
		t.Errorf("%+v, %v", f, err)
	}
	if err := c.ClearFaults(ctx); err != nil {
		t.Error(err)
	}
	if list, err := c.Faults(ctx); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// A held call continues once released; the one before it passed.
func TestHoldAndRelease(t *testing.T) {
	for _, kind := range []faults.Kind{faults.HoldBefore, faults.HoldAfter} {
		w := start(t, nil)
		c, ctx := client(t, w), t.Context()
		id := c.must(t, faults.Fault{Call: "cucm.csr", Kind: kind, Skip: 1})
		node := newUser(t, w.opt.Dir).node(t, pub)
		if _, err := node.GenerateCSR(ctx, cucm.CSRRequest{KeyType: "ec"}); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := node.GenerateCSR(ctx, cucm.CSRRequest{KeyType: "ec"})
			done <- err
		}()
		if err := c.WaitHeld(ctx, id); err != nil {
			t.Fatal(err)
		}
		if f, err := c.Fault(ctx, id); err != nil || !f.Held || f.Hits != 1 {
			t.Errorf("%+v, %v", f, err)
		}
		want := map[faults.Kind]int{faults.HoldBefore: 1, faults.HoldAfter: 2}[kind]
		if l, err := c.Ledger(ctx); err != nil || len(l.CSRs) != want {
			t.Errorf("%s: %d CSRs while held, %v", kind, len(l.CSRs), err)
		}
		if err := c.Release(ctx, id); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if l, err := c.Ledger(ctx); err != nil || len(l.CSRs) != 2 {
			t.Errorf("%s: %d CSRs, %v", kind, len(l.CSRs), err)
		}
	}
}

// A held call whose client goes away is dropped: its work is never done, or its answer is
// dropped, and the fault holds nothing any more.
func TestHeldCallIsDropped(t *testing.T) {
	w := start(t, nil)
	c := client(t, w)
	for kind, want := range map[faults.Kind]int{faults.HoldBefore: 0, faults.HoldAfter: 1} {
		id := c.must(t, faults.Fault{Call: "cucm.csr", Kind: kind})
		before := len(w.Cluster.Ledger().CSRs)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := newUser(t, w.opt.Dir).node(t, pub).GenerateCSR(ctx, cucm.CSRRequest{KeyType: "ec"})
			done <- err
		}()
		if err := c.WaitHeld(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-done; err == nil {
			t.Error("no error")
		}
		for held := true; held; {
			f, err := c.Fault(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			held = f.Held
		}
		if got := len(w.Cluster.Ledger().CSRs) - before; got != want {
			t.Errorf("%s: %d CSRs, want %d", kind, got, want)
		}
		if err := c.ClearFaults(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// A wait for a fault ends when the fault is removed, when the world ends, and when it
// times out.
func TestWaitHeldEnds(t *testing.T) {
	w := start(t, nil)
	c := client(t, w)
	short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	id := c.must(t, faults.Fault{Call: "acme.*", Kind: faults.HoldBefore})
	if err := c.WaitHeld(short, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	waiting := make(chan error, 1)
	wait := func() { waiting <- c.WaitHeld(t.Context(), id) }
	go wait()
	if err := c.ClearFaults(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err == nil || !strings.Contains(err.Error(), "no fault") {
		t.Errorf("got %v", err)
	}
	id = c.must(t, faults.Fault{Call: "acme.*", Kind: faults.HoldBefore})
	go wait()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waiting; err == nil {
		t.Error("a wait outlived the world")
	}
}

func TestBadRequests(t *testing.T) {
	w := start(t, nil)
	for _, c := range []struct {
		method, path, body string
		status             int
		words              string
	}{
		{"POST", "/faults", `{"call":"cucm.csr","kind":"explode"}`, 400, "explode"},
		{"POST", "/faults", `{"call":"cucm.upload","kind":"reset"}`, 400, "cucm.upload-identity"},
		{"POST", "/faults", `{"call":"[","kind":"reset"}`, 400, "syntax error"},
		{"POST", "/faults", `{"call":"cucm.csr","kind":"reset","tmies":3}`, 400, "tmies"},
		{"POST", "/faults", `{"call":"cucm.csr","kind":"reset"} {}`, 400, "more than one"},
		{"POST", "/faults", `{"body":"` + strings.Repeat("x", maxControl) + `"}`, 400, "too large"},
		{"GET", "/faults/7", "", 404, "no fault 7"},
		{"GET", "/faults/7?wait=held", "", 404, "no fault 7"},
		{"GET", "/faults/seven", "", 404, "no fault seven"},
		{"POST", "/faults/7/release", "", 404, "no fault 7"},
		{"GET", "/cucm/unknown", "", 404, "no node"},
		{"POST", "/cucm/" + pub, `{"behavior":{"outage":"total"}}`, 400, "outage"},
		{"POST", "/cucm/" + pub, `{"behavior":{"lock_afer":3}}`, 400, "lock_afer"},
		{"POST", "/cucm/" + pub, `{"remove_trust":{"service":"tomcat","common_name":"x"}}`, 400, "no trust"},
		{"POST", "/cucm/" + pub, `{"drop_csr":"tomcat"}`, 400, "pending"},
		{"POST", "/cucm/" + pub, `{"generate_csr":"nginx"}`, 400, "nginx"},
		{"POST", "/dns", `{"propagation_delay":{"3":1}}`, 404, "no server 3"},
		{"POST", "/dns", `{"remove":[{"name":"x.automate.builders","type":"TXT"}]}`, 404, "no record"},
		{"POST", "/dns", `{"add":[{"name":"elsewhere.example","type":"TXT","value":"x"}]}`, 400, "zone"},
		{"POST", "/acme", `{"certificate":"x"}`, 400, "pebble"},
		{"PUT", "/faults", "", 405, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, w.ControlURL()+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || !strings.Contains(string(body), c.words) {
			t.Errorf("%s %s %.80s: %d %s, %v", c.method, c.path, c.body, resp.StatusCode, body, err)
		}
	}
	if n := len(w.faults.List()); n != 0 {
		t.Errorf("%d faults were taken", n)
	}
	if b := w.Cluster.Node(pub).Behavior(); !reflect.DeepEqual(b, w.opt.Behavior) {
		t.Errorf("behavior changed: %+v", b)
	}
}

func TestNodeChanges(t *testing.T) {
	w := start(t, nil)
	c, ctx, node := client(t, w), t.Context(), w.Cluster.Node(pub)
	first, err := c.Node(ctx, pub)
	if err != nil || first.Served != node.ServedSHA256() || first.Role != cucmtest.Publisher || len(first.PendingCSRs) != 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	s, err := c.ChangeNode(ctx, pub, NodeChange{Behavior: json.RawMessage(`{"after_restart":"old","eku":"reject"}`), GenerateCSR: "tomcat", ChangeHostKey: true})
	if err != nil {
		t.Fatal(err)
	}
	want := w.opt.Behavior
	want.AfterRestart, want.EKU = cucmtest.OldCertificate, cucmtest.EKUReject
	if !reflect.DeepEqual(s.Behavior, want) || s.PendingCSRs["tomcat"] == "" || s.HostKey == first.HostKey {
		t.Errorf("%+v", s)
	}
	if err := c.Configure(ctx, pub, func(b *cucmtest.Behavior) { b.AfterRestart, b.MissingStarted = "", true }); err != nil {
		t.Fatal(err)
	}
	want.AfterRestart, want.MissingStarted = "", true
	if got := node.Behavior(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if sub := w.Cluster.Nodes()[1].Behavior(); !reflect.DeepEqual(sub, w.opt.Behavior) {
		t.Errorf("another node changed: %+v", sub)
	}
	trust := &TrustChange{Service: "tomcat", PEM: w.CA.RootPEM()}
	if _, err := c.ChangeNode(ctx, pub, NodeChange{AddTrust: trust, DropCSR: "tomcat"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ChangeNode(ctx, pub, NodeChange{RemoveTrust: &TrustChange{Service: "tomcat"}}); err != nil {
		t.Fatal(err)
	}
	if node.PendingCSR("tomcat") != "" {
		t.Error("the CSR is still there")
	}
}

func TestDNSChanges(t *testing.T) {
	w := start(t, nil)
	c := client(t, w)
	record := dnstest.Record{Name: "_acme-challenge." + pub, Type: "TXT", Value: "stale"}
	s, err := c.ChangeDNS(t.Context(), DNSChange{PropagationDelay: map[int]time.Duration{1: time.Second}, Add: []dnstest.Record{record}})
	if err != nil || len(s.Records) != 1 || s.Records[0].Value != "stale" || s.Records[0].TTL == 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err = c.ChangeDNS(t.Context(), DNSChange{Remove: []dnstest.Record{record}}); err != nil || len(s.Records) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err = c.DNS(t.Context()); err != nil || len(s.Records) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

// Every call that the doubles have is known, and every one that is known is hit
// somewhere; see each double's own tests.
func TestCalls(t *testing.T) {
	w := start(t, nil)
	calls, err := client(t, w).Calls(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Join(calls, " ") + " "
	for _, call := range append(append(acmetest.Calls(), cucmtest.Calls()...), "dns.query.ns2", "dns.rfc2136.update", "dns.route53.create") {
		if !strings.Contains(known, call+" ") {
			t.Errorf("%s is not known", call)
		}
	}
	if strings.Contains(known, "dns.query.ns3") {
		t.Error("a server too many")
	}
}

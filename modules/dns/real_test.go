package dns

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// These tests run BIND and Knot DNS, on loopback ports and as the test's user.

const (
	realSecret = "bW9vbnNlYWwtbGFiLXRzaWctc2VjcmV0LTMyLWJ5dGU="
	xferSecret = "dHJhbnNmZXItc2VjcmV0LW9mLTMyLWJ5dGVzLWxvbmc="
	patience   = 60 * time.Second
)

// program finds a server's program, or skips the test.
func program(t *testing.T, name, pkg string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin") {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && !info.IsDir() {
			return filepath.Join(dir, name)
		}
	}
	t.Skip(name + " is not installed: Debian's package " + pkg + " has it")
	return ""
}

// daemon is a name server that runs.
type daemon struct {
	t    *testing.T
	port string
	dir  string

	mu    sync.Mutex
	log   bytes.Buffer
	more  chan struct{} // closed, and made anew, with each line
	ended bool
}

// newDaemon takes a port that is free for UDP and TCP.
func newDaemon(t *testing.T) *daemon {
	t.Helper()
	var listen net.ListenConfig
	for range 20 {
		l, err := listen.Listen(t.Context(), "tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		pc, err := listen.ListenPacket(t.Context(), "udp4", l.Addr().String())
		_ = l.Close()
		if err != nil {
			continue
		}
		_ = pc.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		dir := t.TempDir()
		return &daemon{t: t, port: port, dir: dir, more: make(chan struct{})}
	}
	t.Fatal("no port is free for UDP and TCP")
	return nil
}

func (d *daemon) write(name, text string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// run starts the program; it ends with the test.
func (d *daemon) run(path string, args ...string) {
	d.t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Dir = d.dir
	out, err := cmd.StderrPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			d.note(lines.Text(), false)
		}
		d.note("", true)
	}()
	d.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
		if d.t.Failed() {
			d.t.Logf("%s on port %s:\n%s", filepath.Base(path), d.port, d.log.String())
		}
	})
}

func (d *daemon) note(line string, ended bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log.WriteString(line + "\n")
	d.ended = d.ended || ended
	close(d.more)
	d.more = make(chan struct{})
}

// says waits for words in the log.
func (d *daemon) says(words string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	for {
		d.mu.Lock()
		said, ended, more := strings.Contains(d.log.String(), words), d.ended, d.more
		d.mu.Unlock()
		switch {
		case said:
			return
		case ended:
			d.t.Fatalf("it ended without saying %q", words)
		}
		select {
		case <-more:
		case <-ctx.Done():
			d.t.Fatalf("it does not say %q", words)
		}
	}
}

func zoneFile(extra string) string {
	return `$TTL 60
@ IN SOA ns1.example.com. hostmaster.example.com. 1 3600 600 86400 300
@ IN NS ns1.example.com.
@ IN NS ns2.example.com.
ns1 IN A 127.0.0.1
ns2 IN A 127.0.0.1
` + extra
}

const bindKeys = `
key "moonseal-key" { algorithm hmac-sha256; secret "` + realSecret + `"; };
key "xfer" { algorithm hmac-sha256; secret "` + xferSecret + `"; };
`

func bindOptions(d *daemon, more string) string {
	return `options {
	directory "` + d.dir + `"; pid-file none; session-keyfile none; managed-keys-directory "` + d.dir + `";
	listen-on port ` + d.port + ` { 127.0.0.1; }; listen-on-v6 { none; }; recursion no; dnssec-validation no;
	` + more + `
};
controls { };
`
}

func startBIND(t *testing.T, d *daemon, conf string) {
	t.Helper()
	named := program(t, "named", "bind9")
	d.run(named, "-g", "-4", "-n", "1", "-c", d.write("named.conf", conf))
	d.says(" running\n")
}

// bindSecondary follows a primary.
func bindSecondary(t *testing.T, d *daemon, primary string) {
	t.Helper()
	startBIND(t, d, bindKeys+bindOptions(d, "")+`
server 127.0.0.1 { request-expire no; };
zone "example.com" { type secondary; file "example.com.db"; primaries port `+primary+` { 127.0.0.1 key xfer; }; allow-notify { 127.0.0.1; }; min-refresh-time 1; };
`)
}

func knotBase(d *daemon) string {
	return `server:
    rundir: "` + d.dir + `"
    listen: 127.0.0.1@` + d.port + `
database:
    storage: "` + d.dir + `"
log:
  - target: stderr
    any: debug
key:
  - id: moonseal-key
    algorithm: hmac-sha256
    secret: ` + realSecret + `
  - id: xfer
    algorithm: hmac-sha256
    secret: ` + xferSecret + `
`
}

func startKnot(t *testing.T, d *daemon, conf string) {
	t.Helper()
	knotd := program(t, "knotd", "knot")
	d.run(knotd, "-c", d.write("knot.conf", conf))
	d.says("server started")
}

// knotSecondary follows a primary.
func knotSecondary(t *testing.T, d *daemon, primary string) {
	t.Helper()
	startKnot(t, d, knotBase(d)+`remote:
  - id: primary
    address: 127.0.0.1@`+primary+`
    key: xfer
acl:
  - id: notified
    address: 127.0.0.1
    action: notify
zone:
  - domain: example.com
    storage: "`+d.dir+`"
    file: example.com.zone
    master: primary
    acl: notified
`)
}

// reality is a client whose names lead to daemons.
type reality struct {
	t      *testing.T
	client *Client
	zone   Zone
}

func newReality(t *testing.T, hosts map[string]*daemon, zone Zone) *reality {
	t.Helper()
	zone.Provider, zone.Key = "rfc2136", secret.Handle{Name: "TSIG"}
	zone.Resolvers = []string{"resolver.test"}
	return &reality{t: t, zone: zone, client: New(Options{
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil || hosts[host] == nil {
				return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("no host %s here", addr)}
			}
			var dialer net.Dialer
			return dialer.DialContext(ctx, network, "127.0.0.1:"+hosts[host].port)
		},
		Secret: func(context.Context, secret.Handle) (string, error) { return realSecret, nil },
		Clock:  clockwork.NewRealClock(),
	})}
}

// cycle writes, waits for and removes challenges.
func (r *reality) cycle(challenges []Challenge) {
	t := r.t
	t.Helper()
	plan, done, err := r.client.LookPresent(t.Context(), r.zone, challenges)
	if err != nil || done != nil {
		t.Fatalf("%+v, %v", done, err)
	}
	records, err := r.client.Present(t.Context(), r.zone, plan)
	if err != nil || len(records) != len(challenges) {
		t.Fatalf("%+v, %v", records, err)
	}
	if _, happened, err := r.client.ProbePresent(t.Context(), r.zone, challenges); !happened || err != nil {
		t.Fatalf("probe: %v, %v", happened, err)
	}
	r.propagated(challenges)
	for _, known := range [][]Record{records, nil} {
		if err := r.client.Remove(t.Context(), r.zone, challenges, known, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, happened, err := r.client.ProbePresent(t.Context(), r.zone, challenges); happened || err != nil {
		t.Fatalf("after the removal: %v, %v", happened, err)
	}
}

func (r *reality) propagated(challenges []Challenge) {
	t := r.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	every := time.NewTicker(500 * time.Millisecond)
	defer every.Stop()
	for {
		ok, reason, err := r.client.Propagated(ctx, r.zone, challenges, Propagation{})
		if ok {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			t.Fatal(reason)
		}
	}
}

// A hidden primary of BIND answers signed questions only; a BIND and a Knot secondary
// hear of changes late.
func TestRealBINDHiddenPrimary(t *testing.T) {
	program(t, "knotd", "knot")
	primary, ns1, ns2 := newDaemon(t), newDaemon(t), newDaemon(t)
	primary.write("example.com.db", zoneFile(`* IN CNAME web.example.net.
_acme-challenge.away IN CNAME away.example.com.
_acme-challenge.loop IN CNAME loop.example.com.
loop IN CNAME _acme-challenge.loop.example.com.
old IN DNAME new.example.com.
`))
	startBIND(t, primary, bindKeys+bindOptions(primary, "allow-query { key moonseal-key; key xfer; }; notify-delay 1;")+`
zone "example.com" { type primary; file "example.com.db"; notify explicit; also-notify { 127.0.0.1 port `+ns1.port+`; 127.0.0.1 port `+ns2.port+`; };
	allow-transfer { key xfer; key moonseal-key; }; update-policy { grant moonseal-key zonesub TXT; }; };
`)
	bindSecondary(t, ns1, primary.port)
	ns1.says("Transfer status: success")
	knotSecondary(t, ns2, primary.port)
	ns2.says("zone updated")
	hosts := map[string]*daemon{"primary.test": primary, "ns1.example.com": ns1, "ns2.example.com": ns2, "resolver.test": ns1}

	for _, key := range []string{"moonseal-key", "MOONSEAL-KEY.", "Moonseal-Key"} {
		t.Run(key, func(t *testing.T) {
			r := newReality(t, hosts, Zone{Name: "example.com", Server: "primary.test", KeyName: key})
			if zones, err := r.client.Check(t.Context(), r.zone, []string{"www.example.com"}); err != nil || !slices.Equal(zones, []string{"example.com"}) {
				t.Fatal(zones, err)
			}
			r.cycle([]Challenge{challenge("www.example.com", digestA), challenge("www.example.com", digestB), challenge("away.example.com", digestA), challenge("pbx.old.example.com", digestB)})
			if records, err := r.client.Records(t.Context(), r.zone, "", "NS"); err != nil || len(records) != 2 {
				t.Errorf("transfer: %v, %v", records, err)
			}
		})
	}
	r := newReality(t, hosts, Zone{Server: "primary.test", KeyName: "moonseal-key"})
	_, _, err := r.client.LookPresent(t.Context(), r.zone, []Challenge{challenge("loop.example.com", digestA)})
	if e := problem.From(err); err == nil || e.Kind != problem.Mismatch || !strings.Contains(e.Message, "form a loop") {
		t.Errorf("loop: %v", err)
	}
	if err := r.client.Watched(t.Context(), r.zone, "example.com"); err != nil {
		t.Errorf("watched: %v", err)
	}
	for _, tt := range []struct {
		zone Zone
		want string
	}{
		{Zone{Name: "example.com", Server: "primary.test", KeyName: "other"}, "BADKEY"},
		{Zone{Name: "example.com", Server: "primary.test", KeyName: "xfer"}, "BADSIG"},
	} {
		r := newReality(t, hosts, tt.zone)
		plan := &Plan{Missing: []Record{{Zone: "example.com", Name: "_acme-challenge.example.com", Type: "TXT", Value: digestA, TTL: time.Minute}}}
		_, err := r.client.Present(t.Context(), r.zone, plan)
		if e := problem.From(err); err == nil || e.Kind != problem.Auth || e.Happened() != problem.NotDone || !strings.Contains(e.Error(), tt.want) {
			t.Errorf("%s: %+v", tt.zone.KeyName, e)
		}
	}
}

// A view that the key chooses shows other records than the one for everybody.
func TestRealBINDViewsByKey(t *testing.T) {
	server, ns := newDaemon(t), newDaemon(t)
	server.write("inside.db", zoneFile(""))
	server.write("outside.db", zoneFile(""))
	startBIND(t, server, bindKeys+bindOptions(server, "notify no;")+`
view inside { match-clients { key moonseal-key; }; zone "example.com" { type primary; file "inside.db"; allow-update { key moonseal-key; }; }; };
view outside { match-clients { any; }; zone "example.com" { type primary; file "outside.db"; }; };
`)
	ns.write("example.com.db", zoneFile(""))
	startBIND(t, ns, bindOptions(ns, "notify no;")+`zone "example.com" { type primary; file "example.com.db"; };`)
	r := newReality(t, map[string]*daemon{"primary.test": server, "ns1.example.com": ns, "ns2.example.com": ns, "resolver.test": ns},
		Zone{Name: "example.com", Server: "primary.test", KeyName: "moonseal-key"})
	want := []Challenge{challenge("www.example.com", digestA)}
	plan, _, err := r.client.LookPresent(t.Context(), r.zone, want)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Present(t.Context(), r.zone, plan); err != nil {
		t.Fatal(err)
	}
	if _, happened, err := r.client.ProbePresent(t.Context(), r.zone, want); !happened || err != nil {
		t.Errorf("in the key's view: %v, %v", happened, err)
	}
	a, err := r.client.ask(t.Context(), r.client.named("primary.test:53"), "_acme-challenge.www.example.com", mdns.TypeTXT, false)
	if err != nil || len(a.Answer) != 0 {
		t.Errorf("in the other view: %v, %v", a, err)
	}
	if ok, reason, err := r.client.Propagated(t.Context(), r.zone, want, Propagation{}); ok || err != nil || !strings.Contains(reason, "does not show") {
		t.Errorf("%v, %q, %v", ok, reason, err)
	}
}

// A challenge's name that the parent refers to another server is in that one's zone.
func TestRealBINDDelegatedChallenge(t *testing.T) {
	parent, child := newDaemon(t), newDaemon(t)
	parent.write("example.com.db", zoneFile("_acme-challenge.www IN NS acme.example.net.\n"))
	startBIND(t, parent, bindOptions(parent, "notify no;")+`zone "example.com" { type primary; file "example.com.db"; };`)
	child.write("acme.db", "$TTL 60\n@ IN SOA acme.example.net. hostmaster.example.net. 1 3600 600 86400 300\n@ IN NS acme.example.net.\n")
	startBIND(t, child, bindKeys+bindOptions(child, "notify no;")+`zone "_acme-challenge.www.example.com" { type primary; file "acme.db"; allow-update { key moonseal-key; }; };`)
	hosts := map[string]*daemon{"acme.example.net": child, "ns1.example.com": parent, "ns2.example.com": parent, "resolver.test": parent}
	r := newReality(t, hosts, Zone{Server: "acme.example.net", KeyName: "MOONSEAL-KEY"})
	r.cycle([]Challenge{challenge("www.example.com", digestA)})
	r.zone.Name = "example.com"
	_, _, err := r.client.LookPresent(t.Context(), r.zone, []Challenge{challenge("www.example.com", digestA)})
	if e := problem.From(err); err == nil || e.Kind != problem.Mismatch || !strings.Contains(e.Message, "a zone of its own") {
		t.Errorf("%v", err)
	}
}

// A Knot primary, with a Knot and a BIND secondary.
func TestRealKnotPrimary(t *testing.T) {
	program(t, "named", "bind9")
	primary, ns1, ns2 := newDaemon(t), newDaemon(t), newDaemon(t)
	primary.write("example.com.zone", zoneFile("* IN CNAME web.example.net.\n_acme-challenge.away IN CNAME away.example.com.\n"))
	startKnot(t, primary, knotBase(primary)+`remote:
  - id: ns1
    address: 127.0.0.1@`+ns1.port+`
  - id: ns2
    address: 127.0.0.1@`+ns2.port+`
acl:
  - id: update
    key: moonseal-key
    action: [update, transfer]
  - id: transfer
    key: xfer
    action: transfer
zone:
  - domain: example.com
    storage: "`+primary.dir+`"
    file: example.com.zone
    notify: [ns1, ns2]
    acl: [update, transfer]
`)
	knotSecondary(t, ns1, primary.port)
	ns1.says("zone updated")
	bindSecondary(t, ns2, primary.port)
	ns2.says("Transfer status: success")
	hosts := map[string]*daemon{"primary.test": primary, "ns1.example.com": ns1, "ns2.example.com": ns2, "resolver.test": ns1}
	for _, key := range []string{"moonseal-key", "MOONSEAL-KEY"} {
		r := newReality(t, hosts, Zone{Name: "example.com", Server: "primary.test", KeyName: key})
		r.cycle([]Challenge{challenge("www.example.com", digestA), challenge("away.example.com", digestB)})
	}
}

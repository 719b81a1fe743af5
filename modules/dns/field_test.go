package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"moonseal/modules/dns/dnstest"
	"moonseal/modules/faults"
	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// Cases from the field: ../shared/cases/acme-dns.md.

// A key's name in another case than the server's is the same name (RFC 8945 section
// 4.3.3): the server signs under the canonical one.
func TestKeyNameInAnyCase(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		s := newScene(t, dnstest.Options{HiddenPrimary: hidden})
		z, want := zoneAt("rfc2136"), []Challenge{challenge("www.example.com", digestA)}
		z.KeyName, z.KeyAlgorithm = "MOONSEAL", "HMAC-SHA256"
		if hidden {
			z.Server = dnstest.HiddenHost
		}
		if _, err := s.client.Check(t.Context(), z, []string{"www.example.com"}); err != nil {
			t.Fatal(err)
		}
		records := s.mustPresent(z, want)
		if _, happened, err := s.client.ProbePresent(t.Context(), z, want); !happened || err != nil {
			t.Errorf("probe: %v, %v", happened, err)
		}
		if all, err := s.client.Records(t.Context(), z, "", "TXT"); err != nil || len(all) != 1 {
			t.Errorf("transfer: %v, %v", all, err)
		}
		if err := s.client.Remove(t.Context(), z, want, records, nil); err != nil {
			t.Fatal(err)
		}
		if got := s.TXT().Present; len(got) != 0 {
			t.Errorf("left: %+v", got)
		}
	}
}

// An update was made, and its answer cannot be made sense of: it may have happened, so
// it is probed, and its undo finds the record.
func TestUnclearAnswerOfAnUpdateIsUnknown(t *testing.T) {
	for _, tt := range []struct {
		name   string
		mangle func([]byte) []byte
		want   string
	}{
		{"signature does not verify", func(b []byte) []byte { b[len(b)-12] ^= 1; return b }, "does not verify"},
		{"signed under another name", func(b []byte) []byte { return bytes.Replace(b, []byte("moonseal"), []byte("moonsEaL"), 1) }, "does not verify"},
		{"not signed", unsigned, "is not signed"},
		{"cut short", func(b []byte) []byte { return b[:len(b)/2] }, "is malformed"},
		{"garbage", func(b []byte) []byte { return bytes.Repeat([]byte{0xff}, len(b)) }, ""},
		{"header only", func(b []byte) []byte { return b[:11] }, ""},
		{"another id", func(b []byte) []byte { b[0] ^= 1; return b }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, dnstest.Options{})
			z, want := zoneAt("rfc2136"), []Challenge{challenge("www.example.com", digestA)}
			s.client.opt.Dial = s.mangling(tt.mangle)
			_, err := s.present(z, want)
			if e := problem.From(err); err == nil || e.Happened() != problem.Unknown || !e.Kind.Retryable() || !strings.Contains(e.Error(), tt.want) || e.Target != "ns1.example.com:53" {
				t.Fatalf("%+v", e)
			}
			if _, happened, err := s.fresh().ProbePresent(t.Context(), z, want); !happened || err != nil {
				t.Errorf("probe: %v, %v", happened, err)
			}
			if err := s.client.Remove(t.Context(), z, want, nil, nil); err == nil || problem.From(err).Happened() != problem.Unknown {
				t.Errorf("removal: %+v", problem.From(err))
			}
			if got := s.TXT(); len(got.Present) != 0 || len(got.History) != 2 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// unsigned takes the signature off a message.
func unsigned(b []byte) []byte {
	m := new(mdns.Msg)
	if m.Unpack(b) != nil {
		return b
	}
	m.Extra = nil
	out, err := m.Pack()
	if err != nil {
		return b
	}
	return out
}

// mangling dials, and changes the answers to updates.
func (s *scene) mangling(mangle func([]byte) []byte) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		far, err := s.Dial(ctx, network, addr)
		if err != nil || network != "tcp" {
			return far, err
		}
		near, mine := net.Pipe()
		go func() {
			defer func() { _ = errors.Join(far.Close(), mine.Close()) }()
			for {
				q, err := message(mine)
				if err != nil {
					return
				}
				if _, err := far.Write(q); err != nil {
					return
				}
				a, err := message(far)
				if err != nil {
					return
				}
				if q[4]>>3&0xF == mdns.OpcodeUpdate {
					a = mangle(a[2:])
					a = append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)
				}
				if _, err := mine.Write(a); err != nil {
					return
				}
			}
		}()
		return near, nil
	}
}

// message reads a DNS message with its length before it.
func message(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	whole := make([]byte, 2+int(binary.BigEndian.Uint16(head[:])))
	copy(whole, head[:])
	_, err := io.ReadFull(r, whole[2:])
	return whole, err
}

// No resolver learns that a challenge's name does not exist, nor that a name above it
// does not which is below a zone.
func TestNothingIsPlanted(t *testing.T) {
	for _, blocked := range []bool{false, true} {
		for _, named := range []bool{false, true} {
			t.Run(fmt.Sprintf("blocked %v, zone named %v", blocked, named), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, dnstest.Options{NegativeTTL: time.Hour, Zones: []string{"example.com", "sub.example.com", "acme.example.net"}})
				z := zoneAt("cloudflare")
				if !named {
					z.Name = ""
				}
				want := []Challenge{challenge("www.example.com", digestA), challenge("example.com", digestA), challenge("a.b.example.com", digestB)}
				if !named {
					want = append(want, challenge("pbx.sub.example.com", digestB))
				}
				z.Propagation.Mode = modeResolvers
				if blocked {
					s.client.opt.Ask = s.swallow(nil)
				} else {
					s.add("_acme-challenge.away.example.com", "CNAME", "away.example.com.")
					want = append(want, challenge("away.example.com", digestA))
				}
				if _, err := s.client.Check(t.Context(), z, []string{"www.example.com", "a.b.example.com"}); err != nil {
					t.Fatal(err)
				}
				s.mustPresent(z, want)
				for _, q := range s.Asked() {
					name := "." + q.Name
					if q.Server == "resolver" && (strings.Contains(name, "._acme-challenge.") || q.Name == "away.example.com") {
						t.Errorf("the resolver was asked before it was published: %+v", q)
					}
					if q.Server == "resolver" && q.Empty && !blocked && strings.HasSuffix(name, ".example.com") {
						t.Errorf("planted: %+v", q)
					}
				}
				if ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{}); !ok || err != nil {
					t.Errorf("%v, %q, %v", ok, reason, err)
				}
				if err := s.client.Remove(t.Context(), z, want, nil, nil); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// swallow dials servers that never answer; it counts the attempts.
func (s *scene) swallow(attempts *attemptCount) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		attempts.add(network + " " + addr)
		if network == "tcp" {
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
		}
		near, far := net.Pipe()
		context.AfterFunc(ctx, func() { _ = far.Close() })
		go func() { _, _ = io.Copy(io.Discard, far) }()
		return datagrams{near}, nil
	}
}

// datagrams is a pipe that counts as UDP.
type datagrams struct{ net.Conn }

func (datagrams) ReadFrom([]byte) (int, net.Addr, error)      { return 0, nil, io.EOF }
func (d datagrams) WriteTo(b []byte, _ net.Addr) (int, error) { return d.Write(b) }

type attemptCount struct {
	mu sync.Mutex
	n  map[string]int
}

func (a *attemptCount) add(what string) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n == nil {
		a.n = map[string]int{}
	}
	a.n[what]++
}

// Port 53 is blocked, for 20 names at 3 servers: that is found out once, by each of the
// calls, before anything is written, and reported with the way out.
func TestBlockedPort53IsFoundOutOnce(t *testing.T) {
	var want []Challenge
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("host%d.example.com", i))
		want = append(want, challenge(names[i], digestA))
	}
	for _, call := range []string{"check", "present", "propagated"} {
		for _, named := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, zone named %v", call, named), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, dnstest.Options{Servers: 3})
				z := zoneAt("cloudflare")
				if !named {
					z.Name = ""
				}
				var attempts attemptCount
				s.client.opt.Ask = s.swallow(&attempts)
				for range 2 {
					began := time.Now()
					var err error
					switch call {
					case "check":
						_, err = s.client.Check(t.Context(), z, names)
					case "present":
						_, err = s.present(z, want)
					default:
						_, _, err = s.client.Propagated(t.Context(), z, want, Propagation{})
					}
					e := problem.From(err)
					if err == nil || e.Kind != problem.Unavailable || e.Happened() != problem.NotDone || !strings.Contains(e.Error(), "port 53 to ns1.example.com, ns2.example.com, ns3.example.com is blocked from here") ||
						!strings.Contains(e.Hint, `mode = "resolvers"`) || !strings.Contains(e.Hint, `"doh" or "wait"`) {
						t.Fatalf("%+v", e)
					}
					t.Logf("reported after %s, with %s for a question", time.Since(began), s.client.opt.QueryTimeout)
				}
				for what, n := range attempts.n {
					if n > 1 {
						t.Errorf("%s: %d times", what, n)
					}
				}
				if got := s.TXT(); len(got.History) != 0 {
					t.Errorf("written: %+v", got)
				}
			})
		}
	}
}

// The modes that need no server of the zone, behind a firewall, for a name in the zone
// and for one that a CNAME leads into it.
func TestModesBehindAFirewall(t *testing.T) {
	for _, mode := range []string{modeResolvers, modeDoH, modeWait} {
		for _, provider := range providers() {
			t.Run(mode+"/"+provider, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, dnstest.Options{NegativeTTL: time.Hour})
				s.client.opt.Ask = s.swallow(nil)
				z := zoneAt(provider)
				z.Propagation.Mode = mode
				s.add("_acme-challenge.b.example.com", "CNAME", "elsewhere.example.com.")
				want := []Challenge{challenge("a.example.com", digestA), challenge("b.example.com", digestB)}
				s.mustPresent(z, want)
				if got := s.texts("elsewhere.example.com"); !slices.Equal(got, []string{digestB}) {
					t.Errorf("%+v", s.TXT())
				}
				ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{})
				if mode == modeWait {
					if ok || reason != "nothing is asked for another 2m" || err != nil {
						t.Errorf("too early: %v, %q, %v", ok, reason, err)
					}
					s.clock.Advance(2 * time.Minute)
					ok, reason, err = s.client.Propagated(t.Context(), z, want, Propagation{})
				}
				if !ok || err != nil {
					t.Errorf("%v, %q, %v", ok, reason, err)
				}
				if err := s.client.Remove(t.Context(), z, want, nil, nil); err != nil || len(s.TXT().Present) != 0 {
					t.Errorf("%v, left %+v", err, s.TXT().Present)
				}
				if err := s.client.Watched(t.Context(), z, "example.com"); err != nil {
					t.Errorf("watched: %v", err)
				}
			})
		}
	}
}

// A DNS over HTTPS endpoint in bad times is a reason and no error.
func TestDoHInBadTimes(t *testing.T) {
	s := newScene(t, dnstest.Options{})
	z, want := zoneAt("cloudflare"), []Challenge{challenge("a.example.com", digestA)}
	z.Propagation = Propagation{Mode: modeDoH, URLs: []string{"https://dns.google/dns-query"}}
	s.mustPresent(z, want)
	for _, tt := range []struct {
		fault faults.Fault
		want  string
	}{
		{faults.Fault{Kind: faults.Status, Code: 502, Body: "<title>Bad Gateway</title>"}, "https://dns.google/dns-query does not answer: answered 502 Bad Gateway: Bad Gateway"},
		{faults.Fault{Kind: faults.Status, Code: 200, Body: "<html>log in"}, "https://dns.google/dns-query does not answer: the answer is malformed: not a DNS message"},
	} {
		tt.fault.Call = "dns.doh.query"
		s.fault(tt.fault)
		if ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{}); ok || err != nil || !strings.HasPrefix(reason, tt.want) {
			t.Errorf("%v, %q, %v", ok, reason, err)
		}
	}
	if ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{}); !ok || err != nil {
		t.Errorf("%v, %q, %v", ok, reason, err)
	}
}

// Each of a zone's servers that is dead, lame or refusing has its own words.
func TestWatchedSaysWhichServerIsUnfit(t *testing.T) {
	s := newScene(t, dnstest.Options{Servers: 3})
	z := zoneAt("cloudflare")
	if err := s.client.Watched(t.Context(), z, "example.com"); err != nil {
		t.Error(err)
	}
	s.fault(faults.Fault{Call: "dns.query.ns2", Kind: faults.Timeout, Times: -1})
	s.fault(faults.Fault{Call: "dns.query.ns3", Kind: faults.Status, Code: 5, Times: -1})
	err := s.client.Watched(t.Context(), z, "example.com")
	if e := problem.From(err); err == nil || e.Message != "ns2.example.com does not answer: no answer in time; ns3.example.com answers REFUSED for example.com" {
		t.Errorf("%v", err)
	}
	lame := s.fresh()
	lame.opt.Ask = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return s.Dial(ctx, network, dnstest.ResolverHost+":53")
	}
	err = lame.Watched(t.Context(), z, "example.com")
	if e := problem.From(err); err == nil || !strings.Contains(e.Message, "ns1.example.com is a lame server: it does not serve example.com") {
		t.Errorf("%v", err)
	}
}

// A wildcard's CNAME is none of a name that will exist (RFC 4592); one of the name's own
// is, also if a wildcard says the same.
func TestWildcardCNAME(t *testing.T) {
	forEach(t, func(t *testing.T, s *scene, z Zone) {
		s.add("*.example.com", "CNAME", "web.acme.example.net.")
		s.add("_acme-challenge.own.example.com", "CNAME", "_acme-challenge.own2.example.com.")
		want := []Challenge{challenge("www.example.com", digestA), challenge("example.com", digestA), challenge("own.example.com", digestB)}
		records := s.mustPresent(z, want)
		var names []string
		for _, r := range records {
			names = append(names, r.Name)
		}
		if !slices.Equal(names, []string{"_acme-challenge.www.example.com", "_acme-challenge.example.com", "_acme-challenge.own2.example.com"}) {
			t.Errorf("%v", names)
		}
		if ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{}); !ok || err != nil {
			t.Errorf("%v, %q, %v", ok, reason, err)
		}
		if err := s.fresh().Remove(t.Context(), z, want, nil, nil); err != nil || len(s.TXT().Present) != 0 {
			t.Errorf("%v, left %+v", err, s.TXT().Present)
		}
	})
	s := newScene(t, dnstest.Options{})
	z := zoneAt("cloudflare")
	z.Name = "acme.example.net"
	s.add("*.example.com", "CNAME", "web.acme.example.net.")
	s.add("*.www.example.com", "CNAME", "web.acme.example.net.")
	s.add("_acme-challenge.www.example.com", "CNAME", "web.acme.example.net.")
	if records := s.mustPresent(z, []Challenge{challenge("www.example.com", digestA)}); records[0].Name != "web.acme.example.net" {
		t.Errorf("a name's own CNAME beside a wildcard's: %+v", records)
	}
}

// A hidden primary answers signed questions only.
func TestHiddenPrimary(t *testing.T) {
	s := newScene(t, dnstest.Options{HiddenPrimary: true})
	z, want := zoneAt("rfc2136"), []Challenge{challenge("www.example.com", digestA)}
	z.Server = dnstest.HiddenHost
	s.mustPresent(z, want)
	if ok, reason, err := s.client.Propagated(t.Context(), z, want, Propagation{}); !ok || err != nil {
		t.Errorf("%v, %q, %v", ok, reason, err)
	}
	if records, err := s.client.Records(t.Context(), z, "_acme-challenge.www.example.com", "TXT"); err != nil || len(records) != 1 {
		t.Errorf("%v, %v", records, err)
	}
	if err := s.client.Remove(t.Context(), z, want, nil, nil); err != nil || len(s.TXT().Present) != 0 {
		t.Errorf("%v, left %+v", err, s.TXT().Present)
	}
}

// A challenge's name may be a zone of its own.
func TestDelegatedChallengeName(t *testing.T) {
	s := newScene(t, dnstest.Options{Zones: []string{"example.com", "_acme-challenge.www.example.com"}})
	z := zoneAt("cloudflare")
	want := []Challenge{challenge("www.example.com", digestA)}
	_, err := s.present(z, want)
	if e := problem.From(err); err == nil || e.Kind != problem.Mismatch || !strings.Contains(e.Message, "the name is in _acme-challenge.www.example.com, which is a zone of its own: example.com delegates it") {
		t.Errorf("%v", err)
	}
	z.Name = ""
	if records := s.mustPresent(z, want); records[0].Zone != "_acme-challenge.www.example.com" {
		t.Errorf("%+v", records)
	}
}

// A loop of CNAMEs is one, whatever a resolver calls it, and nothing to wait for.
func TestLoopOfCNAMEs(t *testing.T) {
	for _, mode := range []string{modeAuthoritative, modeResolvers, modeDoH} {
		for _, blocked := range []bool{false, true} {
			s := newScene(t, dnstest.Options{})
			s.add("_acme-challenge.www.example.com", "CNAME", "a.example.com.")
			s.add("a.example.com", "CNAME", "b.example.com.")
			s.add("b.example.com", "CNAME", "a.example.com.")
			if blocked {
				s.client.opt.Ask = s.swallow(nil)
			}
			z, want := zoneAt("cloudflare"), []Challenge{challenge("www.example.com", digestA)}
			z.Propagation.Mode = mode
			calls := map[string]func() error{
				"present": func() error { _, err := s.present(z, want); return err },
				"propagated": func() error {
					_, _, err := s.client.Propagated(t.Context(), z, want, Propagation{})
					return err
				},
				"check": func() error { _, err := s.client.Check(t.Context(), z, []string{"www.example.com"}); return err },
			}
			for name, call := range calls {
				err := call()
				if e := problem.From(err); err == nil || e.Kind.Retryable() || !strings.Contains(e.Error(), "its CNAMEs form a loop: _acme-challenge.www.example.com -> a.example.com -> b.example.com -> a.example.com") {
					t.Errorf("%s, %s, blocked %v: %v", name, mode, blocked, err)
				}
			}
		}
	}
}

// changed changes what a provider answers.
type changed struct {
	next   http.RoundTripper
	change func(r *http.Request, status int, body string) (int, string)
}

func (c changed) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	status, text := c.change(r, resp.StatusCode, string(body))
	resp.StatusCode, resp.Body, resp.ContentLength = status, io.NopCloser(strings.NewReader(text)), int64(len(text))
	return resp, err
}

// Both of Cloudflare's codes for a record that is there already are that.
func TestCloudflareRecordThatIsThere(t *testing.T) {
	for _, code := range []string{"81057", "81058"} {
		s := newScene(t, dnstest.Options{})
		s.client.opt.HTTP = changed{s.client.opt.HTTP, func(_ *http.Request, status int, body string) (int, string) {
			return status, strings.ReplaceAll(body, "81058", code)
		}}
		z := zoneAt("cloudflare")
		plan, _, err := s.client.LookPresent(t.Context(), z, []Challenge{challenge("www.example.com", digestA)})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if records, err := s.client.Present(t.Context(), z, plan); err != nil || len(records) != 1 {
				t.Errorf("%s: %+v, %v", code, records, err)
			}
		}
	}
}

// Of two zones of one name the active one is meant, or the one that zone_id names.
func TestCloudflareZonesOfOneName(t *testing.T) {
	const other = "0123456789abcdef0123456789abcdef"
	list := func(statuses ...string) func(r *http.Request, status int, body string) (int, string) {
		return func(r *http.Request, status int, body string) (int, string) {
			if !strings.HasSuffix(r.URL.Path, "/zones") {
				return status, body
			}
			at := strings.Index(body, `"id":"`) + len(`"id":"`)
			own := body[at : at+32]
			zones := []string{}
			for i, st := range statuses {
				zones = append(zones, fmt.Sprintf(`{"id":%q,"name":"example.com","status":%q}`, []string{other, own}[i%2], st))
			}
			return status, `{"success":true,"errors":[],"result":[` + strings.Join(zones, ",") + `],"result_info":{"page":1,"per_page":20,"total_count":2}}`
		}
	}
	for _, tt := range []struct {
		name, id string
		statuses []string
		kind     problem.Kind
		want     string
	}{
		{"moved and active", "", []string{"moved", "active"}, "", ""},
		{"both active, named", "own", []string{"active", "active"}, "", ""},
		{"pending, named", "own", []string{"active", "pending"}, "", ""},
		{"both active", "", []string{"active", "active"}, problem.Conflict, other + " (active), "},
		{"none active", "", []string{"moved", "pending"}, problem.Conflict, other + " (moved), "},
		{"another's id", strings.Repeat("f", 32), []string{"moved", "active"}, problem.NotFound, "shows no zone example.com with the id ffff"},
		{"the only one, pending", "", []string{"active"}, problem.NotFound, "7003"}, // its id is not the world's: it was taken
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, dnstest.Options{})
			z := zoneAt("cloudflare")
			z.ZoneID = tt.id
			if tt.id == "own" {
				z.ZoneID = dnstest.CloudflareZoneID("example.com")
			}
			s.client.opt.HTTP = changed{s.client.opt.HTTP, list(tt.statuses...)}
			_, err := s.present(z, []Challenge{challenge("www.example.com", digestA)})
			switch e := problem.From(err); {
			case tt.kind == "" && err != nil:
				t.Errorf("%+v", e)
			case tt.kind != "" && (err == nil || e.Kind != tt.kind || !strings.Contains(e.Error(), tt.want)):
				t.Errorf("%+v", e)
			}
		})
	}
}

// doctor says that port 53 is blocked, once, and which server is unfit; in another mode
// the servers do not matter.
func TestDoctorTriesPropagation(t *testing.T) {
	s := newScript(t, dnstest.Options{})
	look := func(mode string) []bind.Finding {
		b := &binding{settings: &Settings{Resolvers: []string{dnstest.ResolverHost}, QueryTimeout: 100 * time.Millisecond}}
		z := zoneAt("cloudflare")
		z.Propagation.Mode = mode
		return b.examine(&bind.Call{
			Context: t.Context(), Clock: s.clock, Log: slog.New(slog.DiscardHandler), Network: s.net, Secrets: secret.Map(s.secrets), Redactor: &secret.Redactor{},
		}, &z, nil)
	}
	if got := look(""); len(got) != 2 || got[0].Error != nil || got[1].Error != nil || got[1].What != "propagation of example.com" || got[1].Note != "all of its name servers answer" {
		t.Errorf("%+v", got)
	}
	s.fault(faults.Fault{Call: "dns.query.ns2", Kind: faults.Timeout, Times: -1})
	if got := look(""); len(got) != 2 || got[0].Error != nil || got[1].Error == nil || got[1].Error.Message != "ns2.example.com does not answer: no answer in time" {
		t.Errorf("%+v", got)
	}
	s.fault(faults.Fault{Call: "dns.query.ns1", Kind: faults.Timeout, Times: -1})
	if got := look(""); len(got) != 1 || got[0].Error == nil || !strings.Contains(got[0].Error.Message, "port 53 to ns1.example.com, ns2.example.com is blocked from here") || !strings.Contains(got[0].Error.Hint, "doh") {
		t.Errorf("%+v", got)
	}
	for _, mode := range []string{modeResolvers, modeDoH, modeWait} {
		if got := look(mode); len(got) != 2 || got[0].Error != nil || got[1].Error != nil {
			t.Errorf("%s: %+v", mode, got)
		}
	}
}

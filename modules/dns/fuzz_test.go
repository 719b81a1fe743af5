package dns

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	mdns "github.com/miekg/dns"

	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

func FuzzCleanName(f *testing.F) {
	for _, s := range []string{"example.com", "_acme-challenge.WWW.example.com.", "*.example.com", "a..b", "", ".", "-a.b", strings.Repeat("a.", 127), `a\.b`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		clean, err := cleanName(s)
		if err != nil {
			return
		}
		again, err := cleanName(clean)
		if err != nil || again != clean {
			t.Fatalf("%q, %q: %v", clean, again, err)
		}
		if _, ok := mdns.IsDomainName(fqdn(clean)); !ok {
			t.Fatalf("%q is not a name to the DNS library", clean)
		}
	})
}

// What a challenge may hold is quoted without escapes, and reads back.
func FuzzText(f *testing.F) {
	for _, s := range []string{"abc", `a"b`, `a\b`, "a b", "\x7f", "ü", `"a" "b"`, `\123`, `"\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, base := range []int{8, 10} {
			unescape(s, base)
			_, _ = joinQuoted(s, base)
			if !isText(s) {
				continue
			}
			if got, err := joinQuoted(quoted(s), base); err != nil || got != s {
				t.Fatalf("%q came back as %q, %v", s, got, err)
			}
		}
		if isText(s) {
			rr, err := mdns.NewRR("a. 60 IN TXT " + quoted(s))
			if err != nil {
				t.Fatal(err)
			}
			if got := fromRR("a", rr).Value; got != s {
				t.Fatalf("%q came out of the DNS library as %q", s, got)
			}
		}
	})
}

func TestJoinQuoted(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`"a" "b"`, "ab"}, {`"a\"b"`, `a"b`}, {`"\303\274"`, "ü"}, {`""`, ""}, {`a`, "error"}, {`"a`, "error"}, {`"a\"`, "error"}, {``, "error"},
	} {
		got, err := joinQuoted(tt.in, 8)
		if err != nil {
			got = "error"
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzServerWords(f *testing.F) {
	for _, s := range []string{
		`{"errors":[{"code":1004,"message":"m","error_chain":[{"code":9005,"message":"n"}]}]}`, `{"message":"x"}`, `{"errors":[]}`,
		`<ErrorResponse><Error><Code>C</Code><Message>m</Message></Error></ErrorResponse>`, `<html><title>502 &amp; more</title>`, "", "\xff<", `<a`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		words, _ := serverWords(b)
		if !strings.Contains(string(b), `"`) && !utf8.ValidString(words) {
			t.Fatalf("%q", words)
		}
	})
}

func TestServerWords(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		auth     bool
	}{
		{`{"errors":[{"code":1004,"message":"DNS Validation Error","error_chain":[{"code":9005,"message":"Content"}]}]}`, "DNS Validation Error (1004); Content (9005)", false},
		{`{"errors":[{"code":10000,"message":"Authentication error"}]}`, "Authentication error (10000)", true},
		{`{"id":"x","message":"slow down"}`, "slow down", false},
		{`<?xml version="1.0"?><ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`, "AccessDenied: no", false},
		{`<InvalidChangeBatch><Messages><Message>a</Message><Message>b</Message></Messages></InvalidChangeBatch>`, "a; b", false},
		{"<html><body>a &lt; b<p>c</body></html>", "a < b c", false},
		{"plain\n text", "plain text", false},
	} {
		if got, auth := serverWords([]byte(tt.in)); got != tt.want || auth != tt.auth {
			t.Errorf("%s: got %q, %v", tt.in, got, auth)
		}
	}
}

// quoted writes text that isText allows as a string in quotes.
func quoted(text string) string { return `"` + text + `"` }

// wire is a connection on which each message is answered with reply.
type wire struct {
	net.Conn
	stream bool
	reply  func(q []byte) []byte
	mu     sync.Mutex
	left   []byte
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stream {
		w.left = w.reply(b)
		return len(b), nil
	}
	a := w.reply(b[2:])
	w.left = append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)
	return len(b), nil
}

func (w *wire) Read(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, w.left)
	w.left = w.left[n:]
	if !w.stream {
		w.left = nil
	}
	return n, nil
}

func (w *wire) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (w *wire) Close() error                     { return nil }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// wirePacket is a wire that counts as UDP.
type wirePacket struct{ *wire }

func (wirePacket) ReadFrom([]byte) (int, net.Addr, error)      { return 0, nil, io.EOF }
func (w wirePacket) WriteTo(b []byte, _ net.Addr) (int, error) { return w.Write(b) }

// Whatever DNS servers answer, it is an answer or a problem that is none of ours, and
// an update that was sent may have happened unless the server refuses it.
func FuzzDNSAnswers(f *testing.F) {
	pack := func(rrs ...string) []byte {
		m := new(mdns.Msg).SetQuestion("example.com.", mdns.TypeNS)
		m.Response, m.Authoritative = true, true
		for _, rr := range rrs {
			parsed, err := mdns.NewRR(rr)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer, m.Ns = append(m.Answer, parsed), append(m.Ns, parsed)
		}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(pack("example.com. 60 IN NS ns1.example.com."), true)
	f.Add(pack("example.com. 60 IN NS ns1.example.com.", "_acme-challenge.www.example.com. 60 IN CNAME _acme-challenge.www.example.com."), true)
	f.Add(pack("_acme-challenge.www.example.com. 60 IN NS a.", "example.com. 60 IN NS ."), true)
	f.Add(pack("www.example.com. 60 IN DNAME example.com.", `_acme-challenge.www.example.com. 60 IN TXT "v"`, "example.com. 60 IN NS ns1.example.com."), true)
	f.Add([]byte{0, 0, 0x84, 0}, false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, answer []byte, askedAgain bool) {
		reply := func(q []byte) []byte {
			a := slices.Clone(answer)
			m, got := new(mdns.Msg), new(mdns.Msg)
			if askedAgain && m.Unpack(q) == nil && got.Unpack(a) == nil { // to the question, but for the rest
				got.Id, got.Question, got.Response = m.Id, m.Question, true
				if packed, err := got.Pack(); err == nil {
					return packed
				}
			}
			if len(a) >= 2 {
				copy(a, q[:2])
			}
			return a
		}
		c := New(Options{
			Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
				w := &wire{reply: reply, stream: network == "tcp"}
				if network == "tcp" {
					return w, nil
				}
				return wirePacket{w}, nil
			},
			HTTP: answering{200, answer}, Resolvers: []string{"192.0.2.1"}, QueryTimeout: time.Second, RequestTimeout: time.Second,
			Secret: func(context.Context, secret.Handle) (string, error) { return "a2V5", nil },
		})
		z := zoneAt("rfc2136")
		want := []Challenge{challenge("www.example.com", digestA)}
		_, _, err := c.LookPresent(t.Context(), z, want)
		_, _, perr := c.Propagated(t.Context(), z, want, Propagation{})
		z.Name = ""
		_, cerr := c.Check(t.Context(), z, []string{"www.example.com"})
		z.Propagation.Mode = modeDoH
		_, _, derr := c.Propagated(t.Context(), z, want, Propagation{})
		for _, err := range []error{err, perr, cerr, derr} {
			if e := problem.From(err); e != nil && e.Kind == problem.Internal {
				t.Errorf("%q: %+v", answer, e)
			}
		}
		_, err = c.Present(t.Context(), z, &Plan{Missing: []Record{{Zone: "example.com", Name: "_acme-challenge.example.com", Type: "TXT", Value: digestA, TTL: time.Minute}}})
		got := new(mdns.Msg)
		refuses := got.Unpack(reply(make([]byte, 12))) == nil && got.Rcode != mdns.RcodeSuccess
		if e := problem.From(err); e == nil || !refuses && e.Happened() != problem.Unknown {
			t.Errorf("update, %q: %+v", answer, e)
		}
	})
}

package dns

import (
	"strings"
	"testing"
	"unicode/utf8"

	mdns "github.com/miekg/dns"
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
			t.Fatalf("%q is no name to the DNS library", clean)
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

package dnstest

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// What a text is written as reads back as that text, here and in the DNS library.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "token", `q"uo\te`, "\x00ü\xff", strings.Repeat("x", 300), `\123`, `a" "b`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 4000 {
			return
		}
		parts, err := quotedStrings(quoteText(s))
		if err != nil || strings.Join(parts, "") != s {
			t.Fatalf("%q: %q, %v", s, parts, err)
		}
		octal, err := quotedStrings(r53Octal(quoteTextAs(s, `\%03o`)))
		if err != nil || strings.Join(octal, "") != s {
			t.Fatalf("octal %q: %q, %v", s, octal, err)
		}
		rr, err := dns.NewRR("a. 60 IN TXT " + quoteText(s))
		if err != nil {
			t.Fatal(err)
		}
		if got := recordOf(rr).Value; got != s {
			t.Fatalf("%q came out of the DNS library as %q", s, got)
		}
	})
}

func FuzzQuotedStrings(f *testing.F) {
	f.Add(`"a" "b"`)
	f.Add(`"a`)
	f.Add(`"\`)
	f.Fuzz(func(t *testing.T, s string) {
		if parts, err := quotedStrings(s); err == nil && len(parts) == 0 {
			t.Fatal("no error and no strings")
		}
		r53Octal(s)
	})
}

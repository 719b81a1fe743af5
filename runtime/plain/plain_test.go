package plain_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"moonseal/runtime/plain"
)

func TestEscapes(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"plain, größer: 証明書 … \\x1b": "plain, größer: 証明書 … \\x1b",
		"\x1b[2J\x1b]0;x\a":          `\x1b[2J\x1b]0;x\a`,
		"a\r\nhint: b\tc":            `a\r\nhint: b\tc`,
		"\x00\x7f":                   `\x00\x7f`,
		"\u0085\u009b31m":            `\u0085\u009b31m`,
		"8 bits: \x9b31m":            `8 bits: \x9b31m`,
		"\u202egro.elpmaxe\u2066":    `\u202egro.elpmaxe\u2066`,
		"\u061c\u200e\u200f":         `\u061c\u200e\u200f`,
		"a\u2028b\u2029c":            `a\u2028b\u2029c`,
		"a true \ufffd stays \xff":   "a true \ufffd stays \\xff",
	} {
		if got := plain.Line(in); got != want {
			t.Errorf("Line(%q): got %q, want %q", in, got, want)
		}
	}
	if got := plain.Text("a\n\tb\r\n\x1b"); got != "a\n\tb\\r\n\\x1b" {
		t.Errorf("got %q", got)
	}
}

func TestFprintf(t *testing.T) {
	type status string
	for want, args := range map[string][]any{
		`a\nb|`:              {"%s|", "a\nb"},
		`a\x1bb  |`:          {"%-8s|", "a\x1bb"},
		`down\r|`:            {"%v|", errors.New("down\r")},
		`x\ty 07 1.50 2m0s|`: {"%s %02d %.2f %s|", status("x\ty"), 7, 1.5, 2 * time.Minute},
		`"a\nb" [a\nb]|`:     {"%q %v|", "a\nb", []string{"a\nb"}},
		"%!s(<nil>)\n\n|":    {"%s\n\n|", nil},
	} {
		var b strings.Builder
		format, _ := args[0].(string)
		if _, err := plain.Fprintf(&b, format, args[1:]...); err != nil || b.String() != want {
			t.Errorf("%q: got %q, %v, want %q", args, b.String(), err, want)
		}
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 1, os.ErrClosed }

func TestWriter(t *testing.T) {
	var b strings.Builder
	w := plain.NewWriter(&b)
	n, err := fmt.Fprint(w, "a\n\x1b\tb")
	if err != nil || n != 5 || b.String() != "a\n\\x1b\tb" {
		t.Errorf("%d, %v, %q", n, err, b.String())
	}
	if n, err := fmt.Fprint(plain.NewWriter(failing{}), "\x1b"); n != 1 || !errors.Is(err, os.ErrClosed) {
		t.Errorf("%d, %v", n, err)
	}
	if plain.Raw(w) != &b || plain.Raw(&b) != &b {
		t.Error("raw is another writer")
	}
}

func FuzzLine(f *testing.F) {
	f.Add("\x1b[31m\u202e\x9b\n")
	f.Fuzz(func(t *testing.T, s string) {
		got := plain.Line(s)
		for _, r := range got {
			if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
				t.Errorf("%q has %U", got, r)
			}
		}
		if plain.Line(got) != got {
			t.Errorf("%q is escaped again", got)
		}
	})
}

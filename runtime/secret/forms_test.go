package secret_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strings"
	"testing"

	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// How a peer may send back what it was sent, by accident or not.
func TestEchoesAreMasked(t *testing.T) {
	const password = `h+nter2 "&/p@ss\word`
	std, raw := base64.StdEncoding, base64.RawURLEncoding
	hexed := func(form, s string) string {
		var b strings.Builder
		for _, c := range []byte(s) {
			fmt.Fprintf(&b, form, c)
		}
		return b.String()
	}
	for name, echo := range map[string]string{
		"as it is":                    password,
		"reversed":                    reversed(password),
		"Basic":                       "Basic " + std.EncodeToString([]byte("administrator:"+password)),
		"Basic of another user":       "Basic " + std.EncodeToString([]byte("someone:"+password)),
		"Basic reversed":              reversed(std.EncodeToString([]byte("administrator:" + password))),
		"base64":                      std.EncodeToString([]byte(password)),
		"base64url":                   raw.EncodeToString([]byte(password)),
		"base64 of a whole header":    std.EncodeToString([]byte("Authorization: " + password + "\r\nHost: a")),
		"base64 of one byte more":     std.EncodeToString([]byte("x" + password)),
		"base64 of two bytes more":    raw.EncodeToString([]byte("xy" + password + "z")),
		"hex":                         hex.EncodeToString([]byte(password)),
		"HEX":                         strings.ToUpper(hex.EncodeToString([]byte(password))),
		"a query":                     url.QueryEscape(password),
		"a path":                      url.PathEscape(password),
		"percent, every byte":         hexed("%%%02x", password),
		"PERCENT, every byte":         hexed("%%%02X", password),
		"percent, some bytes":         strings.NewReplacer("@", "%40", "p", "%70").Replace(password),
		"percent twice":               url.PathEscape(url.PathEscape(password)),
		"HTML":                        html.EscapeString(password),
		"HTML by numbers":             hexed("&#%d;", password),
		"HTML by hexadecimal numbers": hexed("&#x%x;", password),
		"JSON":                        strings.ReplaceAll(strings.ReplaceAll(password, `\`, `\\`), `"`, `\"`),
		"JSON by numbers":             hexed(`\u%04x`, password),
		"Go":                          hexed(`\x%02x`, password),
		"percent in JSON":             strings.ReplaceAll(hexed("%%%02x", password), "%", `\u0025`),
		"with a newline":              password + "\n",
	} {
		r := &secret.Redactor{}
		r.LearnPair("administrator", password+"\r\n") // as a file has it
		e := r.Problem(&problem.Error{Message: "answered 400", Server: "you sent <" + echo + "> to us", Tracking: echo, Target: echo, Hint: echo})
		for _, text := range []string{e.Server, e.Tracking, e.Target, e.Hint} {
			if !strings.Contains(text, "[secret]") || strings.Contains(text, strings.TrimSpace(echo)) {
				t.Errorf("%s: %q is left of %q", name, text, echo)
			}
		}
		if !strings.HasPrefix(e.Server, "you sent <") || !strings.HasSuffix(e.Server, "> to us") {
			t.Errorf("%s: %q", name, e.Server)
		}
	}
}

// What only looks like an escape or a secret is left as it is.
func TestOtherWordsAreLeft(t *testing.T) {
	r := &secret.Redactor{}
	r.LearnPair("admin", "hunter2-hunter2")
	for _, text := range []string{
		"", "100% of 50%", "%", "%4", "%zz", `\`, `\u12`, "&", "&amp", "&nosuch;", "a&b;c", "OS administrator account of admin", "hunter2", "aHVudGVy",
	} {
		if got := r.Redact(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func reversed(s string) string {
	runes := []rune(s)
	slices.Reverse(runes)
	return string(runes)
}

func FuzzRedact(f *testing.F) {
	f.Add("hunter2-hunter2", "Authorization: Basic ", " after")
	f.Add(`%41\u0041&amp;`, "<", ">")
	f.Add("[secret]", "[secret", "]")
	f.Add("\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8", "#", ";")
	f.Fuzz(func(t *testing.T, value, before, after string) {
		if len(value) < 8 || strings.TrimSpace(value) != value || strings.ContainsAny(value, "[]") {
			return // short ones are not masked, and those with brackets may be made of two masks
		}
		if strings.ContainsAny(before+after, `%&\`) {
			return // half an escape before a value makes it another: who forwards it can
		}
		r := &secret.Redactor{}
		r.Learn(value)
		for _, echo := range []string{value, url.QueryEscape(value), html.EscapeString(value), base64.StdEncoding.EncodeToString([]byte(before + value + after)), hex.EncodeToString([]byte(value))} {
			got := r.Redact(before + echo + after)
			if strings.Contains(got, value) || strings.Contains(got, echo) {
				t.Errorf("%q of %q is left in %q", echo, value, got)
			}
		}
	})
}

package secret

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// formsOf returns the forms of a value that have one spelling.
func formsOf(value string) []string {
	quoted, _ := json.Marshal(value) // never fails for a string
	digits := hex.EncodeToString([]byte(value))
	forms := []string{
		value, url.QueryEscape(value), url.PathEscape(value), strings.Trim(string(quoted), `"`), digits, strings.ToUpper(digits),
		base64.StdEncoding.EncodeToString([]byte(value)), base64.URLEncoding.EncodeToString([]byte(value)),
	}
	for _, form := range slices.Clone(forms) {
		forms = append(forms, reversed(form))
	}
	return forms
}

func longestFirst(list []string) []string {
	slices.Sort(list)
	list = slices.Compact(list)
	slices.SortStableFunc(list, func(a, b string) int { return len(b) - len(a) })
	return list
}

func reversed(s string) string {
	runes := []rune(s)
	slices.Reverse(runes)
	return string(runes)
}

// minEncoded is the length of the shortest part of a base64 text that is searched for: a
// shorter one would be found in keys and certificates.
const minEncoded = 8

// base64Of returns the characters that a value has in the base64 of any text around
// it: there are three, by the number of bytes before it, in two alphabets.
func base64Of(value string) []string {
	var out []string
	for before := range 3 {
		text := append(make([]byte, before), value...)
		first, end := (8*before+5)/6, 8*len(text)/6
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			if core := enc.EncodeToString(text)[first:end]; len(core) >= minEncoded {
				out = append(out, core, reversed(core))
			}
		}
	}
	return out
}

// maskRuns masks each base64 text that contains core: what surrounds it would reveal the
// first and the last bits of the value.
func maskRuns(s, core string) string {
	for {
		at := strings.Index(s, core)
		if at < 0 {
			return s
		}
		begin, end := at, at+len(core)
		for begin > 0 && isBase64(s[begin-1]) {
			begin--
		}
		for end < len(s) && isBase64(s[end]) {
			end++
		}
		s = s[:begin] + mask + s[end:]
	}
}

func isBase64(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("+/-_=", c) >= 0
}

// allMarks are what escapes begin with.
const allMarks = `%&\`

// deepest is how many escapes within each other are undone.
const deepest = 3

// maskEscaped masks values that are escaped, in part or as a whole, one way or
// several: %40, &#64; &commat; \u0040 \x40 \@ and mixtures of them.
func maskEscaped(s string, values []string) string {
	if len(values) == 0 || !strings.ContainsAny(s, allMarks) {
		return s
	}
	var spans []span
	for _, marks := range []string{"%", "&", `\`, allMarks} { // a value may have marks of its own
		text := newEscaped(s)
		for n := 0; n < deepest && text.unescape(marks); n++ {
			for _, v := range values {
				spans = text.find(v, spans)
			}
		}
	}
	return maskSpans(s, spans)
}

// plainForms returns a value, and what is left of it when the escapes of the text around
// it are undone: it may have a backslash or a percent sign of its own.
func plainForms(value string) []string {
	out := []string{value}
	for text := newEscaped(value); len(out) <= deepest && text.unescape(allMarks) && len(text.plain) >= minKnown; {
		out = append(out, text.plain)
	}
	return out
}

// span is a part of a text.
type span struct{ begin, end int }

func maskSpans(s string, spans []span) string {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Or(a.begin-b.begin, b.end-a.end) })
	var out strings.Builder
	done := 0
	for _, sp := range spans {
		if sp.begin >= done {
			out.WriteString(s[done:sp.begin] + mask)
		}
		done = max(done, sp.end)
	}
	out.WriteString(s[done:])
	return out.String()
}

// escaped is the plain form of a text, and where in the text each of its bytes begins.
type escaped struct {
	plain string
	from  []int // one more than plain: the text's end
}

func newEscaped(s string) *escaped {
	e := &escaped{plain: s, from: make([]int, len(s)+1)}
	for i := range e.from {
		e.from[i] = i
	}
	return e
}

// unescape undoes one layer of the escapes that begin with one of marks; false if
// there is none.
func (e *escaped) unescape(marks string) bool {
	plain, from := make([]byte, 0, len(e.plain)), make([]int, 0, len(e.from))
	for i := 0; i < len(e.plain); {
		char, n := e.plain[i:i+1], 1
		if strings.IndexByte(marks, e.plain[i]) >= 0 {
			char, n = unescaped(e.plain[i:])
		}
		for range len(char) {
			from = append(from, e.from[i])
		}
		plain, i = append(plain, char...), i+n
	}
	changed := len(plain) < len(e.plain)
	from = append(from, e.from[len(e.plain)])
	e.plain, e.from = string(plain), from
	return changed
}

// find adds where value is in the text.
func (e *escaped) find(value string, spans []span) []span {
	for at := 0; ; {
		next := strings.Index(e.plain[at:], value)
		if next < 0 {
			return spans
		}
		at += next
		spans = append(spans, span{e.from[at], e.from[at+len(value)]})
		at += len(value)
	}
}

// unescaped returns the first character of s, its escape undone, and how many bytes
// of s it has.
func unescaped(s string) (string, int) {
	switch s[0] {
	case '%':
		if char, n := byDigits(s[1:]); n > 0 {
			return char, n + 1
		}
	case '&':
		const longest = 12
		if end := strings.IndexByte(s[:min(len(s), longest)], ';'); end > 0 {
			if char := html.UnescapeString(s[:end+1]); char != s[:end+1] {
				return char, end + 1
			}
		}
	case '\\':
		return afterBackslash(s)
	}
	return s[:1], 1
}

func afterBackslash(s string) (string, int) {
	if len(s) < 2 {
		return s, len(s)
	}
	switch s[1] {
	case 'x':
		if char, n := byDigits(s[2:]); n > 0 {
			return char, n + 2
		}
	case 'u':
		if len(s) >= 6 {
			if n, err := strconv.ParseUint(s[2:6], 16, 16); err == nil {
				return string(rune(n)), 6
			}
		}
	case 'n':
		return "\n", 2
	case 't':
		return "\t", 2
	case 'r':
		return "\r", 2
	}
	return s[1:2], 2
}

// byDigits returns the byte that two hexadecimal digits encode.
func byDigits(s string) (string, int) {
	const digits = 2
	if len(s) < digits {
		return "", 0
	}
	char, err := hex.DecodeString(s[:digits])
	if err != nil {
		return "", 0
	}
	return string(char), digits
}

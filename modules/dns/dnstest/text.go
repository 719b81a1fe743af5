package dnstest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// quoteText writes a TXT record's text as in a zone file (RFC 1035 section 5.1),
// in strings of at most 255 bytes.
func quoteText(text string) string { return quoteTextAs(text, `\%03d`) }

// quoteTextAs writes bytes that are not printable ASCII by format.
func quoteTextAs(text, format string) string {
	var b strings.Builder
	for i := 0; i == 0 || i < len(text); i += 255 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteByte('"')
		for _, c := range []byte(text[i:min(i+255, len(text))]) {
			switch {
			case c == '"' || c == '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c < ' ' || c > '~':
				fmt.Fprintf(&b, format, c)
			default:
				b.WriteByte(c)
			}
		}
		b.WriteByte('"')
	}
	return b.String()
}

// unquoteText is the inverse for one string without its quotes.
func unquoteText(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}

var errQuotes = errors.New("value should be enclosed in quotation marks")

// quotedStrings reads one or more strings in quotes, apart by spaces, each of at
// most 255 bytes.
func quotedStrings(value string) ([]string, error) {
	var out []string
	rest := strings.TrimSpace(value)
	for rest != "" {
		if rest[0] != '"' {
			return nil, errQuotes
		}
		end := closingQuote(rest)
		if end < 0 {
			return nil, errQuotes
		}
		part := unquoteText(rest[1:end])
		if len(part) > 255 {
			return nil, errors.New("value is too long: a string has at most 255 characters")
		}
		out, rest = append(out, part), strings.TrimSpace(rest[end+1:])
	}
	if out == nil {
		return nil, errQuotes
	}
	return out, nil
}

// closingQuote returns the index of the quote that ends the string at the start of s; -1
// if there is none.
func closingQuote(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// r53Octal turns Route 53's octal escapes into the decimal ones of zone files.
func r53Octal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				fmt.Fprintf(&b, `\%03d`, n)
				i += 3
				continue
			}
		}
		b.WriteString(s[i : i+2])
		i++
	}
	return b.String()
}

package sandbox

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"moonseal/runtime/problem"
)

// readable refuses a text in an encoding that is not UTF-8, and one with characters
// that word processors put in place of those of a program.
func readable(name, source string) error {
	refused := func(message, hint string) error {
		return &problem.Error{Kind: problem.Script, Message: message, Hint: hint, Place: &problem.Place{File: name}}
	}
	switch {
	case strings.HasPrefix(source, "\xff\xfe"), strings.HasPrefix(source, "\xfe\xff"), strings.IndexByte(source[:min(len(source), 64)], 0) >= 0:
		return refused("the script is not UTF-8: it looks like UTF-16", "save it as UTF-8 without a byte order mark")
	case strings.HasPrefix(source, "\xef\xbb\xbf"):
		return refused("the script begins with a byte order mark", "save it as UTF-8 without a byte order mark")
	}
	if isASCII(source) {
		return nil
	}
	for _, t := range tokensOf(source) {
		if t.text[0] < utf8.RuneSelf {
			continue
		}
		line := Line(source, t.line)
		r, _ := utf8.DecodeRuneInString(line[min(len(line), t.column-1):])
		if what, straight := typographic(r); what != "" {
			e := syntaxError(name, source, t.line, t.column, fmt.Sprintf("%s outside of a string", what))
			e.Hint = "write " + straight + " in its place"
			return e
		}
	}
	return nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// typographic names a character that a word processor or a web page puts in place of
// another, and that other one; "" for any other character.
func typographic(r rune) (what, straight string) {
	switch r {
	case '\u201c', '\u201d', '\u201e', '\u00ab', '\u00bb':
		return fmt.Sprintf("typographic quote %c", r), `"`
	case '\u2018', '\u2019', '\u201a':
		return fmt.Sprintf("typographic quote %c", r), "'"
	case '\u2013', '\u2014', '\u2212':
		return fmt.Sprintf("dash %c", r), "-"
	case '\u2026':
		return "ellipsis …", "..."
	case '\u00a0', '\u202f', '\u2007':
		return "no-break space", "a space"
	case '\u200b', '\ufeff', '\u2060':
		return "invisible character", "nothing"
	}
	return "", ""
}

// Package plain makes foreign text safe to show. The words of nodes, CAs, proxies and
// scripts may hold escape sequences, line breaks and bidi controls: shown as they are,
// these rewrite the terminal, forge a line of a log or reverse a name. The example shows
// how it is used.
//
// Text is escaped once, at the edge: the journal and --json have it unescaped.
package plain

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line returns s as a part of one line: controls (C0, DEL, C1), bidi controls, line
// and paragraph separators, and bytes that are not UTF-8 are escaped as Go does.
func Line(s string) string { return escape(s, "") }

// Text is [Line], but keeps line breaks and tabs.
func Text(s string) string { return escape(s, "\n\t") }

func escape(s, keep string) string {
	first := strings.IndexFunc(s, func(r rune) bool { return unsafe(r) && !strings.ContainsRune(keep, r) })
	if first < 0 {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:first])
	for i := first; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		part := s[i : i+size]
		i += size
		if r == utf8.RuneError && size == 1 || r != utf8.RuneError && unsafe(r) && !strings.ContainsRune(keep, r) {
			quoted := strconv.QuoteToASCII(part)
			part = quoted[1 : len(quoted)-1]
		}
		b.WriteString(part)
	}
	return b.String()
}

// unsafe reports whether a rune is more than a mark on the screen. A byte that is not
// UTF-8 reads as RuneError; on a terminal of 8 bits it may be a C1 control.
func unsafe(r rune) bool {
	return r == utf8.RuneError || unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

// Fprintf is [fmt.Fprintf], but escapes each argument as [Line] does: only the format can
// break lines.
func Fprintf(w io.Writer, format string, args ...any) (int, error) {
	safe := make([]any, len(args))
	for i, arg := range args {
		safe[i] = value{arg}
	}
	return fmt.Fprintf(w, format, safe...)
}

// value formats as what it holds, escaped.
type value struct{ v any }

// Format implements [fmt.Formatter]. Text is escaped before it is padded.
func (v value) Format(f fmt.State, verb rune) {
	if verb == 's' || verb == 'v' && !f.Flag('+') && !f.Flag('#') {
		_, _ = fmt.Fprintf(f, fmt.FormatString(f, 's'), Line(fmt.Sprintf("%"+string(verb), v.v)))
		return
	}
	_, _ = io.WriteString(f, Line(fmt.Sprintf(fmt.FormatString(f, verb), v.v)))
}

// Writer escapes what is written to it as [Text] does. Each write must hold complete
// characters.
type Writer struct{ w io.Writer }

// NewWriter returns a Writer that writes to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w} }

// Write implements [io.Writer].
func (w *Writer) Write(p []byte) (int, error) {
	text := string(p)
	safe := Text(text)
	n, err := io.WriteString(w.w, safe)
	if safe == text || err != nil {
		return min(n, len(p)), err
	}
	return len(p), nil
}

// Raw returns the writer below a Writer, and any other writer as it is: for JSON, which
// escapes by itself, and for a program's own escape sequences.
func Raw(w io.Writer) io.Writer {
	if p, ok := w.(*Writer); ok {
		return p.w
	}
	return w
}

package sandbox

import (
	"fmt"
	"strings"
)

// Limits of a script's shape.
const (
	maxNesting   = 200     // brackets and blocks inside one another, as in the reference implementation
	maxOperators = 2000    // in one expression: the parser's tree is as deep
	maxWork      = 1 << 28 // different names and literals times their occurrences: what the compiler compares
)

// scanner reads a script's tokens, well enough to count them: it knows strings,
// comments and brackets, but no grammar.
type scanner struct {
	text      string
	pos, line int

	depth     int
	operators int
	ended     bool // the last token may end an expression
	constants map[string]struct{}
	uses      int
}

// scan returns the first line where the script is too deep or too large for the
// parser, and why; "" if it is neither. Text that is not Lua is the parser's
// business.
func scan(text string) (line int, message string) {
	s := &scanner{text: text, line: 1, constants: map[string]struct{}{}}
	for s.pos < len(s.text) {
		s.token()
		switch {
		case s.depth > maxNesting:
			return s.line, fmt.Sprintf("nested too deep: %d levels are the most", maxNesting)
		case s.operators > maxOperators:
			return s.line, fmt.Sprintf("an expression of more than %d operators", maxOperators)
		case len(s.constants)*s.uses > maxWork:
			return s.line, "too many different names, numbers and texts in one script"
		}
	}
	return 0, ""
}

func (s *scanner) token() {
	rest := s.text[s.pos:]
	switch c := rest[0]; {
	case c == '\n':
		s.line++
		s.pos++
	case c == ' ' || c == '\t' || c == '\r':
		s.pos++
	case strings.HasPrefix(rest, "--"):
		s.comment()
	case c == '"' || c == '\'':
		s.constant(s.short(c))
	case c == '[' && longLevel(rest) >= 0:
		s.constant(s.long(longLevel(rest)))
	case c == '_' || letter(c):
		s.word(s.takeWhile(func(c byte) bool { return c == '_' || letter(c) || digit(c) }))
	case digit(c):
		s.constant(s.takeWhile(func(c byte) bool { return c == '.' || letter(c) || digit(c) }))
	default:
		s.pos++
		s.symbol(c)
	}
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func (s *scanner) takeWhile(in func(byte) bool) string {
	start := s.pos
	for s.pos < len(s.text) && in(s.text[s.pos]) {
		s.pos++
	}
	return s.text[start:s.pos]
}

func (s *scanner) comment() {
	s.pos += 2
	if level := longLevel(s.text[s.pos:]); level >= 0 {
		s.long(level)
		return
	}
	s.takeWhile(func(c byte) bool { return c != '\n' })
}

func (s *scanner) short(quote byte) string {
	start := s.pos
	for s.pos++; s.pos < len(s.text) && s.text[s.pos] != quote; s.pos++ {
		switch s.text[s.pos] {
		case '\\':
			s.pos++
			if s.pos < len(s.text) && s.text[s.pos] == '\n' {
				s.line++
			}
		case '\n':
			return "" // unterminated: the parser reports it
		}
	}
	s.pos = min(s.pos+1, len(s.text))
	return s.text[start:s.pos]
}

// longLevel returns the level of the long bracket that text begins with, or -1.
func longLevel(text string) int {
	if !strings.HasPrefix(text, "[") {
		return -1
	}
	inner := strings.TrimLeft(text[1:], "=")
	if !strings.HasPrefix(inner, "[") {
		return -1
	}
	return len(text) - 1 - len(inner)
}

func (s *scanner) long(level int) string {
	start := s.pos
	end := "]" + strings.Repeat("=", level) + "]"
	i := strings.Index(s.text[s.pos:], end)
	if i < 0 {
		s.pos = len(s.text)
	} else {
		s.pos += i + len(end)
	}
	s.line += strings.Count(s.text[start:s.pos], "\n")
	return s.text[start:s.pos]
}

// constant counts a literal or a name.
func (s *scanner) constant(text string) {
	s.constants[text] = struct{}{}
	s.uses++
	if s.ended {
		s.operators++ // f "text" is a call
	}
	s.ended = true
}

func (s *scanner) word(word string) {
	switch word {
	case "function", "do", "then", "repeat":
		s.depth++
		s.reset()
	case "end", "until":
		s.depth--
		s.reset()
		s.ended = word == "end"
	case "elseif":
		s.depth-- // its then opens again
		s.reset()
	case "else", "local", "return", "if", "while", "for", "in", "break", "goto":
		s.reset()
	case "and", "or", "not":
		s.operators++
		s.ended = false
	case "nil", "true", "false":
		s.ended = true
	default:
		if s.ended {
			s.reset() // two names in a row: a new statement
		}
		s.constant(word)
	}
}

func (s *scanner) reset() { s.operators, s.ended = 0, false }

func (s *scanner) symbol(c byte) {
	switch c {
	case '(', '[', '{':
		s.depth++
		s.operators++
		s.ended = false
	case ')', ']', '}':
		s.depth--
		s.ended = true
	case ',', ';', '=':
		s.reset()
	default:
		s.operators++
		s.ended = false
	}
}

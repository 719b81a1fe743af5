package sandbox

import (
	"strconv"
	"strings"

	"moonseal/runtime/problem"
)

// KeyPlace returns the place of a key in the table that a call at place is given,
// as it is in the script's source: of "csr.alt_names[2]" the second element, or
// else the innermost table around it that is written out. It returns place when
// there is none. A name stands for the last table that was assigned to it before.
func KeyPlace(source string, place *problem.Place, key string) *problem.Place {
	path := keyPath(key)
	if place == nil || place.Line < 1 || len(path) == 0 {
		return place
	}
	tokens := tokensOf(source)
	best, depth := tokens.from(place.Line, path)
	if depth == 0 && len(path) > 1 {
		best, depth = tokens.from(place.Line, path[1:]) // the first is a parameter's name
	}
	if depth == 0 {
		return place
	}
	return &problem.Place{File: place.File, Line: best.line, Column: best.column, Source: Line(source, best.line)}
}

// maxCandidates bounds how many tokens of a line are taken for the beginning of a table.
const maxCandidates = 200

// from follows path into the tables that begin on a line or, when there is none, on
// the next.
func (ts tokens) from(line int, path []string) (best token, depth int) {
	candidates := 0
	for i, t := range ts {
		if t.line < line || t.text != "{" && !isWord(t.text) {
			continue
		}
		if t.line > line && (depth > 0 || t.line > line+1) || candidates == maxCandidates {
			break
		}
		candidates++
		if found, n := ts.find(i, path, 0); n > depth {
			best, depth = found, n
		}
	}
	return best, depth
}

// keyPath splits "csr.alt_names[2]" into csr, alt_names, 2.
func keyPath(key string) []string {
	return strings.FieldsFunc(key, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}

// token is a token of a script that the scanner has read, other than a comment.
type token struct {
	text         string
	line, column int // of its first byte
	depth        int // brackets and blocks around what follows
}

type tokens []token

func tokensOf(source string) tokens {
	s := &scanner{text: source, line: 1, constants: map[string]struct{}{}}
	var out tokens
	for s.pos < len(s.text) {
		start, line := s.pos, s.line
		s.token()
		text := source[start:s.pos]
		if strings.TrimSpace(text) == "" || strings.HasPrefix(text, "--") {
			continue
		}
		column := start - strings.LastIndexByte(source[:start], '\n')
		out = append(out, token{text: text, line: line, column: column, depth: s.depth})
	}
	return out
}

// maxNames bounds how many names lead to one another.
const maxNames = 8

// find follows path into the table that begins at token i, or that the name there
// stands for, and returns the token of the innermost key that it found, and how many
// keys that is.
func (ts tokens) find(i int, path []string, names int) (token, int) {
	if i >= len(ts) || len(path) == 0 {
		return token{}, 0
	}
	if ts[i].text != "{" {
		table := ts.assigned(i)
		if table < 0 || names == maxNames {
			return token{}, 0
		}
		return ts.find(table, path, names+1)
	}
	at, value := ts.field(i, path[0])
	if at < 0 {
		return token{}, 0
	}
	inner, n := ts.find(value, path[1:], names)
	if n == 0 {
		return ts[at], 1
	}
	return inner, n + 1
}

// assigned returns the token at which the table begins that was assigned last,
// before token i, to the name there; -1 if there is none.
func (ts tokens) assigned(i int) int {
	if name := ts[i].text; !isWord(name) || i > 0 && (ts[i-1].text == "." || ts[i-1].text == ":") {
		return -1
	}
	for j := i - 3; j >= 0; j-- {
		if ts[j].text == ts[i].text && ts[j+1].text == "=" && ts[j+2].text == "{" && ts[j].depth == ts[j+1].depth {
			return j + 2
		}
	}
	return -1
}

// field returns the tokens at which a key of the table that begins at token i, and
// the key's value, begin; -1 if the table has no such key. A number is an element's.
func (ts tokens) field(i int, key string) (at, value int) {
	inside, n := ts[i].depth, 0
	for j := i + 1; j < len(ts) && ts[j].text != "}"; {
		var name string
		value := j
		switch {
		case isWord(ts[j].text) && ts.is(j+1, "=") && !ts.is(j+2, "="):
			name, value = ts[j].text, j+2
		case ts[j].text == "[" && ts.is(j+2, "]") && ts.is(j+3, "="):
			name, value = strings.Trim(ts[j+1].text, `"'`), j+4
		default:
			n++
			name = strconv.Itoa(n)
		}
		if name == key {
			return j, value
		}
		for j = value; j < len(ts) && ts[j].depth >= inside && (ts[j].depth > inside || ts[j].text != "," && ts[j].text != ";"); {
			j++
		}
		if j == len(ts) || ts[j].depth < inside {
			break
		}
		j++
	}
	return -1, -1
}

func (ts tokens) is(i int, text string) bool { return i < len(ts) && ts[i].text == text }

func isWord(text string) bool { return text != "" && (text[0] == '_' || letter(text[0])) }

package sandbox

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// A matcher tries one Lua 5.1 pattern (reference manual section 5.4.1) against
// one text. Unlike gopher-lua's it spends a budget of steps, looks at the context
// on the way, and knows the frontier %f.
type matcher struct {
	L        *lua.LState
	src, pat string
	captures []capture
	steps    int // spent
	budget   int
	depth    int
}

type capture struct{ start, length int }

const (
	captureOpen     = -1
	capturePosition = -2
	maxCaptures     = 32
	maxMatchDepth   = 2000
	noMatch         = -1
)

func (s *State) matcher(L *lua.LState, src, pat string) *matcher {
	return &matcher{L: L, src: src, pat: pat, budget: s.opts.PatternSteps + 64*len(src)}
}

func (m *matcher) step() {
	m.steps++
	if m.steps > m.budget {
		m.L.RaiseError("the pattern needs too many steps on this text: gave up after %d", m.budget)
	}
	if m.steps%lookEvery == 0 {
		look(m.L)
	}
}

func (m *matcher) fail(message string) { m.L.RaiseError("%s", message) }

// at tries the pattern from position s of the text and returns the end of the
// match, or noMatch.
func (m *matcher) at(s, p int) int {
	m.captures = m.captures[:0]
	return m.match(s, p)
}

func (m *matcher) match(s, p int) int {
	if m.depth++; m.depth > maxMatchDepth {
		m.fail("pattern too complex")
	}
	defer func() { m.depth-- }()
	for {
		m.step()
		if p == len(m.pat) {
			return s
		}
		switch c := m.pat[p]; {
		case c == '(':
			if strings.HasPrefix(m.pat[p+1:], ")") {
				return m.open(s, p+2, capturePosition)
			}
			return m.open(s, p+1, captureOpen)
		case c == ')':
			return m.close(s, p+1)
		case c == '$' && p+1 == len(m.pat):
			if s == len(m.src) {
				return s
			}
			return noMatch
		case c == '%' && p+1 < len(m.pat) && m.pat[p+1] == 'b':
			if s = m.balance(s, p+2); s == noMatch {
				return noMatch
			}
			p += 4
			continue
		case c == '%' && p+1 < len(m.pat) && m.pat[p+1] == 'f':
			end, ok := m.frontier(s, p+2)
			if !ok {
				return noMatch
			}
			p = end
			continue
		case c == '%' && p+1 < len(m.pat) && '0' <= m.pat[p+1] && m.pat[p+1] <= '9':
			if s = m.again(s, m.pat[p+1]); s == noMatch {
				return noMatch
			}
			p += 2
			continue
		}
		end := m.classEnd(p)
		quantifier := byte(0)
		if end < len(m.pat) {
			quantifier = m.pat[end]
		}
		switch quantifier {
		case '?':
			if m.single(s, p, end) {
				if r := m.match(s+1, end+1); r != noMatch {
					return r
				}
			}
			p = end + 1
		case '*':
			return m.most(s, p, end)
		case '+':
			if !m.single(s, p, end) {
				return noMatch
			}
			return m.most(s+1, p, end)
		case '-':
			return m.least(s, p, end)
		default:
			if !m.single(s, p, end) {
				return noMatch
			}
			s, p = s+1, end
		}
	}
}

func (m *matcher) most(s, p, end int) int {
	n := 0
	for m.single(s+n, p, end) {
		m.step()
		n++
	}
	for ; n >= 0; n-- {
		if r := m.match(s+n, end+1); r != noMatch {
			return r
		}
	}
	return noMatch
}

func (m *matcher) least(s, p, end int) int {
	for {
		if r := m.match(s, end+1); r != noMatch {
			return r
		}
		if !m.single(s, p, end) {
			return noMatch
		}
		s++
	}
}

func (m *matcher) open(s, p, kind int) int {
	if len(m.captures) >= maxCaptures {
		m.fail("too many captures in pattern")
	}
	n := len(m.captures)
	m.captures = append(m.captures, capture{s, kind})
	r := m.match(s, p)
	if r == noMatch {
		m.captures = m.captures[:n]
	}
	return r
}

func (m *matcher) close(s, p int) int {
	for i := len(m.captures) - 1; i >= 0; i-- {
		if m.captures[i].length != captureOpen {
			continue
		}
		m.captures[i].length = s - m.captures[i].start
		r := m.match(s, p)
		if r == noMatch {
			m.captures[i].length = captureOpen
		}
		return r
	}
	m.fail("invalid pattern: ) without (")
	return noMatch
}

func (m *matcher) balance(s, p int) int {
	if p+1 >= len(m.pat) {
		m.fail("invalid pattern: %b needs two characters")
	}
	if s >= len(m.src) || m.src[s] != m.pat[p] {
		return noMatch
	}
	open, end, depth := m.pat[p], m.pat[p+1], 1
	for i := s + 1; i < len(m.src); i++ {
		m.step()
		switch c := m.src[i]; c {
		case end:
			if depth--; depth == 0 {
				return i + 1
			}
		case open:
			depth++
		}
	}
	return noMatch
}

// frontier matches between a character outside of the set and one inside of it.
func (m *matcher) frontier(s, p int) (end int, ok bool) {
	if p >= len(m.pat) || m.pat[p] != '[' {
		m.fail("invalid pattern: [ missing after %f")
	}
	end = m.classEnd(p)
	var before, here byte
	if s > 0 {
		before = m.src[s-1]
	}
	if s < len(m.src) {
		here = m.src[s]
	}
	return end, !m.inSet(before, p, end-1) && m.inSet(here, p, end-1)
}

// again matches what an earlier capture matched.
func (m *matcher) again(s int, digit byte) int {
	i := int(digit) - '1'
	if i < 0 || i >= len(m.captures) || m.captures[i].length == captureOpen {
		m.fail("invalid pattern: no capture %" + string(digit))
	}
	c := m.captures[i]
	if c.length == capturePosition || !strings.HasPrefix(m.src[s:], m.src[c.start:c.start+c.length]) {
		return noMatch
	}
	m.steps += c.length
	return s + c.length
}

// classEnd returns the position after the single-character class at p.
func (m *matcher) classEnd(p int) int {
	c := m.pat[p]
	p++
	switch c {
	case '%':
		if p >= len(m.pat) {
			m.fail("invalid pattern: ends with %")
		}
		return p + 1
	case '[':
		if p < len(m.pat) && m.pat[p] == '^' {
			p++
		}
		for first := true; first || p >= len(m.pat) || m.pat[p] != ']'; first = false {
			if p >= len(m.pat) {
				m.fail("invalid pattern: ] missing")
			}
			if m.pat[p] == '%' {
				p++
			}
			p++
			m.steps++
		}
		return p + 1
	}
	return p
}

func (m *matcher) single(s, p, end int) bool {
	if s >= len(m.src) {
		return false
	}
	c := m.src[s]
	switch m.pat[p] {
	case '.':
		return true
	case '%':
		return inClass(c, m.pat[p+1])
	case '[':
		return m.inSet(c, p, end-1)
	}
	return m.pat[p] == c
}

// inSet reports whether c is in the set from p, its [, to end, its ].
func (m *matcher) inSet(c byte, p, end int) bool {
	in := true
	if m.pat[p+1] == '^' {
		in = false
		p++
	}
	for p++; p < end; p++ {
		m.steps++
		switch {
		case m.pat[p] == '%':
			p++
			if inClass(c, m.pat[p]) {
				return in
			}
		case p+2 < end && m.pat[p+1] == '-':
			if m.pat[p] <= c && c <= m.pat[p+2] {
				return in
			}
			p += 2
		case m.pat[p] == c:
			return in
		}
	}
	return !in
}

func inClass(c, class byte) bool {
	var in bool
	lower := class | 0x20
	switch lower {
	case 'a':
		in = letter(c)
	case 'c':
		in = c < 32 || c == 127
	case 'd':
		in = '0' <= c && c <= '9'
	case 'l':
		in = 'a' <= c && c <= 'z'
	case 'p':
		in = 32 < c && c < 127 && !letter(c) && (c < '0' || c > '9')
	case 's':
		in = c == ' ' || '\t' <= c && c <= '\r'
	case 'u':
		in = 'A' <= c && c <= 'Z'
	case 'w':
		in = letter(c) || '0' <= c && c <= '9'
	case 'x':
		in = '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
	case 'z':
		in = c == 0
	default:
		return class == c
	}
	if !letter(class) {
		return class == c
	}
	return in == (class == lower)
}

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

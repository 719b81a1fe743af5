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
	if m.steps%checkEvery == 0 {
		checkContext(m.L)
	}
}

func (m *matcher) fail(message string) { m.L.RaiseError("%s", message) }

// at tries the pattern from position s of the text and returns the end of the
// match, or noMatch.
func (m *matcher) at(s, p int) int {
	m.captures = m.captures[:0]
	return m.match(s, p)
}

// match matches the pattern from p on at position s of the text.
func (m *matcher) match(s, p int) int {
	if m.depth++; m.depth > maxMatchDepth {
		m.fail("pattern too complex")
	}
	defer func() { m.depth-- }()
	for p < len(m.pat) {
		m.step()
		var done bool
		if c := m.pat[p]; c == '(' || c == ')' || c == '$' && p+1 == len(m.pat) {
			return m.bracket(s, p)
		} else if c == '%' && p+1 < len(m.pat) && strings.IndexByte("bf0123456789", m.pat[p+1]) >= 0 {
			s, p = m.escape(s, p+1)
			done = s == noMatch
		} else {
			s, p, done = m.item(s, p)
		}
		if done {
			return s
		}
	}
	return s
}

// bracket matches from a parenthesis on, or the $ at the end.
func (m *matcher) bracket(s, p int) int {
	switch {
	case m.pat[p] == ')':
		return m.close(s, p+1)
	case m.pat[p] == '(' && strings.HasPrefix(m.pat[p+1:], ")"):
		return m.open(s, p+2, capturePosition)
	case m.pat[p] == '(':
		return m.open(s, p+1, captureOpen)
	case s == len(m.src):
		return s
	}
	return noMatch
}

// escape matches %b, %f or %1, whose letter is at p, and returns where text and
// pattern continue.
func (m *matcher) escape(s, p int) (int, int) {
	switch m.pat[p] {
	case 'b':
		return m.balance(s, p+1), p + 3
	case 'f':
		end, ok := m.frontier(s, p+1)
		if !ok {
			s = noMatch
		}
		return s, end
	}
	return m.backreference(s, m.pat[p]), p + 1
}

// item matches one character class with its quantifier. It returns where text
// and pattern continue, or, when done, the end of the whole match.
func (m *matcher) item(s, p int) (_, _ int, done bool) {
	end := m.classEnd(p)
	quantifier := byte(0)
	if end < len(m.pat) {
		quantifier = m.pat[end]
	}
	switch quantifier {
	case '?':
		if m.single(s, p, end) {
			if r := m.match(s+1, end+1); r != noMatch {
				return r, 0, true
			}
		}
		return s, end + 1, false
	case '*':
		return m.most(s, p, end), 0, true
	case '-':
		return m.least(s, p, end), 0, true
	}
	if !m.single(s, p, end) {
		return noMatch, 0, true
	}
	if quantifier == '+' {
		return m.most(s+1, p, end), 0, true
	}
	return s + 1, end, false
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

// backreference matches what an earlier capture matched.
func (m *matcher) backreference(s int, digit byte) int {
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

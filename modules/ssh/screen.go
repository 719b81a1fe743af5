package ssh

import (
	"bytes"
	"regexp"
	"strings"

	"moonseal/runtime/problem"
)

// screen is what the appliance has printed since the last prompt. Its output
// comes in chunks that split anywhere, so all questions are asked of the
// accumulated text.
type screen struct {
	prompt, pager *regexp.Regexp
	most          int
	raw           []byte
	shown         int    // bytes of raw that were given out as whole lines
	typed         string // the command whose output it is; "" before the first
}

// mostLine bounds the line that is looked at for a prompt, in bytes.
const mostLine = 4 << 10

// write takes a chunk. It returns the lines that are complete now, and whether a
// pager waits for a key; its question is taken off the text. full: more than
// most bytes came.
func (s *screen) write(chunk []byte) (lines []string, paged, full bool) {
	if len(s.raw)+len(chunk) > s.most {
		return nil, false, true
	}
	s.raw = append(s.raw, chunk...)
	begin := bytes.LastIndexByte(s.raw, '\n') + 1
	if last := s.last(); last != "" {
		if at := s.pager.FindStringIndex(last); at != nil {
			s.raw = append(s.raw[:begin], last[:at[0]]...)
			paged = true
		}
	}
	if begin > s.shown {
		for line := range bytes.Lines(s.raw[s.shown:begin]) {
			lines = append(lines, render(bytes.TrimSuffix(line, []byte("\n"))))
		}
		s.shown = begin
	}
	return lines, paged, false
}

// unfinished returns the unfinished line as it came.
func (s *screen) unfinished() []byte { return s.raw[bytes.LastIndexByte(s.raw, '\n')+1:] }

// echoed reports whether the first line is the command's echo and nothing else.
func (s *screen) echoed() bool {
	line, _, whole := bytes.Cut(s.raw, []byte("\n"))
	return whole && s.typed != "" && render(line) == s.typed
}

// last returns the unfinished line; empty if it is too long for a prompt.
func (s *screen) last() string {
	line := s.unfinished()
	if len(line) > mostLine {
		return ""
	}
	return render(line)
}

// Questions stand at the end of the text, without a line break.
var (
	yesOrNo      = regexp.MustCompile(`(?i)[(\[]\s*y(es)?\s*/\s*no?\s*[)\]]\s*[?:]?\s*$`)
	passwordLine = regexp.MustCompile(`(?i)\bpassword\s*:\s*$`)
	expired      = regexp.MustCompile(`(?i)password\b.{0,60}\b(expired|must be changed|needs to be changed)|\bchange (your|the) password`)
)

// question returns the error of a text that ends with a question, nil if it does not.
func (s *screen) question() *problem.Error {
	last := s.last()
	switch {
	case passwordLine.MatchString(last):
		return &problem.Error{
			Kind: problem.Auth, Message: "the server asks for a password after the login: it must be changed first", Server: s.tail(), Cause: ErrQuestion,
			Hint: changeByHand,
		}
	case yesOrNo.MatchString(last):
		return &problem.Error{
			Kind: problem.Refused, Message: "the server asks a question, which is not answered", Server: s.tail(), Cause: ErrQuestion,
			Hint: "type the command on the appliance, and answer it there",
		}
	}
	return nil
}

const changeByHand = "log in by hand once, and change the account's password"

// tail returns the end of the text, for an error.
func (s *screen) tail() string {
	shown := strings.TrimSpace(s.text())
	if most := 300; len(shown) > most {
		shown = "…" + strings.ToValidUTF8(shown[len(shown)-most:], "")
	}
	return shown
}

// passedPrompt reports whether a whole line is a prompt, and more has come after it, such as
// a message to all terminals.
func (s *screen) passedPrompt() bool {
	end := bytes.LastIndexByte(s.raw, '\n')
	if end < 0 {
		return false
	}
	for line := range bytes.Lines(s.raw[:end]) {
		shown := render(bytes.TrimRight(line, "\r\n"))
		if at := s.prompt.FindStringIndex(shown); shown != "" && at != nil && at[1] == len(shown) {
			return true
		}
	}
	return false
}

// atPrompt reports whether the text ends with a prompt.
func (s *screen) atPrompt() bool {
	last := s.last()
	at := s.prompt.FindStringIndex(last)
	return last != "" && at != nil && at[1] == len(last)
}

// text returns all of it as a terminal would show it, without the last line if that is a
// prompt.
func (s *screen) text() string {
	raw := s.raw
	if s.atPrompt() {
		raw = raw[:bytes.LastIndexByte(raw, '\n')+1]
	}
	var b strings.Builder
	for line := range bytes.Lines(raw) {
		b.WriteString(render(bytes.TrimSuffix(line, []byte("\n"))))
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// render returns one line as a terminal would show it: carriage return,
// backspace and "erase line" obeyed, other control sequences left out.
func render(line []byte) string {
	out := make([]byte, 0, len(line))
	at := 0
	for i := 0; i < len(line); i++ {
		switch b := line[i]; {
		case b == '\r':
			at = 0
		case b == '\b':
			at = max(at-1, 0)
		case b == 0x1b:
			n, final := escape(line[i:])
			i += n - 1
			if final == 'K' {
				out = out[:at]
			}
		case b < ' ' && b != '\t' || b == 0x7f:
		case at < len(out):
			out[at] = b
			at++
		default:
			out = append(out, b)
			at++
		}
	}
	return strings.TrimRight(strings.ToValidUTF8(string(out), "�"), " \t")
}

// escape returns the length of the control sequence that seq begins with, and a
// CSI's final byte.
func escape(seq []byte) (n int, final byte) {
	if len(seq) < 2 {
		return len(seq), 0
	}
	switch seq[1] {
	case '[':
		for i := 2; i < len(seq); i++ {
			if seq[i] >= 0x40 && seq[i] <= 0x7e {
				return i + 1, seq[i]
			}
		}
		return len(seq), 0
	case ']': // a window title, ended by BEL
		if i := bytes.IndexByte(seq, 0x07); i > 0 {
			return i + 1, 0
		}
		return len(seq), 0
	case '(', ')':
		return min(3, len(seq)), 0
	default:
		return 2, 0
	}
}

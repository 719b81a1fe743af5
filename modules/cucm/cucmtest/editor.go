package cucmtest

import (
	"io"
	"strings"
)

// editor is a command line that is being typed: the line so far and the echo
// that is still to be sent.
type editor struct {
	echoing bool
	width   int // columns; 0: never wraps
	column  int // of the cursor

	line strings.Builder
	out  strings.Builder
}

// put takes one typed byte. done says that the line is complete; io.EOF that
// Ctrl-D was typed on an empty line.
func (e *editor) put(b byte) (done bool, err error) {
	switch {
	case b == '\r', b == '\n':
		e.write("\n")
		return true, nil
	case b == 0x04:
		if e.line.Len() == 0 {
			e.write("\n")
			return true, io.EOF
		}
	case b == 0x08, b == 0x7f:
		e.cut(1)
	case b == 0x15: // Ctrl-U
		e.cut(e.line.Len())
	case b < 0x20 || b > 0x7e:
		// The platform's shell takes printable ASCII only.
	case e.line.Len() < maxLine:
		e.line.WriteByte(b)
		e.write(string(rune(b)))
		e.column++
		if e.width > 0 && e.column >= e.width {
			e.write(" \r")
			e.column = 0
		}
	}
	return false, nil
}

func (e *editor) cut(n int) {
	kept := e.line.String()
	n = min(n, len(kept))
	e.line.Reset()
	e.line.WriteString(kept[:len(kept)-n])
	e.write(strings.Repeat("\b \b", n))
	e.column = max(e.column-n, 0)
}

func (e *editor) write(s string) {
	if e.echoing {
		e.out.WriteString(s)
	}
}

// flush returns the echo that is still to be sent.
func (e *editor) flush() string {
	s := e.out.String()
	e.out.Reset()
	return s
}

package cucmtest

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/crypto/ssh"
)

// maxLine bounds a command line, in bytes.
const maxLine = 1024

// errInterrupt is a Ctrl-C.
var errInterrupt = errors.New("interrupt")

// terminal is the server's end of an interactive session: it echoes and wraps what is
// typed, and sends its output in pieces if the node does so.
type terminal struct {
	clock     clockwork.Clock
	ch        io.ReadWriter
	chunk     int
	delay     time.Duration
	pageLines int

	typed     chan byte
	interrupt chan struct{}

	mu    sync.Mutex
	pty   bool
	width int // columns; 0 if unknown
}

func newTerminal(clock clockwork.Clock, ch io.ReadWriter, b Behavior) *terminal {
	return &terminal{
		clock: clock, ch: ch, chunk: b.ChunkSize, delay: b.ChunkDelay, pageLines: b.PageLines,
		typed: make(chan byte, 4*maxLine), interrupt: make(chan struct{}, 1),
	}
}

// openPTY reads a pty-req (RFC 4254 section 6.2).
func (t *terminal) openPTY(payload []byte) bool {
	var q struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if ssh.Unmarshal(payload, &q) != nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pty, t.width = true, columns(q.Columns)
	return true
}

// resize reads a window-change (RFC 4254 section 6.7).
func (t *terminal) resize(payload []byte) bool {
	var q struct{ Columns, Rows, Width, Height uint32 }
	if ssh.Unmarshal(payload, &q) != nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.width = columns(q.Columns)
	return true
}

func columns(n uint32) int { return int(min(n, 1<<16)) }

func (t *terminal) window() (echo bool, width int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pty, t.width
}

// read hands on what is typed until the client ends its side or ctx ends.
func (t *terminal) read(ctx context.Context) {
	defer close(t.typed)
	piece := make([]byte, 512)
	for {
		n, err := t.ch.Read(piece)
		for _, b := range piece[:n] {
			if b == 0x03 {
				select {
				case t.interrupt <- struct{}{}:
				default:
				}
				continue
			}
			select {
			case t.typed <- b:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// print sends text with the line ends of a terminal.
func (t *terminal) print(ctx context.Context, text string) error {
	text = strings.ReplaceAll(text, "\n", "\r\n")
	for t.chunk > 0 && len(text) > t.chunk {
		if _, err := io.WriteString(t.ch, text[:t.chunk]); err != nil {
			return err
		}
		text = text[t.chunk:]
		if err := t.sleep(ctx, t.delay); err != nil {
			return err
		}
	}
	_, err := io.WriteString(t.ch, text)
	return err
}

func (t *terminal) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := t.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// key waits for one typed byte.
func (t *terminal) key(ctx context.Context) (byte, error) {
	select {
	case b, ok := <-t.typed:
		if !ok {
			return 0, io.EOF
		}
		return b, nil
	case <-t.interrupt:
		return 0, errInterrupt
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// readLine prints a prompt and reads a line, which CR, LF or both end.
func (t *terminal) readLine(ctx context.Context, prompt string) (string, error) {
	if err := t.print(ctx, prompt); err != nil {
		return "", err
	}
	e := &editor{column: len(prompt)}
	for {
		if len(t.typed) == 0 {
			if err := t.print(ctx, e.flush()); err != nil {
				return "", err
			}
		}
		b, err := t.key(ctx)
		if err != nil {
			return "", err
		}
		e.echoing, e.width = t.window()
		if done, end := e.put(b); done {
			return e.line.String(), errors.Join(t.print(ctx, e.flush()), end)
		}
	}
}

// page prints lines and stops for a key if the node has a pager.
func (t *terminal) page(ctx context.Context, lines []string) error {
	const more = "Press <enter> for 1 line, <space> for one page, or <q> to quit"
	left := t.pageLines
	for _, line := range lines {
		if t.pageLines > 0 && left == 0 {
			if err := t.print(ctx, more); err != nil {
				return err
			}
			quit, grant, err := t.pagerKey(ctx)
			if err != nil {
				return err
			}
			if err := t.print(ctx, "\r"+strings.Repeat(" ", len(more))+"\r"); err != nil || quit {
				return err
			}
			left = grant
		}
		if err := t.print(ctx, line+"\n"); err != nil {
			return err
		}
		left--
	}
	return nil
}

func (t *terminal) pagerKey(ctx context.Context) (quit bool, lines int, err error) {
	for {
		b, err := t.key(ctx)
		switch {
		case err != nil:
			return false, 0, err
		case b == 'q' || b == 'Q':
			return true, 0, nil
		case b == ' ':
			return false, t.pageLines, nil
		case b == '\r' || b == '\n':
			return false, 1, nil
		}
	}
}

package ssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	xssh "golang.org/x/crypto/ssh"

	"moonseal/runtime/problem"
)

// ErrQuestion is the cause of the error of a command, or a login, that waits for an answer.
var ErrQuestion = errors.New("a question")

// Session is a shell at its prompt. It runs one command at a time. After an error of
// [Session.Run] that is not Usage it is closed.
type Session struct {
	c       Config
	client  *xssh.Client
	keys    io.Writer
	chunks  chan []byte   // closed when the shell's output has ended
	closing chan struct{} // closed by Close
	close   func() error
	prompt  []byte     // the first prompt, as it came
	mu      sync.Mutex // held while a command runs
	hasty   bool       // the last prompt was taken for one without waiting
	broken  error
}

// open asks client for a shell on a terminal and waits for the prompt. If it fails,
// client is closed.
func open(ctx context.Context, client *xssh.Client, c Config) (_ *Session, err error) {
	done := closeOnEnd(ctx, client)
	defer func() {
		done()
		if err != nil {
			_ = client.Close()
			err = because(ctx, err)
		}
	}()
	shell, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	if err := requestTerminal(shell); err != nil {
		return nil, err
	}
	keys, err := shell.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := shell.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := shell.Shell(); err != nil {
		return nil, err
	}
	s := &Session{c: c, client: client, keys: keys, chunks: make(chan []byte), closing: make(chan struct{})}
	s.close = sync.OnceValue(s.shut)
	go s.read(output)
	first := s.screen()
	if err := s.await(ctx, first, nil); err != nil {
		_ = s.Close()
		if text := first.tail(); expired.MatchString(text) {
			err = &problem.Error{Kind: problem.Auth, Message: "the account's password has expired or must be changed", Server: text, Hint: changeByHand, Cause: err}
		}
		return nil, err
	}
	s.prompt = bytes.Clone(first.unfinished())
	return s, nil
}

// requestTerminal asks for a terminal without echo (RFC 4254 section 6.2). Unlike
// [xssh.Session.RequestPty] it does not wait for the answer, which would cost a round
// trip: the request for the shell follows at once, and its prompt shows what came of both.
func requestTerminal(shell *xssh.Session) error {
	modes := xssh.Marshal(struct {
		Code  byte
		Value uint32
		End   byte
	}{Code: xssh.ECHO})
	_, err := shell.SendRequest("pty-req", false, xssh.Marshal(struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}{terminal, width, height, 8 * width, 8 * height, string(modes)}))
	return err
}

// because returns err, or what ended ctx: that closed the connection, and so is
// the reason of whatever err says.
func because(ctx context.Context, err error) error {
	var p *problem.Error
	if errors.As(err, &p) {
		return err
	}
	if ctx.Err() != nil {
		p = problem.Network(ctx.Err())
		p.Message = "no prompt in time"
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			p.Message = "cancelled"
		}
		return p
	}
	return problem.Network(err)
}

// read passes the shell's output on until it ends.
func (s *Session) read(output io.Reader) {
	defer close(s.chunks)
	for {
		chunk := make([]byte, 4<<10)
		n, err := output.Read(chunk)
		if n > 0 {
			select {
			case s.chunks <- chunk[:n]:
			case <-s.closing:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Close ends the session and waits for all that belongs to it.
func (s *Session) Close() error { return s.close() }

func (s *Session) shut() error {
	close(s.closing)
	err := s.client.Close()
	_ = s.client.Wait()
	for range s.chunks { // until the reader is gone
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// breaksLine reports whether r may end a line, or change what is shown of one:
// terminals take U+0085 for a new line, too. Bytes that are not UTF-8 are
// [utf8.RuneError]: what a terminal takes them for is not known.
func breaksLine(r rune) bool {
	return r == utf8.RuneError || unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Cf)
}

// Run types command and returns what is printed up to the next prompt, without
// the echo of the command. progress, which may be nil, gets each line as it
// comes. ctx bounds it: when ctx ends the connection is closed, and whether
// the command did its work is Unknown. A command with control characters, such as a
// second line, is a Usage error.
func (s *Session) Run(ctx context.Context, command string, progress func(line string)) (string, error) {
	if strings.ContainsFunc(command, breaksLine) || strings.TrimSpace(command) == "" {
		return "", problem.At(&problem.Error{Kind: problem.Usage, Message: "a command is one line without control characters"}, "", s.c.Addr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return "", s.broken
	}
	done := closeOnEnd(ctx, s.client)
	output, err := s.command(ctx, command, progress)
	done()
	if err != nil {
		p := *problem.From(because(ctx, err))
		p.Work = problem.Unknown
		err = problem.At(&p, "", s.c.Addr)
		s.broken = &problem.Error{Kind: problem.Unavailable, Target: s.c.Addr, Message: "the session has ended", Work: problem.NotDone, Cause: err}
		_ = s.Close()
	}
	return output, err
}

func (s *Session) command(ctx context.Context, command string, progress func(string)) (string, error) {
	if err := s.overrun(ctx); err != nil {
		return "", err
	}
	if _, err := io.WriteString(s.keys, command+"\n"); err != nil {
		return "", err
	}
	sc := s.screen()
	sc.typed = strings.TrimRight(command, " ")
	first := true
	err := s.await(ctx, sc, func(line string) {
		echo := first && strings.HasSuffix(line, sc.typed)
		if first = false; !echo && progress != nil {
			progress(line)
		}
	})
	text := sc.text()
	line, rest, _ := strings.Cut(text, "\n")
	if strings.HasSuffix(line, sc.typed) {
		text = rest
	}
	return text, err
}

// overrun looks, before a command is sent, whether more has come after a prompt that was
// not waited for: then that one was part of the output. The rest must not answer the next
// command, so it is read until a prompt stays, or nothing comes for long, as behind a
// message to all terminals. From here on each prompt is waited for.
func (s *Session) overrun(ctx context.Context) error {
	if !s.hasty {
		return nil
	}
	s.hasty = false
	rest := s.screen()
	rest.raw = bytes.Clone(s.prompt)
	var chunk []byte
	select {
	case chunk = <-s.chunks:
	default:
		return nil
	}
	for s.prompt = nil; chunk != nil; {
		err := s.show(rest, chunk, nil)
		if err != nil {
			return err
		}
		quiet := s.c.Settle
		if !rest.atPrompt() {
			quiet *= longSilence
		}
		if chunk, err = s.more(ctx, quiet); err != nil {
			return err
		}
	}
	return nil
}

// longSilence is after how many times [Config.Settle] nothing more is expected though no
// prompt has come.
const longSilence = 20

// more returns the next piece of output; nil if there is none within d.
func (s *Session) more(ctx context.Context, d time.Duration) ([]byte, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case chunk, ok := <-s.chunks:
		if !ok {
			return nil, silence(ctx, s.screen())
		}
		return chunk, nil
	case <-timer.C:
		return nil, nil
	case <-ctx.Done():
		return nil, silence(ctx, s.screen())
	}
}

func (s *Session) screen() *screen {
	return &screen{prompt: s.c.Prompt, pager: s.c.Pager, most: s.c.MostOutput}
}

// await collects output until it ends with a prompt, and answers the pager. A prompt that
// follows the command's echo, and is the session's first one to the byte, is taken for
// one at once. Any other has to stay for a while: output that comes in pieces may hold
// what looks like one, and one that is drawn again must not answer the next command. The
// same holds for a question, which is an error. A prompt that a message has pushed up is
// asked for again, once.
func (s *Session) await(ctx context.Context, sc *screen, progress func(string)) error {
	settle := time.NewTimer(s.c.Settle)
	defer settle.Stop()
	nudged := false
	for {
		var still <-chan time.Time
		question := sc.question()
		pushed := !nudged && sc.passedPrompt()
		switch {
		case question != nil:
			settle.Reset(s.c.Settle)
			still = settle.C
		case sc.atPrompt():
			if len(s.prompt) > 0 && sc.echoed() && bytes.Equal(sc.unfinished(), s.prompt) {
				s.hasty = true
				return nil
			}
			settle.Reset(s.c.Settle)
			still, pushed = settle.C, false
		case pushed:
			settle.Reset(longSilence * s.c.Settle)
			still = settle.C
		}
		select {
		case <-ctx.Done():
			return silence(ctx, sc)
		case <-still:
			switch {
			case question != nil:
				return question
			case !pushed:
				return nil
			}
			nudged = true
			if _, err := io.WriteString(s.keys, "\n"); err != nil {
				return err
			}
		case chunk, ok := <-s.chunks:
			if !ok {
				return silence(ctx, sc)
			}
			if err := s.show(sc, chunk, progress); err != nil {
				return err
			}
		}
	}
}

// show puts a chunk of output on the screen, and answers the pager.
func (s *Session) show(sc *screen, chunk []byte, progress func(string)) error {
	lines, paged, full := sc.write(chunk)
	for _, line := range lines {
		if progress != nil {
			progress(line)
		}
	}
	if full {
		sc.raw = nil // nothing reads it
		return &problem.Error{Kind: problem.Refused, Message: "the output is longer than the limit"}
	}
	if paged {
		_, err := io.WriteString(s.keys, " ")
		return err
	}
	return nil
}

// silence is the error of output that ended, or stopped, before a prompt.
func silence(ctx context.Context, sc *screen) error {
	shown := sc.tail()
	p := &problem.Error{Kind: problem.Unavailable, Message: "the session was cut before the prompt came", Server: shown}
	if ctx.Err() != nil {
		p = problem.From(because(ctx, ctx.Err()))
		p.Server = shown
	}
	return p
}

package ssh

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"moonseal/runtime/problem"
)

const rightPassword = "correct horse"

// server is an SSH server whose shell is a script.
type server struct {
	addr     string
	cfg      *xssh.ServerConfig
	attempts atomic.Int32 // passwords that were tried, by either method
	pty      atomic.Pointer[ptyRequest]
	shell    func(*shell)
	wg       sync.WaitGroup
}

type ptyRequest struct {
	Term          string
	Width, Height uint32
	PxW, PxH      uint32
	Modes         string
}

// shell is the far end of a session.
type shell struct {
	ch xssh.Channel
	in *bufio.Reader
}

func (sh *shell) say(parts ...string) {
	for _, p := range parts {
		_, _ = io.WriteString(sh.ch, p)
		pause(5 * time.Millisecond) // so that each part is a chunk of its own
	}
}

func (sh *shell) line() string {
	line, err := sh.in.ReadString('\n')
	if err != nil {
		return ""
	}
	return strings.TrimSpace(line)
}

func (sh *shell) key() byte {
	b, _ := sh.in.ReadByte()
	return b
}

// pause lets time pass on the far end of a real connection.
func pause(d time.Duration) { <-time.After(d) }

func newServer(t testing.TB, script func(*shell), change func(*xssh.ServerConfig)) *server {
	t.Helper()
	s := &server{shell: script}
	s.cfg = &xssh.ServerConfig{
		MaxAuthTries: -1,
		PasswordCallback: func(_ xssh.ConnMetadata, pw []byte) (*xssh.Permissions, error) {
			return s.login(string(pw))
		},
		KeyboardInteractiveCallback: func(_ xssh.ConnMetadata, ask xssh.KeyboardInteractiveChallenge) (*xssh.Permissions, error) {
			answers, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil || len(answers) != 1 {
				return nil, errors.New("no answer")
			}
			return s.login(answers[0])
		},
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.AddHostKey(signer(t, key))
	if change != nil {
		change(s.cfg)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); s.wg.Wait() })
	return s
}

func signer(t testing.TB, key any) xssh.Signer {
	t.Helper()
	sg, err := xssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return sg
}

func rsaSigner(t testing.TB) xssh.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return signer(t, key)
}

func (s *server) login(pw string) (*xssh.Permissions, error) {
	s.attempts.Add(1)
	if pw != rightPassword {
		return nil, errors.New("wrong password")
	}
	return nil, nil
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	_, chans, reqs, err := xssh.NewServerConn(conn, s.cfg)
	if err != nil {
		return
	}
	s.wg.Go(func() { xssh.DiscardRequests(reqs) })
	for nc := range chans {
		ch, requests, err := nc.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			for r := range requests {
				switch r.Type {
				case "pty-req":
					var p ptyRequest
					if xssh.Unmarshal(r.Payload, &p) != nil || r.WantReply {
						continue // waiting for an answer wastes a round trip
					}
					s.pty.Store(&p)
				case "shell":
					s.wg.Go(func() {
						defer conn.Close()
						s.shell(&shell{ch: ch, in: bufio.NewReader(ch)})
					})
				}
				_ = r.Reply(true, nil)
			}
		})
	}
}

// pin returns the fingerprint of each host key of the server.
func (s *server) pin(t testing.TB) string {
	t.Helper()
	pin, err := HostKey(t.Context(), s.addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	return pin
}

func (s *server) config(t testing.TB) Config {
	return Config{
		Addr: s.addr, User: "administrator", HostKeys: []string{s.pin(t)}, Settle: 25 * time.Millisecond,
		Timeout: 5 * time.Second, Banner: 5 * time.Second,
		Password: func(context.Context) (string, error) { return rightPassword, nil },
	}
}

func mustDial(t testing.TB, c Config) *Session {
	t.Helper()
	s, err := Dial(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func wantKind(t testing.TB, err error, kind problem.Kind, words ...string) *problem.Error {
	t.Helper()
	var p *problem.Error
	if !errors.As(err, &p) || p.Kind != kind {
		t.Fatalf("got %v, want a problem of kind %s", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(p.Error()+" "+p.Hint, w) {
			t.Errorf("%q (hint %q) does not say %q", p, p.Hint, w)
		}
	}
	return p
}

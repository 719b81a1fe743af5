package ssh

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"moonseal/runtime/problem"
)

const banner = "Command Line Interface is starting up, please wait ...\r\n\r\n   Welcome to the Platform Command Line Interface\r\n\r\n"

func TestRunReadsUpToThePrompt(t *testing.T) {
	s := newServer(t, func(sh *shell) {
		sh.say(banner[:20], banner[20:], "ad", "min", ":")
		for {
			switch cmd := sh.line(); cmd {
			case "show status": // echo, a prompt inside a line, split chunks
				sh.say(cmd+"\r\n", "Host Name : cucm01\r\nnot the admin:\r\nadmi", "n: is here too\r", "\nlast\r\n", "admi", "n:")
			case "show long":
				sh.say("1\r\n2\r\nPress <enter> for 1 line, <space> ", "for one page, or <q> to quit")
				if sh.key() != ' ' {
					return
				}
				sh.say("\r                                                              \r3\r\n", "admin:")
			case "silent":
				sh.say("admin:")
			case "redraw": // a prompt that is drawn twice must not answer the next command
				sh.say("done\r\n", "admin:", "\r\x1b[Kadmin:")
			default:
				return
			}
		}
	}, nil)
	sess := mustDial(t, s.config(t))
	var lines []string
	for _, tc := range []struct{ command, want string }{
		{"show status", "Host Name : cucm01\nnot the admin:\nadmin: is here too\nlast"},
		{"show long", "1\n2\n3"},
		{"silent", ""},
		{"redraw", "done"},
		{"silent", ""},
	} {
		lines = nil
		got, err := sess.Run(t.Context(), tc.command, func(l string) { lines = append(lines, l) })
		if err != nil || got != tc.want {
			t.Fatalf("%s gave %q, %v; want %q", tc.command, got, err, tc.want)
		}
		if joined := strings.Join(lines, "\n"); joined != tc.want {
			t.Errorf("%s: progress got %q", tc.command, joined)
		}
	}
	if p := s.pty.Load(); p == nil || p.Width < 200 {
		t.Errorf("terminal %+v: too narrow", p)
	}
}

func TestCommandIsOneLine(t *testing.T) {
	s := newServer(t, func(sh *shell) {
		for sh.say("admin:"); ; sh.say("admin:") {
			if got := sh.line(); got != "ok" {
				return
			}
		}
	}, nil)
	sess := mustDial(t, s.config(t))
	for _, cmd := range []string{"a\nb", "a\rb", "a\x03", "", "  ", "a\x1b[A", "a\u0085b", "a\x85b", "a\u009b2Ab", "a\u2028b", "a\u2029b", "a\u202eb", "a\xffb"} {
		_, err := sess.Run(t.Context(), cmd, nil)
		wantKind(t, err, problem.Usage)
	}
	if _, err := sess.Run(t.Context(), "ok", nil); err != nil {
		t.Errorf("the session is gone after a refused command: %v", err)
	}
}

func TestPasswordIsTriedOnce(t *testing.T) {
	for name, change := range map[string]func(*xssh.ServerConfig){
		"both methods":         nil,
		"password":             func(c *xssh.ServerConfig) { c.KeyboardInteractiveCallback = nil },
		"keyboard-interactive": func(c *xssh.ServerConfig) { c.PasswordCallback = nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, func(sh *shell) { sh.say("admin:"); sh.line() }, change)
			c := s.config(t)
			mustDial(t, c)
			if n := s.attempts.Load(); n != 1 {
				t.Errorf("%d attempts to log in", n)
			}
			asked := 0
			c.Password = func(context.Context) (string, error) { asked++; return "wrong", nil }
			_, err := Dial(t.Context(), c)
			p := wantKind(t, err, problem.Auth, "refused the user name or password", s.addr)
			if strings.Contains(p.Error(), "wrong\"") || p.Happened() != problem.NotDone {
				t.Errorf("got %v, work %s", p, p.Happened())
			}
			if n := s.attempts.Load(); n != 2 || asked != 1 {
				t.Errorf("the wrong password was tried %d times, asked for %d times", n-1, asked)
			}
		})
	}
}

// A login whose answer never came says nothing about the password.
func TestLoginThatGetsNoAnswer(t *testing.T) {
	for kind, stop := range map[problem.Kind]func(net.Conn){
		problem.Unavailable: func(conn net.Conn) { _ = conn.(*net.TCPConn).CloseRead() },
		problem.Timeout:     func(net.Conn) {},
	} {
		for _, when := range []string{"asked for methods", "got the password"} {
			var conn net.Conn
			gone := make(chan struct{})
			hang := func() {
				stop(conn)
				<-gone
			}
			s := newServer(t, nil, func(c *xssh.ServerConfig) {
				c.PasswordCallback = func(xssh.ConnMetadata, []byte) (*xssh.Permissions, error) {
					hang()
					return nil, nil
				}
				if when == "asked for methods" {
					c.NoClientAuth = true
					c.NoClientAuthCallback = func(xssh.ConnMetadata) (*xssh.Permissions, error) {
						hang()
						return nil, nil
					}
				}
			})
			c := s.config(t)
			c.Timeout = 500 * time.Millisecond
			c.Dial = func(ctx context.Context, network, addr string) (_ net.Conn, err error) {
				conn, err = new(net.Dialer).DialContext(ctx, network, addr)
				return conn, err
			}
			_, err := Dial(t.Context(), c)
			close(gone)
			if p := wantKind(t, err, kind); p.Work != problem.NotDone || p.Target != s.addr {
				t.Errorf("%s: %+v", when, p)
			}
		}
	}
}

func TestOtherQuestionsAreNotAnswered(t *testing.T) {
	for _, q := range []struct {
		questions []string
		echo      bool
	}{{[]string{"Old password: ", "New password: "}, false}, {[]string{"Token: "}, true}} {
		s := newServer(t, nil, func(c *xssh.ServerConfig) {
			c.PasswordCallback = nil
			c.KeyboardInteractiveCallback = func(_ xssh.ConnMetadata, ask xssh.KeyboardInteractiveChallenge) (*xssh.Permissions, error) {
				echos := make([]bool, len(q.questions))
				echos[0] = q.echo
				_, err := ask("", "", q.questions, echos)
				return nil, err
			}
		})
		c := s.config(t)
		c.Password = func(context.Context) (string, error) { t.Error("asked for the password"); return "", nil }
		_, err := Dial(t.Context(), c)
		wantKind(t, err, problem.Auth, "something other than the password", q.questions[0][:5])
	}
}

func TestPasswordThatCannotBeHad(t *testing.T) {
	s := newServer(t, nil, nil)
	c := s.config(t)
	c.Password = func(context.Context) (string, error) {
		return "", &problem.Error{Kind: problem.Usage, Message: "no secret named X"}
	}
	_, err := Dial(t.Context(), c)
	wantKind(t, err, problem.Usage, "no secret named X")
	if s.attempts.Load() != 0 {
		t.Error("something was tried as the password")
	}
}

func TestHostKeyIsPinned(t *testing.T) {
	s := newServer(t, func(sh *shell) { sh.say("admin:"); sh.line() }, nil)
	c := s.config(t)
	seen := c.HostKeys[0]
	c.Password = func(context.Context) (string, error) { t.Error("asked for the password"); return "", nil }

	c.HostKeys = nil
	_, err := Dial(t.Context(), c)
	wantKind(t, err, problem.Untrusted, seen, "no SSH host key is pinned", "moonseal trust 127.0.0.1")

	c.HostKeys = []string{"SHA256:other"}
	_, err = Dial(t.Context(), c)
	wantKind(t, err, problem.Untrusted, "expected SHA256:other", "seen "+seen, "moonseal trust 127.0.0.1")
}

func TestAnyKindOfHostKeyMayBeThePinnedOne(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	extra := []xssh.Signer{rsaSigner(t), signer(t, ec)}
	s := newServer(t, func(sh *shell) { sh.say("admin:"); sh.line() }, func(c *xssh.ServerConfig) {
		for _, k := range extra {
			c.AddHostKey(k)
		}
	})
	c := s.config(t)
	for _, k := range extra {
		c.HostKeys = []string{xssh.FingerprintSHA256(k.PublicKey())}
		mustDial(t, c)
	}
	c.HostKeys = []string{"SHA256:other"}
	_, err = Dial(t.Context(), c)
	wantKind(t, err, problem.Untrusted)
}

func TestLegacyIsOptIn(t *testing.T) {
	s := newServer(t, func(sh *shell) { sh.say("admin:"); sh.line() }, func(c *xssh.ServerConfig) {
		c.KeyExchanges = []string{xssh.InsecureKeyExchangeDH14SHA1}
		c.Ciphers = []string{xssh.InsecureCipherAES128CBC}
		c.MACs = []string{xssh.HMACSHA1}
	})
	c := s.config(t) // HostKey works without asking for legacy
	_, err := Dial(t.Context(), c)
	wantKind(t, err, problem.Refused, "no algorithm in common", "legacy")
	c.Legacy = true
	mustDial(t, c)
}

func TestNoAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // accepts, says nothing
	c := Config{Addr: l.Addr().String(), Timeout: 50 * time.Millisecond, HostKeys: []string{"SHA256:x"}}
	_, err = Dial(t.Context(), c)
	if p := wantKind(t, err, problem.Timeout); p.Happened() != problem.NotDone {
		t.Error("work is not known to be undone")
	}
	closed, _ := net.Listen("tcp", "127.0.0.1:0")
	c.Addr = closed.Addr().String()
	_ = closed.Close()
	_, err = Dial(t.Context(), c)
	wantKind(t, err, problem.Unavailable, "cannot connect", c.Addr)
	_, err = HostKey(t.Context(), c.Addr, nil)
	wantKind(t, err, problem.Unavailable, "cannot connect")
}

func TestPromptThatNeverComes(t *testing.T) {
	s := newServer(t, func(sh *shell) { sh.say("Welcome\r\nplease wait"); sh.line() }, nil)
	c := s.config(t)
	c.Banner = 100 * time.Millisecond
	_, err := Dial(t.Context(), c)
	wantKind(t, err, problem.Timeout, "no prompt in time", "please wait")
}

func TestContextEndsACommand(t *testing.T) {
	gone := make(chan struct{})
	s := newServer(t, func(sh *shell) {
		sh.say("admin:")
		sh.line()
		sh.say("Cisco Tomcat[STARTING]\r\n")
		sh.line()
		close(gone)
	}, nil)
	sess := mustDial(t, s.config(t))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := sess.Run(ctx, "utils service restart Cisco Tomcat", func(string) { cancel() })
	p := wantKind(t, err, problem.Unavailable, "cancelled", "STARTING")
	if p.Happened() != problem.Unknown || !errors.Is(err, context.Canceled) {
		t.Errorf("work %s, cause %v", p.Happened(), p.Cause)
	}
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Error("the connection stays open")
	}
	_, err = sess.Run(t.Context(), "show status", nil)
	if p := wantKind(t, err, problem.Unavailable, "session has ended"); p.Happened() != problem.NotDone {
		t.Error("a command that was not sent is not known to be undone")
	}
}

func TestSessionThatIsCut(t *testing.T) {
	s := newServer(t, func(sh *shell) {
		sh.say("admin:")
		sh.line()
		sh.say("Service Manager is running\r\nCisco Tomcat[STAR")
	}, nil)
	sess := mustDial(t, s.config(t))
	_, err := sess.Run(t.Context(), "x", nil)
	if p := wantKind(t, err, problem.Unavailable, "cut", "Cisco Tomcat[STAR"); p.Happened() != problem.Unknown {
		t.Error("work is not unknown")
	}
}

func TestOutputIsBounded(t *testing.T) {
	s := newServer(t, func(sh *shell) {
		sh.say("admin:")
		sh.line()
		sh.say(strings.Repeat("0123456789\r\n", 1000))
		sh.line()
	}, nil)
	c := s.config(t)
	c.MostOutput = 4000
	sess := mustDial(t, c)
	_, err := sess.Run(t.Context(), "x", nil)
	wantKind(t, err, problem.Refused, "longer than the limit")
}

func TestOwnPrompt(t *testing.T) {
	s := newServer(t, func(sh *shell) { sh.say("admin:\r\nexpe>"); sh.line(); sh.say("ok\r\nexpe> "); sh.line() }, nil)
	c := s.config(t)
	c.Prompt = regexp.MustCompile(`^\w+>`)
	if got, err := mustDial(t, c).Run(t.Context(), "x", nil); err != nil || got != "ok" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRender(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                      "plain",
		"old\rnew":                   "new",
		"longer\rab":                 "abnger",
		"ab\b\bcd":                   "cd",
		"\b\bx":                      "x",
		"pager\r\x1b[Kx":             "x",
		"\x1b[1;32mgreen\x1b[0m  ":   "green",
		"\x1b]0;title\x07x":          "x",
		"\x1b(Bx\x1b":                "x",
		"a\x00b\x07c\td":             "abc\td",
		"\xff":                       "�",
		"x\x1b[":                     "x",
		"question\r          \rnext": "next",
	} {
		if got := render([]byte(in)); got != want {
			t.Errorf("render(%q) = %q, want %q", in, got, want)
		}
	}
}

// However the output is cut into chunks, what is read is the same.
func FuzzScreen(f *testing.F) {
	f.Add([]byte("Welcome\r\nadmin:"), uint8(3))
	f.Add([]byte("1\r\nPress <enter> for 1 line, <space> for one page, or <q> to quit\r      \r2\r\nadmin: "), uint8(7))
	f.Add([]byte("\x1b[1mx\x1b[0m\b\b\r\x1b[Kadmin:"), uint8(1))
	f.Fuzz(func(t *testing.T, output []byte, size uint8) {
		if size == 0 || defaultPager.Match(output) {
			return
		}
		whole := &screen{prompt: defaultPrompt, pager: defaultPager, most: 1 << 16}
		if _, _, full := whole.write(output); full {
			return
		}
		var lines, split []string
		lines, _, _ = (&screen{prompt: defaultPrompt, pager: defaultPager, most: 1 << 16}).write(output)
		parts := &screen{prompt: defaultPrompt, pager: defaultPager, most: 1 << 16}
		for chunk := range slices.Chunk(output, int(size)) {
			got, paged, _ := parts.write(chunk)
			if paged {
				return // a pager's question made by control sequences
			}
			split = append(split, got...)
		}
		if whole.text() != parts.text() || whole.atPrompt() != parts.atPrompt() || !slices.Equal(lines, split) {
			t.Errorf("in chunks of %d: %q, whole: %q", size, parts.text(), whole.text())
		}
	})
}

// Only a session's first prompt is waited for, if commands are echoed.
func TestLaterPromptsAreNotWaitedFor(t *testing.T) {
	s := newServer(t, func(sh *shell) {
		for sh.say(banner, "admin:"); ; {
			cmd := sh.line()
			if cmd == "" {
				return
			}
			sh.say(cmd, "\r\n", "did ", cmd, "\r\nadmin", ":")
		}
	}, nil)
	c := s.config(t)
	c.Settle = time.Second
	sess := mustDial(t, c)
	began := time.Now()
	for range 10 {
		if got, err := sess.Run(t.Context(), "show status", nil); err != nil || got != "did show status" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("ten commands took %s", took)
	}
}

// What looks like the prompt may be in the output, and a chunk end right behind it. The
// rest never answers the next command.
func TestPromptInTheOutput(t *testing.T) {
	for _, rest := range []string{" privilege 4\r\nadmin:", " ", "\r\nBroadcast message\r\n", "\r\nadmin:\r\nadmin:"} {
		t.Run(rest, func(t *testing.T) { promptInTheOutput(t, rest) })
	}
}

func promptInTheOutput(t *testing.T, rest string) {
	t.Helper()
	more := make(chan struct{})
	s := newServer(t, func(sh *shell) {
		for sh.say("admin:"); ; {
			switch cmd := sh.line(); cmd {
			case "show users":
				sh.say(cmd+"\r\n", "admin:")
				<-more
				sh.say(rest)
				more <- struct{}{}
			case "show status", "show version":
				sh.say(cmd+"\r\n", "of "+cmd+"\r\n", "admin:")
			default:
				return
			}
		}
	}, nil)
	sess := mustDial(t, s.config(t))
	if _, err := sess.Run(t.Context(), "show users", nil); err != nil {
		t.Fatal(err)
	}
	more <- struct{}{}
	<-more
	for _, cmd := range []string{"show status", "show version", "show status"} {
		if got, err := sess.Run(t.Context(), cmd, nil); err != nil || got != "of "+cmd {
			t.Errorf("%s: got %q, %v", cmd, got, err)
		}
	}
}

// Another prompt than the first, one with something before it, and one without an echo
// have to stay.
func TestPromptsThatAreWaitedFor(t *testing.T) {
	for name, answer := range map[string][]string{
		"no echo":       {"out\r\n", "admin:", "\r\x1b[Kadmin:"},
		"drawn again":   {"show status\r\nout\r\n", "\r\x1b[Kadmin:", "\r\x1b[Kadmin:"},
		"with a blank":  {"show status\r\nout\r\n", "admin: ", "\r\x1b[Kadmin:"},
		"another echo":  {"show stat\r\nout\r\n", "admin:", "\r\x1b[Kadmin:"},
		"echo in parts": {"show sta", "tus\r", "\nout\r\nadmin:"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, func(sh *shell) {
				for sh.say("admin:"); sh.line() != ""; {
					sh.say(answer...)
				}
			}, nil)
			sess := mustDial(t, s.config(t))
			for range 3 {
				got, err := sess.Run(t.Context(), "show status", nil)
				if got = strings.TrimPrefix(got, "show stat\n"); err != nil || got != "out" {
					t.Fatalf("got %q, %v", got, err)
				}
			}
		})
	}
}

// x/crypto/ssh has no types for these errors: they are distinguished by their texts, which must stay.
func TestErrorsOfTheLibrary(t *testing.T) {
	for name, tt := range map[string]struct {
		tries int // that the server allows
		is    func(error) bool
	}{
		"unauthenticated": {-1, unauthenticated},
		"disconnected":    {1, disconnected},
	} {
		s := newServer(t, nil, func(c *xssh.ServerConfig) { c.MaxAuthTries = tt.tries })
		_, err := xssh.Dial("tcp", s.addr, &xssh.ClientConfig{
			User: "admin", Auth: []xssh.AuthMethod{xssh.Password("wrong")}, HostKeyCallback: xssh.InsecureIgnoreHostKey(), //nolint:gosec // a test's server
		})
		if err == nil || !tt.is(err) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A question is recognised once nothing follows it, whatever the time limit, and quoted.
func TestQuestionsAreNotAnswered(t *testing.T) {
	for asked, kind := range map[string]problem.Kind{
		"This restarts the node.\r\nContinue (yes/no)? ": problem.Refused,
		"Do you want to continue? (y/n):":                problem.Refused,
		"Overwrite [Y/N]?":                               problem.Refused,
		"\r\nNew password: ":                             problem.Auth,
	} {
		typed := make(chan string, 1)
		s := newServer(t, func(sh *shell) {
			sh.say(banner, "admin:")
			sh.line()
			sh.say("utils service restart X\r\n", asked[:len(asked)/2], asked[len(asked)/2:])
			typed <- sh.line()
		}, nil)
		sess := mustDial(t, s.config(t))
		_, err := sess.Run(t.Context(), "utils service restart X", nil)
		p := problem.From(err)
		last := asked[strings.LastIndexByte(strings.TrimSpace(asked), '\n')+1:]
		if !errors.Is(err, ErrQuestion) || p.Kind != kind || p.Kind.Retryable() || !strings.Contains(p.Server, strings.TrimSpace(last)) {
			t.Errorf("%q: %v, %+v", asked, err, p)
		}
		if got := <-typed; got != "" {
			t.Errorf("%q was answered with %q", asked, got)
		}
	}
}

// A question in the middle of an output is none.
func TestTextLikeAQuestion(t *testing.T) {
	s := newServer(t, func(sh *shell) {
		sh.say(banner, "admin:")
		sh.line()
		sh.say("show\r\n", "continue (y/n)?", " was asked\r\nadmin:")
		sh.line()
	}, nil)
	if got, err := mustDial(t, s.config(t)).Run(t.Context(), "show", nil); err != nil || got != "continue (y/n)? was asked" {
		t.Errorf("%q, %v", got, err)
	}
}

// A password that has expired is an error of the account, once, however the server says it.
func TestExpiredPassword(t *testing.T) {
	for name, say := range map[string]string{
		"asks for another": "WARNING: Your password has expired.\r\nYou must change your password now and login again!\r\n(current) UNIX password: ",
		"ends the session": "Your password has expired. Please contact your administrator.\r\n",
		"must be changed":  "Your password must be changed at first login\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, func(sh *shell) {
				sh.say(say)
				if strings.HasSuffix(say, ": ") {
					sh.line()
				}
			}, nil)
			_, err := Dial(t.Context(), s.config(t))
			if p := problem.From(err); err == nil || p.Kind != problem.Auth || !strings.Contains(p.Server, "assword") || p.Hint == "" {
				t.Errorf("%v, %+v", err, p)
			}
		})
	}
}

// A message to all terminals pushes the prompt up: an empty line brings it again.
func TestMessageBelowThePrompt(t *testing.T) {
	const wall = "\r\nBroadcast message from root@cucm01 (Sun Nov 29 03:17:00 2026):\r\n\r\nThe system is going down for maintenance\r\n"
	s := newServer(t, func(sh *shell) {
		sh.say(banner, "admin:"+wall)
		for _, want := range []string{"", "show status", "", "show status", ""} {
			if got := sh.line(); got != want {
				t.Errorf("the server received %q, want %q", got, want)
				return
			}
			if want == "" {
				sh.say("\r\nadmin:")
			} else {
				sh.say(want+"\r\n", "fine\r\n", "admin:"+wall)
			}
		}
	}, nil)
	sess := mustDial(t, s.config(t))
	for range 2 {
		if got, err := sess.Run(t.Context(), "show status", nil); err != nil || !strings.HasPrefix(got, "fine") {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

package cucmtest

import (
	"errors"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/crypto/ssh"
)

func TestSSHLogin(t *testing.T) {
	c := start(t, nil)
	n := c.Node(pub)
	keyboard := ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
		if len(questions) == 0 {
			return nil, nil
		}
		if !slices.Equal(questions, []string{"Password: "}) || echos[0] {
			t.Errorf("asked %q, echo %v", questions, echos)
		}
		return []string{pass}, nil
	})
	for _, test := range []struct {
		name   string
		change func(*Behavior)
		auth   ssh.AuthMethod
		ok     bool
	}{
		{"password", nil, ssh.Password(pass), true},
		{"keyboard-interactive", nil, keyboard, true},
		{"wrong password", nil, ssh.Password("wrong"), false},
		{"no password method", func(b *Behavior) { b.NoPassword = true }, ssh.Password(pass), false},
		{"keyboard-interactive only", func(b *Behavior) { b.NoPassword = true }, keyboard, true},
		{"no keyboard-interactive", func(b *Behavior) { b.NoKeyboard = true }, keyboard, false},
	} {
		if err := n.Configure(func(b *Behavior) {
			*b = Behavior{}
			if test.change != nil {
				test.change(b)
			}
		}); err != nil {
			t.Fatal(err)
		}
		config := sshConfig(pass)
		config.Auth = []ssh.AuthMethod{test.auth}
		client, err := ssh.Dial("tcp", n.SSHAddr(), config)
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
		if err == nil {
			_ = client.Close()
		}
	}
	var got []bool
	for _, l := range c.Ledger().Logins {
		if l.Via != ViaSSH || l.User != user || l.Node != pub {
			t.Errorf("login %+v", l)
		}
		got = append(got, l.OK)
	}
	if !slices.Equal(got, []bool{true, true, false, true}) {
		t.Errorf("logins %v", got)
	}
}

func TestSession(t *testing.T) {
	n := start(t, nil).Node(pub)
	s := open(t, n, sshConfig(pass), 500)
	greeting := s.until("admin:")
	if !strings.HasPrefix(greeting, "Command Line Interface is starting up, please wait ...\r\n") ||
		!strings.Contains(greeting, "   Welcome to the Platform Command Line Interface\r\n") || !strings.HasSuffix(greeting, "\r\nadmin:") {
		t.Errorf("greeting is %q", greeting)
	}
	for _, test := range []struct{ command, want string }{
		{"", ""},
		{"show me", "No valid command entered\r\n"},
		{"utils service", "No valid command entered\r\n"},
		{"utils service list all", "No valid command entered\r\n"},
		{"utils service restart", "Executed command unsuccessfully\r\nMissing the name of the service\r\n"},
		{"utils service restart Cisco Foo", "Service Manager is running\r\nService [Cisco Foo] is invalid\r\n"},
		{"utils service restart cisco tomcat", "Service Manager is running\r\nService [cisco tomcat] is invalid\r\n"},
		{"  utils  service \t restart Cisco Tftp  ", "Do not press Ctrl+C while the service is restarting. If the service has not restarted properly, execute the same command again.\r\nService Manager is running\r\nCisco Tftp[STARTING]\r\nCisco Tftp[STARTED]\r\n"},
	} {
		typed := strings.ReplaceAll(test.command, "\t", "")
		s.send(test.command + "\r")
		s.until(typed + "\r\n")
		if got := strings.TrimSuffix(s.until("admin:"), "admin:"); got != test.want {
			t.Errorf("%q printed %q", test.command, got)
		}
	}
	s.send("exit\r")
	if rest := s.end(); rest != "exit\r\n" {
		t.Errorf("exit printed %q", rest)
	}
	if err := s.session.Wait(); err != nil {
		t.Errorf("exit ended with %v", err)
	}
}

func TestWaysToEndASession(t *testing.T) {
	n := start(t, nil).Node(pub)
	for _, text := range []string{"quit\n", "exit\r\n", "\x04"} {
		s := login(t, n)
		s.send(text)
		s.end()
		if err := s.session.Wait(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestEditing(t *testing.T) {
	n := start(t, nil).Node(pub)
	s := login(t, n)
	for typed, echo := range map[string]string{
		"abx\x7fc\r":       "abx\b \bc\r\n",
		"xyz\x15show\r":    "xyz\b \b\b \b\b \bshow\r\n",
		"a\x00\xff\x1bb\r": "ab\r\n",
	} {
		s.send(typed)
		if got := s.until("\r\n"); got != echo {
			t.Errorf("%q is echoed as %q", typed, got)
		}
		s.until("No valid command entered\r\nadmin:")
	}
	s.send("half\x03")
	s.until("^C\r\nadmin:")
}

func TestEchoWrapsAtTheWidth(t *testing.T) {
	n := start(t, nil).Node(pub)
	s := open(t, n, sshConfig(pass), 20)
	s.until("admin:")
	s.send("utils service restart Cisco Foo\r")
	// Six columns of prompt and fourteen of the line, then the rest.
	s.until("utils service  \rrestart Cisco Foo\r\n")
	s.until("Service [Cisco Foo] is invalid")
	s.until("admin:")
	// A window-change has no answer; that of the next request comes after it.
	if err := errors.Join(s.session.WindowChange(24, 200), s.session.Setenv("LANG", "C")); err != nil {
		t.Fatal(err)
	}
	s.run("utils service restart Cisco Foo")
}

func TestServiceList(t *testing.T) {
	c := start(t, nil)
	out := login(t, c.Node(pub)).run("utils service list")
	for _, want := range []string{
		"Service Manager is running\r\n", "Cisco Tomcat[STARTED]\r\n", "Cisco UDS Tomcat[STARTED]\r\n", "Cisco AXL Tomcat[STARTED]\r\n",
		"Cisco DRF Local[STARTED]\r\n", "Cisco DRF Master[STARTED]\r\n", "Cisco Tftp[STARTED]\r\n", "Cisco CallManager[STARTED]\r\n", "[STOPPED]  Service Not Activated\r\n", "Primary Node =true\r\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the publisher's list lacks %q", want)
		}
	}
	out = login(t, c.Node(imp)).run("utils service list")
	if !strings.Contains(out, "Cisco XCP Router[STARTED]") || strings.Contains(out, "DRF Master") || !strings.Contains(out, "Primary Node =false") {
		t.Errorf("the presence node lists %q", out)
	}
}

func TestPager(t *testing.T) {
	n := start(t, func(o *Options) { o.Behavior.PageLines = 10 }).Node(pub)
	const more = "Press <enter> for 1 line, <space> for one page, or <q> to quit"
	wipe := "\r" + strings.Repeat(" ", len(more)) + "\r"
	s := login(t, n)
	s.send("utils service list\r")
	s.until("utils service list\r\n")
	if got := strings.Count(s.until(more), "\r\n"); got != 10 {
		t.Errorf("the first page has %d lines", got)
	}
	s.send("x\r") // x is not an answer
	if got := s.until(more); !strings.HasPrefix(got, wipe) || strings.Count(got, "\r\n") != 1 {
		t.Errorf("enter gave %q", got)
	}
	s.send(" ")
	if got := s.until(more); strings.Count(got, "\r\n") != 10 {
		t.Errorf("space gave %q", got)
	}
	s.send("q")
	if got := s.until("admin:"); got != wipe+"admin:" {
		t.Errorf("q gave %q", got)
	}
	s.send("utils service list\r")
	s.until(more)
	for !strings.Contains(s.seen, "Primary Node") {
		s.send(" ")
		s.next()
	}
	s.until("admin:")
}

func TestSplitChunks(t *testing.T) {
	n := start(t, func(o *Options) { o.Behavior.ChunkSize, o.Behavior.ChunkDelay = 3, 2*time.Millisecond }).Node(pub)
	s := login(t, n)
	s.send("show me\r")
	var pieces []string
	for len(pieces) == 0 || !strings.HasSuffix(strings.Join(pieces, ""), "admin:") {
		before := len(s.seen)
		s.next()
		pieces = append(pieces, s.seen[before:])
	}
	if len(pieces) < 5 {
		t.Errorf("output came in %q", pieces)
	}
}

func TestSlowBannerAndPrompt(t *testing.T) {
	clock := clockwork.NewFakeClockAt(time.Now())
	n := start(t, func(o *Options) {
		o.Clock = clock
		o.Behavior.BannerDelay, o.Behavior.PromptDelay = 20*time.Second, time.Minute
	}).Node(pub)
	s := open(t, n, sshConfig(pass), 500)
	s.until("please wait ...")
	advance(t, clock, 20*time.Second)
	s.until("Welcome to the Platform Command Line Interface")
	s.send("utils service list\r") // typed ahead
	advance(t, clock, 59*time.Second)
	if strings.Contains(s.seen, "admin:") {
		t.Fatal("the prompt is too early")
	}
	advance(t, clock, time.Second)
	s.until("admin:utils service list\r\n")
	s.until("Primary Node")
	s.until("admin:")
}

func TestHostKey(t *testing.T) {
	n := start(t, nil).Node(pub)
	seen := func() string {
		var got string
		config := sshConfig(pass)
		config.HostKeyCallback = func(_ string, _ net.Addr, key ssh.PublicKey) error {
			got = ssh.FingerprintSHA256(key)
			return nil
		}
		client, err := ssh.Dial("tcp", n.SSHAddr(), config)
		if err != nil {
			t.Fatal(err)
		}
		_ = client.Close()
		return got
	}
	known := func() string {
		s, err := n.HostKeyFingerprint()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := seen()
	if first != known() || !strings.HasPrefix(first, "SHA256:") || seen() != first {
		t.Fatal("the host key has another fingerprint")
	}
	if err := n.ChangeHostKey(); err != nil {
		t.Fatal(err)
	}
	if second := seen(); second == first || second != known() {
		t.Fatal("the host key did not change")
	}
}

func TestLegacySSHOnly(t *testing.T) {
	n := start(t, func(o *Options) { o.Behavior.LegacySSHOnly = true }).Node(pub)
	if client, err := ssh.Dial("tcp", n.SSHAddr(), sshConfig(pass)); err == nil {
		_ = client.Close()
		t.Fatal("a modern client came in")
	}
	for _, kex := range []string{ssh.InsecureKeyExchangeDH14SHA1, ssh.InsecureKeyExchangeDHGEXSHA1} {
		config := sshConfig(pass)
		config.KeyExchanges = []string{kex}
		config.Ciphers = []string{ssh.InsecureCipherAES128CBC}
		config.MACs = []string{ssh.HMACSHA1}
		config.HostKeyAlgorithms = []string{ssh.KeyAlgoRSA}
		s := open(t, n, config, 500)
		s.until("admin:")
		s.run("utils service list")
	}
	config := sshConfig(pass)
	config.Ciphers = []string{ssh.InsecureCipherAES128CBC}
	config.HostKeyAlgorithms = []string{ssh.KeyAlgoRSASHA256}
	if _, err := ssh.Dial("tcp", n.SSHAddr(), config); err == nil {
		t.Fatal("a host key with SHA-2 was offered")
	}
}

func TestPrivilegeZeroCannotRestart(t *testing.T) {
	c := start(t, nil)
	config := sshConfig("look")
	config.User = "viewer"
	s := open(t, c.Node(pub), config, 500)
	s.until("admin:")
	s.run("utils service list")
	if out := s.run(restartTomcat); !strings.Contains(out, "privilege") || len(c.Ledger().Restarts) != 0 {
		t.Fatalf("restart printed %q", out)
	}
}

func TestThereIsNoExecAndNoForwarding(t *testing.T) {
	s := login(t, start(t, nil).Node(pub))
	session, err := s.client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Run("utils service list"); err == nil {
		t.Error("exec was served")
	}
	_, err = s.client.Dial("tcp", "127.0.0.1:1")
	if refused := (*ssh.OpenChannelError)(nil); !errors.As(err, &refused) {
		t.Errorf("forwarding gave %v", err)
	}
}

func TestSessionWithoutPTYHasNoEcho(t *testing.T) {
	n := start(t, nil).Node(pub)
	client, err := ssh.Dial("tcp", n.SSHAddr(), sshConfig(pass))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	session.Stdin = strings.NewReader("show me\nexit\n")
	var out strings.Builder
	session.Stdout = &out
	if err := errors.Join(session.Shell(), session.Wait()); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^admin:No valid command entered\r\nadmin:$`).MatchString(out.String()) {
		t.Fatalf("output %q", out.String())
	}
}

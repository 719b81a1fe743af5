package cucmtest

import (
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// console is an SSH session whose output is read in the background.
type console struct {
	t       testing.TB
	client  *ssh.Client
	session *ssh.Session
	in      io.WriteCloser
	out     chan []byte
	seen    string
}

func sshConfig(password string) *ssh.ClientConfig {
	return &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.Password(password)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // host keys have a test of their own
		Timeout:         10 * time.Second,
	}
}

// open logs in and starts a shell without waiting for its prompt.
func open(t testing.TB, n *Node, config *ssh.ClientConfig, width int) *console {
	t.Helper()
	client, err := ssh.Dial("tcp", n.SSHAddr(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	c := &console{t: t, client: client, session: session, out: make(chan []byte, 1000)}
	if c.in, err = session.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.RequestPty("vt100", 24, width, nil); err != nil {
		t.Fatal(err)
	}
	if err := session.Shell(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.out)
		for {
			piece := make([]byte, 4096)
			k, err := out.Read(piece)
			if k > 0 {
				c.out <- piece[:k]
			}
			if err != nil {
				return
			}
		}
	}()
	return c
}

// login opens a wide terminal and waits for the prompt.
func login(t testing.TB, n *Node) *console {
	t.Helper()
	c := open(t, n, sshConfig(pass), 500)
	c.until("admin:")
	return c
}

func (c *console) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, text); err != nil {
		c.t.Fatal(err)
	}
}

// next returns more output; false at its end.
func (c *console) next() bool {
	c.t.Helper()
	select {
	case piece, ok := <-c.out:
		c.seen += string(piece)
		return ok
	case <-time.After(10 * time.Second):
		c.t.Fatalf("no more output after %q", c.seen)
		return false
	}
}

// until waits for words and returns what came up to and with them.
func (c *console) until(words string) string {
	c.t.Helper()
	for {
		if i := strings.Index(c.seen, words); i >= 0 {
			out := c.seen[:i+len(words)]
			c.seen = c.seen[i+len(words):]
			return out
		}
		if !c.next() {
			c.t.Fatalf("output ended at %q, want %q", c.seen, words)
		}
	}
}

// end waits for the end of the output and returns the rest.
func (c *console) end() string {
	c.t.Helper()
	for c.next() {
	}
	return c.seen
}

// run types a command and returns its output up to the next prompt.
func (c *console) run(command string) string {
	c.t.Helper()
	c.send(command + "\r")
	c.until(command + "\r\n")
	return strings.TrimSuffix(c.until("admin:"), "admin:")
}

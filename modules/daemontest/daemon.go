// Package daemontest runs third-party servers for tests: on a loopback port, in a
// folder of their own and as the test's user. A server that is not installed skips the
// test, with the name of what has it.
package daemontest

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is how long something is awaited that should take a moment.
const Patience = 60 * time.Second

// Program returns the path of a server's program: on the PATH, where Debian puts
// servers, or in a folder of dirs. source says what has it, such as "Debian's package
// bind9".
func Program(t testing.TB, name, source string, dirs ...string) string {
	t.Helper()
	dirs = append(dirs, append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin")...)
	for _, dir := range dirs {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && !info.IsDir() {
			return filepath.Join(dir, name)
		}
	}
	t.Skipf("%s is not installed: %s has it", name, source)
	return ""
}

// Daemon is a server, or the place of one that is still to be started.
type Daemon struct {
	Port string // free for UDP and TCP on 127.0.0.1 when New returned
	Dir  string // its files

	t     testing.TB
	mu    sync.Mutex
	log   bytes.Buffer
	more  chan struct{} // closed and replaced with each line
	ended bool
}

// New takes a port and a folder.
func New(t testing.TB) *Daemon {
	t.Helper()
	var listen net.ListenConfig
	for range 20 {
		l, err := listen.Listen(t.Context(), "tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		pc, err := listen.ListenPacket(t.Context(), "udp4", l.Addr().String())
		_ = l.Close()
		if err != nil {
			continue
		}
		_ = pc.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		return &Daemon{t: t, Port: port, Dir: t.TempDir(), more: make(chan struct{})}
	}
	t.Fatal("no port is free for UDP and TCP")
	return nil
}

// Addr is where it listens, host:port.
func (d *Daemon) Addr() string { return net.JoinHostPort("127.0.0.1", d.Port) }

// Write writes a file into its folder and returns the path.
func (d *Daemon) Write(name, text string) string {
	d.t.Helper()
	path := filepath.Join(d.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// Run starts the program in its folder; it ends with the test, and a test that fails
// logs what it wrote to standard error.
func (d *Daemon) Run(path string, args ...string) {
	d.t.Helper()
	cmd := exec.Command(path, args...) //nolint:noctx // the clean-up ends it
	cmd.Dir, cmd.Env = d.Dir, append(os.Environ(), "HOME="+d.Dir)
	out, err := cmd.StderrPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			d.note(lines.Text(), false)
		}
		d.note("", true)
	}()
	d.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
		if d.t.Failed() {
			d.t.Logf("%s on port %s:\n%s", filepath.Base(path), d.Port, d.log.String())
		}
	})
}

func (d *Daemon) note(line string, ended bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log.WriteString(line + "\n")
	d.ended = d.ended || ended
	close(d.more)
	d.more = make(chan struct{})
}

// Says waits for words in its log.
func (d *Daemon) Says(words string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), Patience)
	defer cancel()
	for {
		d.mu.Lock()
		found, ended, more := strings.Contains(d.log.String(), words), d.ended, d.more
		d.mu.Unlock()
		switch {
		case found:
			return
		case ended:
			d.t.Fatalf("it ended without logging %q", words)
		}
		select {
		case <-more:
		case <-ctx.Done():
			d.t.Fatalf("it does not log %q", words)
		}
	}
}

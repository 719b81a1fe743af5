package systest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// terminal opens a terminal of so many columns: what a person types into and sees,
// and what a program is given.
func terminal(t *testing.T, columns uint16) (person, tty *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return person, tty
}

// onTerminal starts moonseal on a terminal. What it shows is whole once it has ended.
func (s *site) onTerminal(columns uint16, args ...string) (cmd *exec.Cmd, person *os.File, shown func() string) {
	s.t.Helper()
	person, tty := terminal(s.t, columns)
	cmd = exec.CommandContext(s.t.Context(), program, append(args, "--config", s.config())...)
	cmd.Env = s.environ()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	s.check(cmd.Start())
	s.check(tty.Close()) // the program's alone now: its end is the end of what is shown
	var out bytes.Buffer
	whole := make(chan struct{})
	go func() {
		defer close(whole)
		_, _ = io.Copy(&out, person)
	}()
	return cmd, person, func() string {
		<-whole
		return out.String()
	}
}

const clearLine = "\r\x1b[K"

// left returns what stands on the terminal in the end.
func left(shown string) string {
	var out strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(shown, "\r\n", "\n")) {
		if i := strings.LastIndex(line, clearLine); i >= 0 {
			line = line[i+len(clearLine):]
		}
		out.WriteString(strings.TrimPrefix(line, "^C"))
	}
	return out.String()
}

// The step that runs is one line that is written over: state, attempt and time, never
// wider than the terminal; what is left in the end is as in a pipe.
func TestTerminalShowsTheStepThatRuns(t *testing.T) {
	t.Parallel()
	const columns = 40
	s := newLabSite(t, 50*time.Millisecond)
	s.lab.add(fault{Call: "acme.new-order", Kind: failing})
	s.lab.add(fault{Call: "cucm.identity", Kind: delayed, Wait: 400 * time.Millisecond})
	cmd, _, shown := s.onTerminal(columns, "run", demoPlaybook, "--force")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, shown())
	}
	out := shown()
	for _, want := range []string{`checking_certificate +… 0\.[2-4] s`, `requesting_certificate +… [01]\.[0-9] s`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("never shown: %s\n%q", want, out)
		}
	}
	for _, line := range strings.Split(out, clearLine)[1:] {
		if text, _, ends := strings.Cut(line, "\r\n"); !ends && utf8.RuneCountInString(text) >= columns {
			t.Errorf("too wide to be written over: %q", text)
		}
	}
	rest := left(out)
	if strings.ContainsAny(rest, "\r\x1b") || strings.Contains(rest, "…") {
		t.Errorf("garbage is left:\n%q", rest)
	}
	if !regexp.MustCompile(`(?m)^  requesting_certificate +done  [0-9.]+ s  \(attempt 2\)$`).MatchString(rest) || !strings.Contains(rest, "completed                  done\n") {
		t.Errorf("left:\n%s", rest)
	}
}

// Ctrl-C on the terminal stops the run, and says how it continues; then it does.
func TestTerminalInterrupt(t *testing.T) {
	t.Parallel()
	s := newLabSite(t, 50*time.Millisecond)
	id := s.lab.add(fault{Call: "acme.new-order", Kind: holdBefore})
	cmd, person, shown := s.onTerminal(100, "run", demoPlaybook, "--force")
	s.lab.held(nil, id)
	if _, err := person.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	exit, ok := errors.AsType[*exec.ExitError](cmd.Wait())
	rest := left(shown())
	if !ok || exit.ExitCode() != exitFailed {
		t.Errorf("ended with %v", exit)
	}
	want := regexp.MustCompile(`(?m)^  requesting_certificate +interrupted  [0-9.]+ s\nmoonseal: interrupted\nhint: moonseal run cucm-tomcat continues from there$`)
	if !want.MatchString(rest) {
		t.Errorf("left:\n%s", rest)
	}
	s.lab.clear()
	s.run(exitDone)
	s.renewed()
}

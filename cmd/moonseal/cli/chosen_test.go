package cli

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"moonseal/runtime/journal"
)

// deciding are the command lines with which a person decides something.
func deciding(o *seededSite) []string {
	return []string{
		"approve =asks", "deny =asks", "resume =parked --as again", "cancel =waits", "cancel =again --retry", "unlock =holds",
		"cleanup retry", "cleanup retry =left", "cleanup forget =left", "pause", "pause waits", "unpause", "forget gone", "run ended", "run ended --now",
		"backup " + filepath.Join(o.dir, "copy.db"),
	}
}

// While another process has the state directory and its socket is dead, whatever changes
// something is refused with that process and that socket; what only reads works.
func TestStateInUse(t *testing.T) {
	o := newSeededSite(t)
	j, err := journal.Open(t.Context(), filepath.Join(o.dir, "state"), journal.Options{})
	o.check(err)
	defer func() { o.check(j.Close()) }()
	socket := filepath.Join(o.dir, "state", "moonseal.sock")
	l, err := net.Listen("unix", socket)
	o.check(err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	o.check(l.Close())

	refused := `moonseal: .*: the state (folder|directory) is in use by process ` + strconv.Itoa(os.Getpid()) +
		`, and no daemon answers on ` + regexp.QuoteMeta(socket) + `\nhint: .+\n$`
	for _, line := range deciding(o) {
		if code, said := o.types(line); code != exitFailed || !regexp.MustCompile(refused).MatchString(said) {
			t.Errorf("moonseal %s: exit code %d, said\n%s\nwant %d and\n%s", line, code, said, exitFailed, refused)
		}
	}
	if _, err := os.Stat(filepath.Join(o.dir, "copy.db")); err == nil {
		t.Error("a backup that was refused left a file")
	}
	for line, want := range map[string]string{
		"runs": "=waits +waits +waiting", "logs =waits": "^$", "cleanup list": "=left +_acme-challenge", "secret test": "^$", "check": "8 playbooks ok",
		"doctor": "(?m)^ok   daemon  not running$",
	} {
		if code, said := o.types(line); code != exitDone || !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("moonseal %s: exit code %d, said\n%s\nwant 0 and %s", line, code, said, want)
		}
	}
	for _, line := range []string{"status", "reload"} {
		if code, said := o.types(line); code != exitFailed || !strings.Contains(said, "moonseal.sock: no daemon is running") {
			t.Errorf("moonseal %s: exit code %d, said %s", line, code, said)
		}
	}
}

// A process that accepts connections and answers none, such as a daemon that is stopped, is
// not waited for without end.
func TestSocketWithoutAnswer(t *testing.T) {
	t.Parallel()
	o := newSeededSite(t)
	j, err := journal.Open(t.Context(), filepath.Join(o.dir, "state"), journal.Options{})
	o.check(err)
	defer func() { o.check(j.Close()) }()
	l, err := net.Listen("unix", filepath.Join(o.dir, "state", "moonseal.sock"))
	o.check(err)
	defer func() { o.check(l.Close()) }()
	refused := `in use by process ` + strconv.Itoa(os.Getpid()) + `, and no daemon answers on `
	if code, said := o.types("pause"); code != exitFailed || !strings.Contains(said, refused) {
		t.Errorf("pause: exit code %d, said %s", code, said)
	}
	if code, said := o.types("runs"); code != exitDone || !strings.Contains(said, "=waits") {
		t.Errorf("runs: exit code %d, said %s", code, said)
	}
	if code, said := o.types("status"); code != exitFailed || !strings.Contains(said, "does not answer") {
		t.Errorf("status: exit code %d, said %s", code, said)
	}
}

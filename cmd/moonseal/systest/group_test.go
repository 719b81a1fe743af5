package systest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stranger is a user that owns nothing here, and has no group of its own.
const stranger = 54321

// member runs moonseal as a user who is in the socket's group and may read nothing
// of the state directory.
type member struct {
	s       *site
	program string
	gid     uint32
	dir     string // its home
}

// otherGroup is a group that this machine has, and that root is not in by itself.
func otherGroup(t *testing.T) *user.Group {
	t.Helper()
	for _, id := range []string{"1", "2", "3", "65534"} {
		if g, err := user.LookupGroupId(id); err == nil {
			return g
		}
	}
	t.Skip("this machine has no groups")
	return nil
}

func newMember(t *testing.T, s *site, g *user.Group) *member {
	t.Helper()
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	s.check(err)
	m := &member{s: s, gid: uint32(gid), dir: t.TempDir()}
	m.program = filepath.Join(m.dir, "moonseal")
	body, err := os.ReadFile(program)
	s.check(err)
	s.check(os.WriteFile(m.program, body, 0o755))
	s.check(os.Chown(m.dir, stranger, stranger))
	for _, dir := range []string{m.dir, s.dir} { // the way there
		for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			s.check(os.Chmod(dir, 0o755))
		}
	}
	return m
}

// moonseal runs a command to its end.
func (m *member) moonseal(want int, args ...string) string {
	m.s.t.Helper()
	cmd := exec.Command(m.program, append(args, "--config", m.s.config())...)
	cmd.Dir = m.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir, "SUDO_USER=nobody-special", raceVariable + "=" + os.Getenv(raceVariable)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger, Groups: []uint32{m.gid}}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.s.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		m.s.t.Errorf("moonseal %s: exit code %d, want %d:\n%s", strings.Join(args, " "), got, want, out.String())
	}
	return out.String()
}

// says runs a command that must succeed and print the words.
func (m *member) says(what string, args ...string) {
	m.s.t.Helper()
	if out := m.moonseal(exitDone, args...); !strings.Contains(out, what) {
		m.s.t.Errorf("moonseal %s does not say %q:\n%s", strings.Join(args, " "), what, out)
	}
}

// A member of the socket's group works with the daemon as its owner does, without
// sudo and without the journal's file; and the daemon's log names who it was.
func TestGroupMember(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	t.Parallel()
	s := newLabSite(t, 50*time.Millisecond)
	g := otherGroup(t)
	run := filepath.Join(t.TempDir(), "run")
	s.check(os.Mkdir(run, 0o755))
	m := newMember(t, s, g)
	for dir := run; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		s.check(os.Chmod(dir, 0o755))
	}
	s.check(os.Chmod(s.config(), 0o644))
	s.configure(fmt.Sprintf("listen: { socket: %s, group: %s }\n", filepath.Join(run, "s"), g.Name))
	s.check(os.Chmod(s.config(), 0o644))
	s.script("ask", `return playbook { name = "ask", run = function(ctx) ctx:approve "go?" end }`)
	d := s.serve()

	m.says(demoPlaybook, "status")
	m.says(`"name":"ask"`, "status", "--json")
	m.says("no runs", "runs")
	m.says("scheduled runs are paused", "pause", "ask")
	m.says("scheduled runs are resumed", "unpause", "ask")
	m.says("nothing to change", "reload")
	m.says("nothing is left to clean up", "cleanup", "list")
	m.says("2 playbooks ok", "check")
	m.says("CF_API_TOKEN", "secret", "test") // though it may not read the scripts
	s.check(os.Chmod(filepath.Join(s.dir, "ca.pem"), 0o644))
	m.says("accepts the login", "doctor")

	// What cannot be cleaned up: tried again, and forgotten.
	s.lab.add(fault{Call: "dns.cloudflare.delete", Kind: failing, Code: 403, Times: -1})
	m.says("completed", "run", demoPlaybook)
	id := s.lastRun()
	m.says(id, "runs")
	m.says("run done", "logs", id)
	m.says("_acme-challenge", "cleanup", "list")
	m.moonseal(exitFailed, "cleanup", "retry")
	s.lab.clear()
	m.says("is cleaned up", "cleanup", "retry", id)
	s.lab.add(fault{Call: "dns.cloudflare.delete", Kind: failing, Code: 403, Times: -1})
	m.says("completed", "run", demoPlaybook, "--force")
	id = s.lastRun()
	m.says("forgot _acme-challenge", "cleanup", "forget", id)
	s.lab.clear()

	m.moonseal(exitWaiting, "run", "ask")
	id = s.lastRun()
	m.says("is approved", "approve", id, "--ticket", "CHG1")
	d.is(id, "done")
	m.moonseal(exitWaiting, "run", "ask")
	m.says("is cancelled", "cancel", s.lastRun())
	copied := filepath.Join(m.dir, "copy.db")
	m.says("the journal is copied", "backup", copied)
	if info, err := os.Stat(copied); err != nil || info.Sys().(*syscall.Stat_t).Uid != stranger {
		t.Errorf("the copy: %v, %v", info, err)
	}
	m.moonseal(exitFailed, "cancel", id) // refused, and on record

	// Root is named by the user behind sudo; no other user can claim to be another.
	s.env["SUDO_USER"] = "alice"
	for _, args := range [][]string{{"pause"}, {"unpause"}, {"reload"}, {"run", demoPlaybook}} {
		s.moonseal(exitDone, args...)
	}
	delete(s.env, "SUDO_USER") // it is no secret
	d.signal(syscall.SIGTERM)
	d.stops(exitDone)
	log := d.out.String()
	for _, verb := range []string{"/pause", "/reload", "/run", "/cancel", "/approve", "/cleanup"} {
		if !strings.Contains(log, verb+` by="uid 54321"`) {
			t.Errorf("the log does not say who requested %s:\n%s", verb, log)
		}
	}
	if !strings.Contains(log, `msg="request refused" what=/runs/`+id+`/cancel by="uid 54321"`) {
		t.Errorf("the log does not say who was refused:\n%s", log)
	}
	for _, verb := range []string{"/pause", "/reload", "/run"} {
		if !strings.Contains(log, "what="+verb+` by="alice (as root)"`) {
			t.Errorf("the log does not name who was behind sudo at %s:\n%s", verb, log)
		}
	}
	if strings.Contains(log, "nobody-special") {
		t.Error("the log believes what a user claims")
	}
}

// lastRun returns the latest run.
func (s *site) lastRun() string {
	s.t.Helper()
	j := s.journal()
	defer j.close()
	runs := j.runs()
	if len(runs) == 0 {
		s.t.Fatal("there is no run")
	}
	return runs[0].ID
}

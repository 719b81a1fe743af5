package cli

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

	"moonseal/modules/faults"
	"moonseal/runtime/journal"
)

// stranger is a user who owns nothing here, and is in no group of his own.
const stranger = 54321

// member runs moonseal as a user who is in the socket's group and may read nothing
// of the state folder.
type member struct {
	w       *world
	program string
	gid     uint32
	dir     string // his own
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

func newMember(t *testing.T, w *world, g *user.Group) *member {
	t.Helper()
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	w.check(err)
	m := &member{w: w, gid: uint32(gid), dir: t.TempDir()}
	m.program = filepath.Join(m.dir, "moonseal")
	exe, err := os.Executable()
	w.check(err)
	body, err := os.ReadFile(exe)
	w.check(err)
	w.check(os.WriteFile(m.program, body, 0o755))
	w.check(os.Chown(m.dir, stranger, stranger))
	for _, dir := range []string{m.dir, w.dir} { // the way there
		for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			w.check(os.Chmod(dir, 0o755))
		}
	}
	return m
}

// moonseal runs a command to its end.
func (m *member) moonseal(want int, args ...string) string {
	m.w.t.Helper()
	cmd := exec.Command(m.program, append(args, "--config", m.w.config())...)
	cmd.Dir = m.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir, "SUDO_USER=nobody-special", raceVariable + "=" + os.Getenv(raceVariable)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger, Groups: []uint32{m.gid}}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.w.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		m.w.t.Errorf("moonseal %s: exit code %d, want %d:\n%s", strings.Join(args, " "), got, want, out.String())
	}
	return out.String()
}

// says runs a command that has to end well and say something.
func (m *member) says(what string, args ...string) {
	m.w.t.Helper()
	if out := m.moonseal(exitDone, args...); !strings.Contains(out, what) {
		m.w.t.Errorf("moonseal %s does not say %q:\n%s", strings.Join(args, " "), what, out)
	}
}

// Whoever is in the socket's group works with the daemon as its owner does, without
// sudo and without the journal's file; and the daemon's log names who it was.
func TestGroupMember(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	t.Parallel()
	w := startWorld(t)
	g := otherGroup(t)
	run := filepath.Join(t.TempDir(), "run")
	w.check(os.Mkdir(run, 0o755))
	m := newMember(t, w, g)
	for dir := run; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		w.check(os.Chmod(dir, 0o755))
	}
	w.check(os.Chmod(w.config(), 0o644))
	w.configure(fmt.Sprintf("listen: { socket: %s, group: %s }\n", filepath.Join(run, "s"), g.Name))
	w.check(os.Chmod(w.config(), 0o644))
	w.script("ask", `return playbook { name = "ask", run = function(ctx) ctx:approve "go?" end }`)
	d := w.serve()

	m.says(demoPlaybook, "status")
	m.says(`"name":"ask"`, "status", "--json")
	m.says("no runs", "runs")
	m.says("scheduled runs are paused", "pause", "ask")
	m.says("scheduled runs are resumed", "unpause", "ask")
	m.says("nothing to change", "reload")
	m.says("nothing is left to clean up", "cleanup", "list")
	m.says("2 playbooks ok", "check")
	m.says("CF_API_TOKEN", "secret", "test") // though the scripts are not his to read
	w.check(os.Chmod(filepath.Join(w.dir, "ca.pem"), 0o644))
	m.says("takes the login", "doctor")

	// What cannot be cleaned up: tried again, and forgotten.
	w.fault(faults.Fault{Call: "dns.cloudflare.delete", Kind: faults.Status, Code: 403, Times: -1})
	m.says("completed", "run", demoPlaybook)
	id := w.lastRun(d.state)
	m.says(id, "runs")
	m.says("run done", "logs", id)
	m.says("_acme-challenge", "cleanup", "list")
	m.moonseal(exitFailed, "cleanup", "retry")
	w.clearFaults()
	m.says("is cleaned up", "cleanup", "retry", id)
	w.fault(faults.Fault{Call: "dns.cloudflare.delete", Kind: faults.Status, Code: 403, Times: -1})
	m.says("completed", "run", demoPlaybook, "--force")
	id = w.lastRun(d.state)
	m.says("forgot _acme-challenge", "cleanup", "forget", id)
	w.clearFaults()

	m.moonseal(exitWaiting, "run", "ask")
	id = w.lastRun(d.state)
	m.says("is approved", "approve", id, "--ticket", "CHG1")
	d.is(id, journal.Done)
	m.moonseal(exitWaiting, "run", "ask")
	m.says("is cancelled", "cancel", w.lastRun(d.state))
	copied := filepath.Join(m.dir, "copy.db")
	m.says("the journal is copied", "backup", copied)
	if info, err := os.Stat(copied); err != nil || uidOf(info) != stranger {
		t.Errorf("the copy: %v, %v", info, err)
	}
	m.moonseal(exitFailed, "cancel", id) // refused, and on record

	// Root is named by who is behind sudo; nobody else can say that he is another.
	w.env["SUDO_USER"] = "alice"
	for _, args := range [][]string{{"pause"}, {"unpause"}, {"reload"}, {"run", demoPlaybook}} {
		w.moonseal(exitDone, args...)
	}
	delete(w.env, "SUDO_USER") // it is no secret
	w.check(d.cmd.Process.Signal(syscall.SIGTERM))
	d.process.wait()
	log := d.out.String()
	for _, verb := range []string{"/pause", "/reload", "/run", "/cancel", "/approve", "/cleanup"} {
		if !strings.Contains(log, verb+` by="uid 54321"`) {
			t.Errorf("the log does not say who asked for %s:\n%s", verb, log)
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
		t.Error("the log believes what a user says of himself")
	}
}

// lastRun returns the latest run.
func (w *world) lastRun(state string) string {
	w.t.Helper()
	j, err := journal.OpenReadOnly(w.t.Context(), state)
	w.check(err)
	defer func() { w.check(j.Close()) }()
	runs, err := j.Runs(w.t.Context(), journal.Filter{Limit: 1})
	w.check(err)
	if len(runs) == 0 {
		w.t.Fatal("there is no run")
	}
	return runs[0].ID
}

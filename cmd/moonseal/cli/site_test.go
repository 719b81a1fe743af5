package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"moonseal/modules/faults"
	"moonseal/modules/lab"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
)

// patience bounds everything that a test waits for.
const patience = 60 * time.Second

// site is a place where moonseal is at work: a folder with its config, scripts and state,
// and the environment that its processes have. A test has one of its own.
type site struct {
	t       *testing.T
	dir     string
	program string            // this test binary if empty
	lab     *lab.Client       // nil for a site that has no lab
	env     map[string]string // beside the PATH
	printed bytes.Buffer      // what all processes that have ended printed
}

// newSite returns a site without a lab, whose config has the lines too.
func newSite(t *testing.T, lines string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), env: map[string]string{}}
	s.check(os.MkdirAll(filepath.Join(s.dir, "scripts"), 0o755))
	s.check(os.WriteFile(s.config(), []byte("state: state\nscripts: scripts\n"+lines), 0o600))
	return s
}

// newLabSite returns a site with a lab in a process of its own. When the test ends, no
// secret may be in anything that was written.
func newLabSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.startLab()
	t.Cleanup(s.noSecrets)
	client, err := lab.Open(s.dir)
	s.check(err)
	s.lab = client
	s.readEnv()
	return s
}

// readEnv reads lab.env, and lets each run have one process, as it has outside of a lab.
func (s *site) readEnv() {
	s.t.Helper()
	s.check(os.WriteFile(s.config(), []byte(strings.Replace(read(s.t, s.config()), "replay: true\n", "", 1)), 0o600))
	s.env = map[string]string{}
	text, err := os.ReadFile(filepath.Join(s.dir, "lab.env"))
	s.check(err)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		s.env[name] = value
	}
}

func (s *site) startLab() {
	s.t.Helper()
	cmd := exec.Command(program(s.t), "lab", "--dir", s.dir, "--outage", "50ms")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	s.check(err)
	s.check(cmd.Start())
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
			s.t.Errorf("the lab ended: %v\n%s", err, stderr.String())
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "lab ready" {
			return
		}
	}
	s.t.Fatalf("the lab does not get ready: %v", lines.Err())
}

func (s *site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) config() string { return filepath.Join(s.dir, "moonseal.yaml") }

// program is this test binary under the name that makes it moonseal.
func program(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("moonseal")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// process is a moonseal that was started.
type process struct {
	s    *site
	cmd  *exec.Cmd
	out  bytes.Buffer // stdout and stderr
	done context.Context
	err  error
}

// start starts moonseal with the lab's secrets. kill is for the hook; see
// killVariable.
func (s *site) start(kill string, args ...string) *process {
	s.t.Helper()
	p := &process{s: s, cmd: exec.Command(cmp.Or(s.program, program(s.t)), args...)}
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), raceVariable + "=" + os.Getenv(raceVariable)}
	for name, value := range s.env {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	if kill != "" {
		p.cmd.Env = append(p.cmd.Env, killVariable+"="+kill)
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	s.check(p.cmd.Start())
	done, end := context.WithCancel(context.Background())
	p.done = done
	go func() {
		defer end()
		p.err = p.cmd.Wait()
	}()
	return p
}

// wait waits for the process's end and returns its exit code; minus the signal's
// number if one has ended it.
func (p *process) wait() int {
	p.s.t.Helper()
	late := time.AfterFunc(patience, func() { p.kill() })
	defer late.Stop()
	<-p.done.Done()
	p.s.printed.Write(p.out.Bytes())
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		p.s.t.Fatal(p.err)
	}
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return -int(status.Signal())
	}
	return status.ExitStatus()
}

// kill kills the process and its children as kill -9 does, all at once.
func (p *process) kill() {
	if p.done.Err() != nil {
		return // its number may be another process's by now
	}
	for _, pid := range append(p.children(), p.cmd.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// children returns the processes that p has started and that live.
func (p *process) children() []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var out []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		// pid (name) state ppid …; the name may hold anything.
		_, after, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ")
		fields := strings.Fields(after)
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && len(fields) > 1 && fields[0] != "Z" && fields[1] == strconv.Itoa(p.cmd.Process.Pid) {
			out = append(out, pid)
		}
	}
	return out
}

// run runs the playbook, or continues with it, to the process's end.
func (s *site) run(args ...string) (code int, out string) {
	s.t.Helper()
	p := s.start("", s.runArgs(args...)...)
	code = p.wait()
	return code, p.out.String()
}

func (s *site) runArgs(more ...string) []string {
	return append([]string{"run", demoPlaybook, "--config", s.config(), "--force"}, more...)
}

// mustRun is run, which must end with the exit code.
func (s *site) mustRun(code int) string {
	s.t.Helper()
	got, out := s.run()
	if got != code {
		s.t.Fatalf("exit code %d, want %d:\n%s", got, code, out)
	}
	return out
}

func (s *site) fault(f faults.Fault) int {
	s.t.Helper()
	id, err := s.lab.AddFault(s.t.Context(), f)
	s.check(err)
	return id
}

func (s *site) clearFaults() {
	s.t.Helper()
	s.check(s.lab.ClearFaults(s.t.Context()))
}

// heldOrDone waits until the fault holds a call of p, or p has ended: then it
// reports false.
func (s *site) heldOrDone(p *process, id int) bool {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	defer context.AfterFunc(p.done, cancel)()
	err := s.lab.WaitHeld(ctx, id)
	if err != nil && p.done.Err() == nil {
		p.kill()
		s.t.Fatalf("the call is not held: %v; exit code %d:\n%s", err, p.wait(), p.out.String())
	}
	return err == nil
}

// dropped waits until the fault holds nothing any more, because its client is gone.
func (s *site) dropped(id int) {
	s.t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		f, err := s.lab.Fault(s.t.Context(), id)
		s.check(err)
		if !f.Held {
			return
		}
		<-again.C
	}
}

func (s *site) ledger() *lab.Ledger {
	s.t.Helper()
	l, err := s.lab.Ledger(s.t.Context())
	s.check(err)
	return l
}

// script puts a script into the scripts folder, in place of one of that name.
func (s *site) script(name, text string) {
	s.t.Helper()
	s.check(os.WriteFile(filepath.Join(s.dir, "scripts", name+".lua"), []byte(text), 0o600))
}

// histories returns all runs as the journal has them, the latest first.
func (s *site) histories() []*journal.History {
	s.t.Helper()
	ctx := s.t.Context()
	cfg, err := config.Load(s.config(), os.Getenv)
	s.check(err)
	j, err := journal.OpenReadOnly(ctx, cfg.State)
	s.check(err)
	defer func() { s.check(j.Close()) }()
	runs, err := j.Runs(ctx, journal.Filter{})
	s.check(err)
	var out []*journal.History
	for _, r := range runs {
		h, err := j.History(ctx, r.ID)
		s.check(err)
		out = append(out, h)
	}
	return out
}

// restarts counts the restarts of each service of the demo's node.
func restarts(l *lab.Ledger) map[string]int {
	out := map[string]int{}
	for _, r := range l.Restarts {
		if r.Node == demoNode {
			out[r.Service]++
		}
	}
	return out
}

// renewed checks what every renewal must end with, however often it was
// interrupted: one certificate, uploaded once and served, no TXT record left,
// and none published twice.
func (s *site) renewed() *lab.Ledger {
	s.t.Helper()
	l := s.ledger()
	if len(l.Certificates) != 1 {
		s.t.Fatalf("%d certificates were issued, want 1", len(l.Certificates))
	}
	if got, want := l.Served[demoNode], l.Certificates[0].SHA256; got != want {
		s.t.Errorf("the node serves %s, want the issued %s", got, want)
	}
	s.uploadedOnce(l)
	if len(l.TXT.Present) > 0 {
		s.t.Errorf("TXT records are left: %v", l.TXT.Present)
	}
	var added []string
	for _, e := range l.TXT.History {
		if e.Action == "add" && slices.Contains(added, e.Value) {
			s.t.Errorf("the TXT record %s was published twice", e.Value)
		}
		added = append(added, e.Value)
	}
	return l
}

// uploadedOnce checks that the node took one certificate, and each issuer once.
func (s *site) uploadedOnce(l *lab.Ledger) {
	s.t.Helper()
	accepted := map[string]int{}
	for _, u := range l.Uploads {
		if !u.Accepted {
			continue
		}
		accepted[u.Kind]++
		accepted[u.SHA256]++
		if accepted[u.SHA256] > 1 {
			s.t.Errorf("%s %s was uploaded twice", u.Kind, u.SHA256)
		}
	}
	if accepted["identity"] != 1 || accepted["trust"] != 2 {
		s.t.Errorf("accepted uploads: %v, want 1 identity and 2 of trust", accepted)
	}
}

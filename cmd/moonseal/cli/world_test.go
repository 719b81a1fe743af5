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

// world is a lab in a process of its own, for one test.
type world struct {
	t       *testing.T
	dir     string
	program string // "" is this test binary
	lab     *lab.Client
	env     map[string]string // lab.env
	printed bytes.Buffer      // what all processes that have ended said
}

// startWorld starts a lab. When the test ends, no secret may be anywhere.
func startWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.startLab()
	t.Cleanup(w.noSecrets)
	client, err := lab.Open(w.dir)
	w.check(err)
	w.lab = client
	w.readEnv()
	return w
}

// readEnv reads lab.env. The world's runs have one process each.
func (w *world) readEnv() {
	w.t.Helper()
	w.check(os.WriteFile(w.config(), []byte(strings.Replace(read(w.t, w.config()), "replay: true\n", "", 1)), 0o600))
	w.env = map[string]string{}
	text, err := os.ReadFile(filepath.Join(w.dir, "lab.env"))
	w.check(err)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		w.env[name] = value
	}
}

func (w *world) startLab() {
	w.t.Helper()
	cmd := exec.Command(program(w.t), "lab", "--dir", w.dir, "--outage", "50ms")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	w.check(err)
	w.check(cmd.Start())
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
			w.t.Errorf("the lab ended: %v\n%s", err, stderr.String())
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "lab ready" {
			return
		}
	}
	w.t.Fatalf("the lab does not get ready: %v", lines.Err())
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) config() string { return filepath.Join(w.dir, "moonseal.yaml") }

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
	w    *world
	cmd  *exec.Cmd
	out  bytes.Buffer // stdout and stderr
	done context.Context
	err  error
}

// start starts moonseal with the lab's secrets. kill is for the hook; see
// killVariable.
func (w *world) start(kill string, args ...string) *process {
	w.t.Helper()
	p := &process{w: w, cmd: exec.Command(cmp.Or(w.program, program(w.t)), args...)}
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), raceVariable + "=" + os.Getenv(raceVariable)}
	for name, value := range w.env {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	if kill != "" {
		p.cmd.Env = append(p.cmd.Env, killVariable+"="+kill)
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	w.check(p.cmd.Start())
	done, end := context.WithCancel(context.Background())
	p.done = done
	go func() {
		defer end()
		p.err = p.cmd.Wait()
	}()
	return p
}

// wait waits for the process's end and returns its exit code; minus the signal's
// number where one has ended it.
func (p *process) wait() int {
	p.w.t.Helper()
	late := time.AfterFunc(patience, func() { p.kill() })
	defer late.Stop()
	<-p.done.Done()
	p.w.printed.Write(p.out.Bytes())
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		p.w.t.Fatal(p.err)
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
func (w *world) run(args ...string) (code int, out string) {
	w.t.Helper()
	p := w.start("", w.runArgs(args...)...)
	code = p.wait()
	return code, p.out.String()
}

func (w *world) runArgs(more ...string) []string {
	return append([]string{"run", demoPlaybook, "--config", w.config(), "--force"}, more...)
}

// mustRun is run, which must end with the exit code.
func (w *world) mustRun(code int) string {
	w.t.Helper()
	got, out := w.run()
	if got != code {
		w.t.Fatalf("exit code %d, want %d:\n%s", got, code, out)
	}
	return out
}

func (w *world) fault(f faults.Fault) int {
	w.t.Helper()
	id, err := w.lab.AddFault(w.t.Context(), f)
	w.check(err)
	return id
}

func (w *world) clearFaults() {
	w.t.Helper()
	w.check(w.lab.ClearFaults(w.t.Context()))
}

// heldOrDone waits until the fault holds a call of p, or p has ended: then it
// reports false.
func (w *world) heldOrDone(p *process, id int) bool {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	defer context.AfterFunc(p.done, cancel)()
	err := w.lab.WaitHeld(ctx, id)
	if err != nil && p.done.Err() == nil {
		p.kill()
		w.t.Fatalf("the call is not held: %v; exit code %d:\n%s", err, p.wait(), p.out.String())
	}
	return err == nil
}

// dropped waits until the fault holds nothing any more, because its client is gone.
func (w *world) dropped(id int) {
	w.t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		f, err := w.lab.Fault(w.t.Context(), id)
		w.check(err)
		if !f.Held {
			return
		}
		<-again.C
	}
}

func (w *world) ledger() *lab.Ledger {
	w.t.Helper()
	l, err := w.lab.Ledger(w.t.Context())
	w.check(err)
	return l
}

// script puts a script into the scripts folder, in place of one of that name.
func (w *world) script(name, text string) {
	w.t.Helper()
	w.check(os.WriteFile(filepath.Join(w.dir, "scripts", name+".lua"), []byte(text), 0o600))
}

// histories returns all runs as the journal has them, the latest first.
func (w *world) histories() []*journal.History {
	w.t.Helper()
	ctx := w.t.Context()
	cfg, err := config.Load(w.config(), os.Getenv)
	w.check(err)
	j, err := journal.OpenReadOnly(ctx, cfg.State)
	w.check(err)
	defer func() { w.check(j.Close()) }()
	runs, err := j.Runs(ctx, journal.Filter{})
	w.check(err)
	var out []*journal.History
	for _, r := range runs {
		h, err := j.History(ctx, r.ID)
		w.check(err)
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
func (w *world) renewed() *lab.Ledger {
	w.t.Helper()
	l := w.ledger()
	if len(l.Certificates) != 1 {
		w.t.Fatalf("%d certificates were issued, want 1", len(l.Certificates))
	}
	if got, want := l.Served[demoNode], l.Certificates[0].SHA256; got != want {
		w.t.Errorf("the node serves %s, want the issued %s", got, want)
	}
	w.uploadedOnce(l)
	if len(l.TXT.Present) > 0 {
		w.t.Errorf("TXT records are left: %v", l.TXT.Present)
	}
	var added []string
	for _, e := range l.TXT.History {
		if e.Action == "add" && slices.Contains(added, e.Value) {
			w.t.Errorf("the TXT record %s was published twice", e.Value)
		}
		added = append(added, e.Value)
	}
	return l
}

// uploadedOnce checks that the node took one certificate, and each issuer once.
func (w *world) uploadedOnce(l *lab.Ledger) {
	w.t.Helper()
	accepted := map[string]int{}
	for _, u := range l.Uploads {
		if !u.Accepted {
			continue
		}
		accepted[u.Kind]++
		accepted[u.SHA256]++
		if accepted[u.SHA256] > 1 {
			w.t.Errorf("%s %s was uploaded twice", u.Kind, u.SHA256)
		}
	}
	if accepted["identity"] != 1 || accepted["trust"] != 2 {
		w.t.Errorf("accepted uploads: %v, want 1 identity and 2 of trust", accepted)
	}
}

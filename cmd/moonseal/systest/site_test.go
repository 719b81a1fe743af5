package systest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// site is a place where moonseal is at work: a folder with its config, scripts and state,
// and the environment that its processes have. A test has one of its own.
type site struct {
	t       *testing.T
	dir     string
	env     map[string]string
	lab     *lab         // what its appliances, CA and DNS are; nil for a site that has none
	printed bytes.Buffer // what all processes that have ended printed
}

// newSite returns a site without a lab, whose config has the lines too.
func newSite(t *testing.T, lines string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), env: map[string]string{}}
	s.check(os.MkdirAll(filepath.Join(s.dir, "scripts"), 0o755))
	s.check(os.WriteFile(s.config(), []byte("state: state\nscripts: scripts\n"+lines), 0o600))
	return s
}

// newLabSite returns a site whose lab has these hosts, or the usual cluster of three. A
// restart of Cisco Tomcat takes as long as the outage. When the test ends, no secret may
// be in anything that was written.
func newLabSite(t *testing.T, outage time.Duration, hosts ...string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), env: map[string]string{}}
	s.lab = startLab(t, s.dir, outage, hosts)
	t.Cleanup(s.noSecrets)
	// Each run has one process, as it has outside of a lab.
	s.check(os.WriteFile(s.config(), []byte(strings.Replace(read(t, s.config()), "replay: true\n", "", 1)), 0o600))
	for line := range strings.Lines(read(t, filepath.Join(s.dir, "lab.env"))) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		s.env[name] = value
	}
	return s
}

func (s *site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) config() string { return filepath.Join(s.dir, "moonseal.yaml") }

// configure adds lines to the config.
func (s *site) configure(lines string) {
	s.t.Helper()
	text, err := os.ReadFile(s.config())
	s.check(err)
	s.check(os.WriteFile(s.config(), append(text, lines...), 0o600))
}

// settings returns the config's keys.
func (s *site) settings() (all map[string]any) {
	s.t.Helper()
	s.check(yaml.Unmarshal([]byte(read(s.t, s.config())), &all))
	return all
}

// set sets keys of the config.
func (s *site) set(keys map[string]any) {
	s.t.Helper()
	all := s.settings()
	maps.Copy(all, keys)
	text, err := yaml.Marshal(all)
	s.check(err)
	s.check(os.WriteFile(s.config(), text, 0o600))
}

// patient lets calls take long: a slow machine must not end a request that a fault holds,
// since its run would continue.
func (s *site) patient() {
	s.t.Helper()
	modules, _ := s.settings()["modules"].(map[string]any)
	for _, name := range []string{"acme", "cucm", "dns"} {
		settings, _ := modules[name].(map[string]any)
		if settings == nil {
			settings = map[string]any{}
		}
		settings["timeout"] = "10m"
		modules[name] = settings
	}
	s.set(map[string]any{"modules": modules})
}

// state is the state directory.
func (s *site) state() string {
	s.t.Helper()
	dir, _ := s.settings()["state"].(string)
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(s.dir, dir)
	}
	return dir
}

// script puts a script into the scripts folder, in place of one of that name.
func (s *site) script(name, text string) {
	s.t.Helper()
	s.check(os.WriteFile(filepath.Join(s.dir, "scripts", name+".lua"), []byte(text), 0o600))
}

// renewal is a playbook that renews the certificate of a host of the lab.
func renewal(host string) string {
	return fmt.Sprintf(`return require("moonseal.renew").tomcat {
  name = %q,
  node = { host = %q, domain = "automate.builders", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" },
  zone = { provider = "cloudflare", api_token = secret "CF_API_TOKEN" },
  ca = { directory = "letsencrypt", email = "admin@automate.builders" },
}
`, host, host)
}

// until waits until it is so, asking every few milliseconds.
func (s *site) until(what string, so func() bool) {
	s.t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	late := time.After(patience)
	for !so() {
		select {
		case <-again.C:
		case <-late:
			s.t.Fatalf("it never happens: %s", what)
		}
	}
}

// moonseal runs a command to its end, which must have the exit code.
func (s *site) moonseal(want int, args ...string) string {
	s.t.Helper()
	p := s.start(args...)
	if code := p.wait(); code != want {
		s.t.Fatalf("moonseal %s: exit code %d, want %d:\n%s", strings.Join(args, " "), code, want, p.out.String())
	}
	return p.out.String()
}

// process is a moonseal that was started.
type process struct {
	s    *site
	cmd  *exec.Cmd
	out  bytes.Buffer // stdout and stderr
	done context.Context
	err  error
}

// start starts moonseal with the site's config and environment.
func (s *site) start(args ...string) *process {
	s.t.Helper()
	p := &process{s: s, cmd: exec.Command(program, append(args, "--config", s.config())...)}
	p.cmd.Env = s.environ()
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

func (s *site) environ() []string {
	out := []string{"PATH=" + os.Getenv("PATH"), raceVariable + "=" + os.Getenv(raceVariable)}
	for name, value := range s.env {
		out = append(out, name+"="+value)
	}
	return out
}

// wait waits for the process's end and returns its exit code; minus the signal's number
// if a signal has ended it.
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

// signal sends the process a signal.
func (p *process) signal(sig os.Signal) {
	p.s.t.Helper()
	p.s.check(p.cmd.Process.Signal(sig))
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
		fields := statFields(path)
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && len(fields) > 1 && fields[0] != "Z" && fields[1] == strconv.Itoa(p.cmd.Process.Pid) {
			out = append(out, pid)
		}
	}
	return out
}

// child returns the one process that p has started and that lives.
func (p *process) child() int {
	p.s.t.Helper()
	children := p.children()
	if len(children) != 1 {
		p.s.t.Fatalf("%d children, want 1", len(children))
	}
	return children[0]
}

// alive reports whether there is such a process, and it is not a zombie.
func alive(pid int) bool {
	fields := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	return len(fields) > 0 && fields[0] != "Z"
}

// statFields returns the fields of /proc/PID/stat after "pid (name)", in which the name
// may hold anything: state, parent …; none if the process has ended.
func statFields(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

// demoPlaybook is the playbook that a lab's scripts folder has, and demoNode the node that
// it renews.
const (
	demoPlaybook = "cucm-tomcat"
	demoNode     = "cucm01-pub.automate.builders"
)

// startRun starts moonseal run of the demo's playbook, due or not.
func (s *site) startRun() *process {
	s.t.Helper()
	return s.start("run", demoPlaybook, "--force")
}

// run runs the demo's playbook, or continues with it, to the process's end.
func (s *site) run(code int) string {
	s.t.Helper()
	return s.moonseal(code, "run", demoPlaybook, "--force")
}

package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/sys/unix"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/worker"
)

type attack struct {
	What string `lua:"what" doc:"what to try"`
	On   string `lua:"on,optional" doc:"on what"`
}

// attempt is what a hostile script would do, had it Go: it tells how it went.
func attempt() *bind.Func {
	return &bind.Func{Name: "try", Doc: "x", Returns: "how it went", Example: "x", Impl: bind.Read(func(_ *bind.Call, _ *target, a *attack) (string, error) {
		switch a.What {
		case "read":
			_, err := os.ReadFile(a.On)
			return outcome(err), nil
		case "list":
			_, err := os.ReadDir(a.On)
			return outcome(err), nil
		case "write":
			return outcome(os.WriteFile(a.On, []byte("x"), 0o600)), nil
		case "remove":
			return outcome(os.Remove(a.On)), nil
		case "exec":
			_, err := syscall.ForkExec(a.On, []string{a.On}, &syscall.ProcAttr{})
			return outcome(err), nil
		case "kill":
			pid, err := strconv.Atoi(a.On)
			if err == nil {
				err = syscall.Kill(pid, syscall.SIGTERM)
			}
			return outcome(err), nil
		case "dial":
			conn, err := net.Dial("tcp", a.On)
			if err == nil {
				_ = conn.Close()
			}
			return outcome(err), nil
		case "open":
			return openFiles(), nil
		case "state":
			return state()
		}
		return "", errors.New("there is no such attack")
	})}
}

func outcome(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return fmt.Sprint(err)
}

// openFiles lists the descriptors that are open and that other programs inherit.
func openFiles() string {
	var open []string
	for fd := range 200 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			open = append(open, strconv.Itoa(fd))
		}
	}
	return strings.Join(open, " ")
}

func state() (string, error) {
	privileges, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	dumpable, err2 := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	text := fmt.Sprintf("no_new_privs=%d dumpable=%d leads=%t", privileges, dumpable, unix.Getpgrp() == os.Getpid())
	for _, what := range []int{unix.RLIMIT_CORE, unix.RLIMIT_FSIZE, unix.RLIMIT_NOFILE} {
		var limit unix.Rlimit
		err = errors.Join(err, unix.Getrlimit(what, &limit))
		text += fmt.Sprintf(" %d", limit.Max)
	}
	return text, errors.Join(err, err2)
}

// connect goes the way out that all modules go.
func connect() *bind.Func {
	type where struct {
		Addr string `lua:"addr" doc:"x"`
	}
	return &bind.Func{Name: "connect", Doc: "x", Returns: "true", Example: "x", Impl: bind.Read(func(c *bind.Call, _ *target, a *where) (bool, error) {
		conn, err := c.Network.Dial(c.Context, "tcp", a.Addr)
		if err != nil {
			return false, problem.Network(err)
		}
		return true, conn.Close()
	})}
}

// pause writes the process's id to the file, and returns when a file beside it is
// there that ends in .go.
func pause() *bind.Func {
	return &bind.Func{Name: "pause", Doc: "x", Returns: "the process", Example: "x", Impl: bind.Read(func(c *bind.Call, t *target, _ *none) (int, error) {
		if err := os.WriteFile(t.File+".pid", []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			return 0, err
		}
		for look := time.NewTicker(5 * time.Millisecond); ; {
			if _, err := os.Stat(t.File + ".go"); err == nil {
				return os.Getpid(), nil
			}
			select {
			case <-look.C:
			case <-c.Context.Done():
				return 0, context.Cause(c.Context)
			}
		}
	})}
}

// bystander is a run in a process of its own that is at work until it is let go.
type bystander struct {
	w    *world
	file string
	id   string
	done chan error
}

func (w *world) bystander() *bystander {
	b := &bystander{w: w, file: filepath.Join(w.dir, "beside"), done: make(chan error, 1)}
	src := fmt.Sprintf("local o = require(\"outside\").target { file = %q }\n"+
		`return playbook { run = function(ctx) ctx:step("beside", function() return o:pause() end) ctx:step("after", function() return o:append() end) end }`, b.file)
	job := worker.Job{Playbook: "beside", Files: map[string]string{"beside.lua": src}, State: w.journal.Dir()}
	go func() {
		out, err := w.parent.Begin(w.t.Context(), job, worker.Ask{}, func(id string) { b.id = id })
		if err == nil && out.Status != journal.Done {
			err = fmt.Errorf("the run beside is %s: %w", out.Status, out.Error)
		}
		b.done <- err
	}()
	select {
	case <-w.started("beside"):
	case err := <-b.done:
		w.t.Fatalf("the run beside did not begin: %v", err)
	}
	return b
}

// noticedNothing lets the run continue to its end, and looks whether it went through
// undisturbed.
func (b *bystander) noticedNothing() {
	t := b.w.t
	t.Helper()
	if err := os.WriteFile(b.file+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-b.done; err != nil || lines(b.file) != 1 {
		t.Errorf("%v, %d lines", err, lines(b.file))
	}
	h, err := b.w.journal.History(t.Context(), b.id)
	if err != nil || h.Run.Deaths != 0 || h.Steps[0].Deaths != 0 {
		t.Errorf("the run beside was disturbed: %+v, %v", h, err)
	}
}

func TestFatalErrorOfALibraryHurtsNobodyElse(t *testing.T) {
	w := newWorld(t)
	beside := w.bystander()
	out, id := w.run(`ctx:step("one", function() return o:fatal() end)`)
	if out.Status != journal.Parked || lines(w.file) != 3 || !strings.Contains(out.Reason, "a library that takes the process with it") || !strings.Contains(out.Reason, "step one") {
		t.Fatalf("%+v after %d", out, lines(w.file))
	}
	if r, err := w.journal.Run(t.Context(), id); err != nil || r.Status != journal.Parked || r.Reason == "" {
		t.Errorf("%+v, %v", r, err)
	}
	beside.noticedNothing()
}

func TestMemoryBombHurtsNobodyElse(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector does not start under a memory limit")
	}
	w := newWorld(t)
	e, _ := w.parent.Spawner.(worker.Exec)
	e.Limits.Memory = 256 << 20
	w.parent.Spawner = e
	beside := w.bystander()
	out, id := w.run(`ctx:step("bomb", function() local t = {} while true do t[#t + 1] = string.rep("x", 1000) .. #t end end)`)
	if out.Status != journal.Parked || !strings.Contains(out.Reason, "bomb") {
		t.Fatalf("%+v", out)
	}
	beside.noticedNothing()
	cancel := w.job("")
	cancel.Mode = run.Cancel
	if ended, err := w.parent.Resume(t.Context(), cancel, id); err != nil || ended.Status != journal.Cancelled {
		t.Fatalf("cancelled: %+v, %v", ended, err)
	}
	if out, _ := w.run(`ctx:step("one", function() return o:append() end)`); out.Status != journal.Done {
		t.Errorf("an ordinary script under the same limit: %+v", out)
	}
}

// A loop in Go that heeds no timeout ends with its process, and the run parks.
func TestEndlessLoopHurtsNobodyElse(t *testing.T) {
	w := newWorld(t)
	beside := w.bystander()
	out, _ := w.run(`ctx:step("one", { timeout = "50ms" }, function() return o:hang() end)`)
	if out.Status != journal.Parked || lines(w.file) != 3 || !strings.Contains(out.Reason, "outside.Target:hang did not return") {
		t.Fatalf("%+v after %d", out, lines(w.file))
	}
	beside.noticedNothing()
}

func TestEndlessLoopCanBeCancelled(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-w.started("one")
		cancel(run.ErrCancelled)
	}()
	out, err := w.parent.Begin(ctx, w.job(`ctx:step("one", function() return o:hang() end)`), worker.Ask{}, nil)
	if err != nil || out.Status != journal.Cancelled {
		t.Errorf("%+v, %v", out, err)
	}
}

// A stopped process holds up neither its parent, when that lets go of it, nor
// any other.
func TestStoppedProcessHurtsNoOther(t *testing.T) {
	w := newWorld(t)
	beside := w.bystander()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-w.started("one")
		text, err := os.ReadFile(w.file + ".pid")
		pid, err2 := strconv.Atoi(string(text))
		if err = errors.Join(err, err2); err == nil { // 0 would be this process's group
			err = syscall.Kill(pid, syscall.SIGSTOP)
		}
		if err != nil {
			t.Errorf("cannot stop %d: %v", pid, err)
		}
		cancel()
	}()
	if err := os.WriteFile(w.file+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.parent.Begin(ctx, w.job(`ctx:step("zero", function() return o:pause() end) ctx:step("one", function() while true do end end)`), worker.Ask{}, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	beside.noticedNothing()
}

// A stopped process keeps its run for a while only, and no longer once the run is
// cancelled; then the run continues in the next process.
func TestStoppedProcessIsReplaced(t *testing.T) {
	for name, cancels := range map[string]bool{"left alone": false, "cancelled": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			clock := clockwork.NewFakeClockAt(time.Now())
			w.parent.Clock = clock
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var id string
			ended := make(chan *run.Outcome, 1)
			go func() {
				out, err := w.parent.Begin(ctx, w.job(`ctx:step("zero", function() return o:pause() end) ctx:step("one", function() return o:append() end)`), worker.Ask{}, func(run string) { id = run })
				if err != nil {
					t.Error(err)
				}
				ended <- out
			}()
			<-w.started("zero")
			pid := w.paused()
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(w.file+".go", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			want := journal.Done
			if cancels {
				cancel(run.ErrCancelled)
				want = journal.Cancelled
			}
			out := w.passes(clock, pid, ended)
			if out == nil || out.Status != want {
				t.Fatalf("%+v", out)
			}
			h, err := w.journal.History(t.Context(), id)
			if err != nil || h.Steps[0].Deaths != 1 {
				t.Errorf("%+v, %v", h, err)
			}
			if text := w.logText(id); !strings.Contains(text, "it was stopped (SIGSTOP), and therefore killed") {
				t.Errorf("log:\n%s", text)
			}
			if alive(pid) {
				t.Error("the stopped process is still there")
			}
		})
	}
}

// alive reports whether there is such a process that has not ended.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // the name may hold anything
	return len(fields) > 0 && fields[0] != "Z"
}

// paused waits until a step has called pause, and returns its process.
func (w *world) paused() int {
	w.t.Helper()
	late := time.After(patience)
	for look := time.NewTicker(time.Millisecond); ; {
		select {
		case <-look.C:
		case <-late:
			w.t.Fatal("no step pauses")
		}
		text, err := os.ReadFile(w.file + ".pid")
		if err == nil && len(text) > 0 {
			pid, err := strconv.Atoi(string(text))
			if err != nil {
				w.t.Fatal(err)
			}
			return pid
		}
	}
}

// passes lets time pass until the process is gone, and no longer: the run's time is
// bounded too. Then it waits until the run has ended.
func (w *world) passes(clock *clockwork.FakeClock, pid int, ended <-chan *run.Outcome) *run.Outcome {
	w.t.Helper()
	late := time.After(patience)
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-tick.C:
			if alive(pid) {
				clock.Advance(5 * time.Second)
			}
		case out := <-ended:
			return out
		case <-late:
			w.t.Fatal("the run does not end")
		}
	}
}

// tries runs attacks in a child, each "what" or "what on", and returns how they went.
func (w *world) tries(attacks ...string) map[string]string {
	w.t.Helper()
	return w.triesAs("p", attacks...)
}

// triesAs is tries in a run of a playbook of that name.
func (w *world) triesAs(playbook string, attacks ...string) map[string]string {
	w.t.Helper()
	var body strings.Builder
	body.WriteString("ctx:step(\"one\", function()\nlocal out = {}\n")
	for _, a := range attacks {
		what, on, _ := strings.Cut(a, " ")
		fmt.Fprintf(&body, "out[%q] = o:try(%q, %q)\n", a, what, on)
	}
	job := w.job(body.String() + "return out\nend)")
	job.Files = map[string]string{playbook + ".lua": job.Files["p.lua"]}
	job.Playbook = playbook
	var id string
	out, err := w.parent.Begin(w.t.Context(), job, worker.Ask{}, func(run string) { id = run })
	if err != nil || out.Status != journal.Done {
		w.t.Fatalf("%+v, %v", out, err)
	}
	h, err := w.journal.History(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return decode(w.t, h.Steps[0].Result)
}

func TestFilesAreOutOfReach(t *testing.T) {
	if worker.LandlockABI() == 0 {
		t.Skip("this kernel has no Landlock: a run's process may reach what its user may")
	}
	w := newWorld(t)
	elsewhere := t.TempDir()
	own, other := filepath.Join(w.dir, "own"), filepath.Join(elsewhere, "other")
	database := filepath.Join(w.journal.Dir(), "moonseal.db")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	denied := syscall.EACCES.Error()
	want := map[string]string{
		"write " + own: "<nil>", "read " + own: "<nil>", "list " + w.dir: "<nil>", "remove " + own: "<nil>",
		"read /etc/hosts": "<nil>", "read /etc/passwd": denied, "list /": denied, "list /etc": denied, "list " + elsewhere: denied,
		"read " + other: denied, "write " + other: denied, "remove " + other: denied, "write " + other + "2": denied,
		"read " + database: denied, "write " + database: denied, "list " + w.journal.Dir(): denied,
	}
	if raceEnabled {
		delete(want, "list /") // it has /proc
	}
	order := []string{"write " + own, "read " + own, "list " + w.dir, "remove " + own}
	for a := range want {
		if !slices.Contains(order, a) {
			order = append(order, a)
		}
	}
	for a, got := range w.tries(order...) {
		if wanted, ok := want[a]; ok && got != wanted {
			t.Errorf("%s: %s, want %s", a, got, wanted)
		}
	}
}

// A tenant's run has the tenant's files, and no other's.
func TestFilesOfOtherTenantsAreOutOfReach(t *testing.T) {
	if worker.LandlockABI() == 0 {
		t.Skip("this kernel has no Landlock: a run's process may reach what its user may")
	}
	w := newWorld(t)
	own, other, top := filepath.Join(w.dir, "acme", "host", "own"), filepath.Join(w.dir, "globex", "host", "pins.json"), filepath.Join(w.dir, "_acme", "key")
	for _, file := range []string{other, top} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(own), 0o700); err != nil {
		t.Fatal(err)
	}
	denied := syscall.EACCES.Error()
	want := map[string]string{
		"write " + own: "<nil>", "read " + own: "<nil>", "list " + filepath.Join(w.dir, "acme"): "<nil>",
		"read " + other: denied, "write " + other: denied, "remove " + other: denied, "list " + filepath.Dir(other): denied,
		"read " + top: denied, "write " + top: denied, "list " + w.dir: denied, "write " + filepath.Join(w.dir, "new"): denied,
	}
	order := append([]string{"write " + own}, slices.Sorted(maps.Keys(want))...)
	got := w.triesAs("acme/p", order...)
	for a, wanted := range want {
		if got[a] != wanted {
			t.Errorf("%s: %s, want %s", a, got[a], wanted)
		}
	}
}

func TestNoProgramIsStarted(t *testing.T) {
	w := newWorld(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	beside := w.bystander()
	for a, got := range w.tries("exec "+shell, "exec "+exe, "exec /proc/self/exe") {
		if got != syscall.EPERM.Error() && got != syscall.EACCES.Error() {
			t.Errorf("%s: %s", a, got)
		}
	}
	beside.noticedNothing()
}

func TestOtherProcessesAreOutOfReach(t *testing.T) {
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	w := newWorld(t)
	alone, ok := w.parent.Spawner.(worker.Exec)
	if !ok {
		t.Fatal("the world's children are not processes")
	}
	alone.Jail = nil // as on a kernel whose Landlock lets signals out
	for name, spawner := range map[string]worker.Spawner{"with Landlock": w.parent.Spawner, "without": alone} {
		w.parent.Spawner = spawner
		for a, got := range w.tries("kill "+strconv.Itoa(other.Process.Pid), "kill "+strconv.Itoa(os.Getpid()), "kill 0") {
			if got != syscall.EPERM.Error() {
				t.Errorf("%s, %s: %s", name, a, got)
			}
		}
	}
}

func TestNetworkStays(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for a, got := range w.tries("dial " + l.Addr().String()) {
		if got != "<nil>" {
			t.Errorf("%s: %s", a, got)
		}
	}
}

// Not even a descriptor that this process inherited from a careless parent.
func TestOnlyThePairAndTheLockAreInherited(t *testing.T) {
	w := newWorld(t)
	fd, err := unix.Open("/etc/hosts", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	before, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := w.tries("open", "state")
	// The pair has been taken in: 5 is the lock.
	if got["open"] != "0 1 2 5" {
		t.Errorf("open: %s", got["open"])
	}
	if want := fmt.Sprintf("no_new_privs=1 dumpable=0 leads=true 0 %d 200", 64<<20); got["state"] != want {
		t.Errorf("got  %s\nwant %s", got["state"], want)
	}
	if privileges, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || privileges != before {
		t.Errorf("the parent's thread is confined too: %d, %v", privileges, err)
	}
}

func decode(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	var out map[string]string
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return out
}

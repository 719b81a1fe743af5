package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"moonseal/runtime/journal"
)

// Process is a started child.
type Process interface {
	Pair() net.Conn
	// Wait waits for the process's end and says how it ended, "" when it ended well.
	Wait() string
	Kill()
}

// Spawner starts children. lock is the run's, nil for a load; the child has it
// from then on.
type Spawner interface {
	Start(ctx context.Context, lock *journal.RunLock) (Process, error)
}

// PairFD is the descriptor of the pair in a child that [Exec] started.
const PairFD = 3

// Inherited is the child's end of the pair, in a process that [Exec] started.
//
// The process is sealed: it starts no program from then on, and nobody may look
// into its memory.
func Inherited() (net.Conn, error) {
	seal()
	f := os.NewFile(PairFD, "pair")
	defer func() { _ = f.Close() }()
	return net.FileConn(f)
}

// Exec starts children as processes.
type Exec struct {
	Path   string   // the program
	Args   []string // that make it a child
	Env    []string // all of it: nothing is inherited
	Limits Limits
	Jail   *Jail        // nil: none
	Groups *Groups      // nil: no cgroups
	Log    *slog.Logger // what the kernel does not give, at debug; may be nil
}

// Start implements [Spawner].
func (e Exec) Start(_ context.Context, lock *journal.RunLock) (Process, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "pair"), os.NewFile(uintptr(fds[1]), "pair")
	defer func() { _ = ours.Close() }()
	cmd := exec.Command(e.Path, e.Args...) //nolint:noctx // it ends with the pair, not with a context: see Parent
	// A run does one thing at a time: with one processor its process starts sooner,
	// and hands over to this one and back without waking a thread between.
	cmd.Env = append(slices.Clip(e.Env), "GOMAXPROCS=1")
	cmd.ExtraFiles = []*os.File{theirs}
	if lock != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, lock.File())
	}
	// A signal of the terminal is for the parent, which decides what the child does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = grace // whoever else has its stderr does not hold the parent up
	p := &process{cmd: cmd}
	cmd.Stderr = &p.stderr
	err = e.begin(cmd, lock != nil)
	_ = theirs.Close()
	if err != nil {
		return nil, fmt.Errorf("cannot start the run's process: %w", err)
	}
	// It does nothing before it has its job.
	p.group = e.Groups.add(cmd.Process.Pid, e.Limits)
	if err = e.Limits.apply(cmd.Process.Pid, p.group != nil); err == nil {
		p.pair, err = net.FileConn(ours)
	}
	if err == nil && lock != nil {
		err = lock.HandOver(cmd.Process.Pid)
	}
	if err != nil {
		p.Kill()
		_ = p.Wait()
		if p.pair != nil {
			_ = p.pair.Close()
		}
		return nil, err
	}
	return p, nil
}

type process struct {
	cmd    *exec.Cmd
	group  *group // nil: none
	pair   net.Conn
	stderr tail
}

func (p *process) Pair() net.Conn { return p.pair }

func (p *process) Kill() { _ = p.cmd.Process.Kill() }

func (p *process) Wait() string {
	err := p.cmd.Wait()
	outOfMemory := p.group.outOfMemory()
	p.group.remove()
	switch {
	case err == nil:
		return ""
	case outOfMemory:
		return "it wanted more memory than it may have"
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if how := p.stderr.fatal(); how != "" {
			return exit.Error() + ": " + how
		}
		return exit.Error()
	}
	return err.Error()
}

// tail keeps the beginning of what a child writes to its stderr: the Go
// runtime says first what it died of, and then much more.
type tail struct {
	mu   sync.Mutex
	head bytes.Buffer
}

const maxTail = 8 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := maxTail - t.head.Len(); room > 0 {
		t.head.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

// fatal gives the line that says what the process died of, "" if there is none.
func (t *tail) fatal() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := ""
	for line := range strings.Lines(t.head.String()) {
		line = strings.TrimSpace(line)
		if first == "" {
			first = line
		}
		if strings.HasPrefix(line, "fatal error:") || strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "runtime:") {
			return line
		}
	}
	return first
}

package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"moonseal/runtime/atomicfile"
	"moonseal/runtime/journal"
)

// Pair is one end of the connection between a child and its parent.
type Pair interface {
	io.ReadWriteCloser
	SetReadDeadline(at time.Time) error
	SetWriteDeadline(at time.Time) error
}

// Process is a started child.
type Process interface {
	Pair() Pair
	// Wait waits for the process's end and returns how it ended, "" if it succeeded.
	Wait() string
	Kill()
}

// Spawner starts children. lock is the run's, nil for a load; the child holds it from then
// on.
type Spawner interface {
	Start(ctx context.Context, lock *journal.RunLock) (Process, error)
}

// The descriptors of the pair in a child that [Exec] started.
const (
	fromParent = 3
	toParent   = 4
)

// pipes is a pair of pipes. With a socketpair the kernel would wake the sender too whenever
// the other side has read: twice in every step, for nothing.
type pipes struct{ in, out *os.File }

func (p *pipes) Read(b []byte) (int, error)          { return p.in.Read(b) }
func (p *pipes) Write(b []byte) (int, error)         { return p.out.Write(b) }
func (p *pipes) Close() error                        { return errors.Join(p.in.Close(), p.out.Close()) }
func (p *pipes) SetReadDeadline(at time.Time) error  { return p.in.SetReadDeadline(at) }
func (p *pipes) SetWriteDeadline(at time.Time) error { return p.out.SetWriteDeadline(at) }

// newPipes returns both ends of a pair.
func newPipes() (ours, theirs *pipes, err error) {
	ours, theirs = &pipes{}, &pipes{}
	if ours.in, theirs.out, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	if theirs.in, ours.out, err = os.Pipe(); err != nil {
		return nil, nil, errors.Join(err, ours.in.Close(), theirs.out.Close())
	}
	return ours, theirs, nil
}

// errNoParent is the error of a process that no [Exec] has started.
var errNoParent = errors.New("this process was not started by moonseal as a run's process")

// Inherited is the child's end of the pair, in a process that [Exec] started.
//
// The process is sealed: from then on it can start no program and, unless signals, signal
// no other process, and no other process can read its memory.
func Inherited(signals bool) (Pair, error) {
	seal(signals)
	for _, fd := range []int{fromParent, toParent} {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			return nil, errors.Join(errNoParent, err) // its starter uses these descriptors for something else
		}
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, err
		}
	}
	return &pipes{in: os.NewFile(fromParent, "from the parent"), out: os.NewFile(toParent, "to the parent")}, nil
}

// Self is the path of the program that this process runs, even if its file was replaced
// since: an upgrade must not change what a daemon starts.
const Self = "/proc/self/exe"

// Exec starts children as processes.
type Exec struct {
	Path   string   // the program; [Self] is the one that runs
	Name   string   // the program's name in lists of processes; Path unless set
	Args   []string // that make it a child
	Env    []string // all of it: nothing is inherited
	Limits Limits
	Jail   *Jail        // nil: none
	Groups *Groups      // nil: no cgroups
	Log    *slog.Logger // what the kernel does not support, at debug; may be nil

	tenant string // whose folders of the jail the children have
	reads  bool   // the children may read the folders that runs may change
}

// of returns an Exec for the runs of a tenant.
func (e Exec) of(tenant string) Exec {
	e.tenant = tenant
	return e
}

// reading returns an Exec whose children may read what runs may change.
func (e Exec) reading() Exec {
	e.reads = true
	return e
}

// makeFolders makes the folders that a tenant's run is confined to: the run itself cannot.
func (e Exec) makeFolders() error {
	if e.Jail == nil || e.tenant == "" {
		return nil
	}
	for _, dir := range e.Jail.of(e.tenant) {
		if err := atomicfile.MakeDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// Start implements [Spawner].
func (e Exec) Start(_ context.Context, lock *journal.RunLock) (Process, error) {
	if lock != nil {
		if err := e.makeFolders(); err != nil {
			return nil, err
		}
	}
	ours, theirs, err := newPipes()
	if err != nil {
		return nil, fmt.Errorf("cannot make the pipes to the run's process: %w", err)
	}
	cmd := exec.Command(e.Path, e.Args...) //nolint:noctx // it ends with the pair, not with a context: see Parent
	if e.Name != "" {
		cmd.Args[0] = e.Name
	}
	// A run does one thing at a time: with one processor its process starts sooner, and
	// switches to this one and back without waking a thread in between.
	cmd.Env = append(slices.Clip(e.Env), "GOMAXPROCS=1")
	cmd.ExtraFiles = []*os.File{theirs.in, theirs.out}
	if lock != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, lock.File())
	}
	// A signal of the terminal must reach the parent only, which decides what the child does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = grace // another process with its stderr open must not hold up the parent
	p := &process{cmd: cmd, pair: ours, memory: e.Limits.Memory}
	cmd.Stderr = &p.stderr
	err = e.startConfined(cmd, lock != nil)
	_ = theirs.Close()
	if err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("cannot start the run's process: %w", err)
	}
	// The child does nothing before it has its job.
	p.group = e.Groups.add(cmd.Process.Pid, e.Limits)
	if err = e.Limits.apply(cmd.Process.Pid, p.group != nil); err == nil && lock != nil {
		err = lock.HandOver(cmd.Process.Pid)
	}
	if err != nil {
		p.Kill()
		_ = p.Wait()
		_ = ours.Close()
		return nil, err
	}
	return p, nil
}

type process struct {
	cmd    *exec.Cmd
	group  *group // nil: none
	pair   *pipes
	memory int64 // its limit, in bytes; 0 for none
	stderr tail
}

func (p *process) Pair() Pair { return p.pair }

func (p *process) Kill() { _ = p.cmd.Process.Kill() }

func (p *process) Wait() string {
	err := p.cmd.Wait()
	outOfMemory := p.group.outOfMemory()
	p.group.remove()
	switch {
	case err == nil:
		return ""
	case outOfMemory:
		return p.tooMuch()
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		switch how := p.stderr.fatal(); {
		case p.memory > 0 && noMemory(how):
			return p.tooMuch()
		case how != "":
			return exit.Error() + ": " + how
		}
		return exit.Error()
	}
	return err.Error()
}

func (p *process) tooMuch() string {
	if p.memory == 0 {
		return "it needs more memory than the machine has"
	}
	return fmt.Sprintf("it needs more memory than limits.memory allows (%d MiB)", p.memory>>20)
}

// noMemory reports whether the last words of a process are those of a failed allocation:
// the Go runtime's, or those of the C library in the SQLite that is linked in.
func noMemory(line string) bool {
	return strings.Contains(line, "out of memory") || strings.Contains(line, "cannot allocate memory") || strings.Contains(line, "mustMalloc")
}

// tail keeps the beginning of what a child writes to its stderr: the Go runtime writes the
// cause first, and then much more.
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

// fatal returns the line with the cause of the process's death, "" if there is none.
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

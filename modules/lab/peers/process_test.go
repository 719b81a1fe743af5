package peers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cost is what a contestant needs for all certificates.
type cost struct{ wall, processor time.Duration }

// contestant is a process that is about to obtain the certificates.
type contestant interface {
	// obtain obtains them all but the first, which it has.
	obtain() (cost, error)
	stop() error
}

// peerProcess is this test binary as a peer.
type peerProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
	log bytes.Buffer
}

func startPeer(tb testing.TB, w *testbed, name string, csrs [][]byte) (*peerProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &peerProcess{cmd: exec.CommandContext(tb.Context(), self)}
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + tb.TempDir(), peerVariable + "=" + name}
	p.cmd.Stderr = &p.log
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	err = json.NewEncoder(p.in).Encode(task{
		Directory: w.ca.DirectoryURL(), Roots: w.roots(), Hosts: w.dns.Hosts(), Resolver: w.dns.Resolver(),
		Token: w.dns.Credentials().CloudflareToken, Folder: tb.TempDir(), CSRs: csrs,
	})
	if err == nil {
		err = p.await(ready)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, errors.Join(err, p.stop()))
	}
	return p, nil
}

func (p *peerProcess) await(want string) error {
	var got string
	if err := p.out.Decode(&got); err != nil || got != want {
		return fmt.Errorf("waiting for %q: got %q, %w", want, got, err)
	}
	return nil
}

func (p *peerProcess) obtain() (cost, error) {
	return measure(p.cmd.Process.Pid, func() error {
		if err := json.NewEncoder(p.in).Encode(start); err != nil {
			return err
		}
		return p.await(done)
	})
}

func (p *peerProcess) stop() error {
	_ = p.in.Close() // it may be gone
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, p.log.Bytes())
	}
	return nil
}

// measure returns what the process and its children need while do runs.
func measure(pid int, do func() error) (cost, error) {
	before, err := processor(pid)
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return cost{}, err
	}
	wall := time.Since(began)
	if err := reaped(pid); err != nil {
		return cost{}, err
	}
	after, err := processor(pid)
	return cost{wall, after - before}, err
}

// processor returns the processor time of a process and of the children that it has
// waited for: fields 14 to 17 of /proc/PID/stat, in hundredths of a second.
func processor(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	ticks := 0
	for _, field := range fields[11:15] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// reaped waits until the process has no children: only then is their time counted.
// The kernel offers no event for that to anyone but their parent.
func reaped(pid int) error {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for late := time.Now().Add(patience); ; <-again.C {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		if err != nil {
			return err
		}
		children := ""
		for _, path := range threads {
			text, err := os.ReadFile(path)
			if err != nil {
				continue // the thread has ended
			}
			children += string(text)
		}
		if children == "" {
			return nil
		}
		if time.Now().After(late) {
			return fmt.Errorf("process %d still has children: %s", pid, children)
		}
	}
}

// patience is how long anything may take that should take no time.
const patience = 30 * time.Second

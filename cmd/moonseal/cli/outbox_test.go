package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// reading is moonseal run with a reader of its output.
type reading struct {
	*site

	cmd *exec.Cmd
	out io.ReadCloser
}

// readRun starts a run of a playbook that prints as many lines.
func readRun(t *testing.T, lines int, args ...string) *reading {
	t.Helper()
	r := &reading{site: newSite(t, "")}
	r.script("long", fmt.Sprintf(`local log = require "log"
return playbook { run = function(ctx)
  for i = 1, %d do
    ctx:step("printing", { key = tostring(i) }, function() log.info(string.rep("x", 1000)) end)
  end
end }
`, lines))
	r.cmd = exec.Command(program(t), append([]string{"run", "long", "--config", r.config()}, args...)...)
	var err error
	r.out, err = r.cmd.StdoutPipe()
	r.check(err)
	r.check(r.cmd.Start())
	return r
}

// ended waits until the run has ended and its state is free: another run can begin.
func (r *reading) ended() {
	r.t.Helper()
	r.until("the run ends, though its output is not read", func() bool {
		out, err := exec.Command(program(r.t), "runs", "--json", "--config", r.config()).Output()
		return err == nil && strings.Contains(string(out), `"status":"done"`)
	})
	r.until("the state is free", func() bool {
		return exec.Command(program(r.t), "run", "long", "--config", r.config()).Run() == nil
	})
}

// Who reads a run's output stops reading, and reads on later: the run does not wait.
func TestReaderThatStopsReading(t *testing.T) {
	t.Parallel()
	r := readRun(t, 200) // more than a pipe holds
	r.ended()
	out, err := io.ReadAll(r.out)
	r.check(errors.Join(err, r.cmd.Wait()))
	if n := strings.Count(string(out), "printing[") - strings.Count(string(out), "left out"); n != 200 || !strings.Contains(string(out), "completed") {
		t.Errorf("%d steps of 200:\n%s", n, out)
	}
}

// Who reads a run's output goes away, as head does: the run continues to its end.
func TestReaderThatGoesAway(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--json"}} {
		r := readRun(t, 200, args...)
		if _, err := bufio.NewReader(r.out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		r.check(r.out.Close())
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("%v: %v", args, err)
		}
		r.ended()
	}
}

// heldWriter passes on what is written once it is let go.
type heldWriter struct {
	strings.Builder

	begun, free chan struct{}
	once        sync.Once
}

func (w *heldWriter) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.begun) })
	<-w.free
	return w.Builder.Write(p)
}

func TestOutboxSaysWhatIsLeftOut(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		w := &heldWriter{begun: make(chan struct{}), free: make(chan struct{})}
		o := newOutbox(w, leftOut(asJSON))
		line := strings.Repeat("x", 1023) + "\n"
		_, _ = io.WriteString(o, line)
		<-w.begun
		for range mostUnread/len(line) + 7 {
			_, _ = io.WriteString(o, line)
		}
		close(w.free)
		o.waitEmpty()
		_, _ = io.WriteString(o, "the end\n")
		o.close()
		out := w.String()
		if strings.Count(out, line) != mostUnread/len(line)+1 || !strings.Contains(out, "7 lines left out: the reader was too slow") || !strings.HasSuffix(out, "the end\n") {
			t.Errorf("%d lines, then %q", strings.Count(out, line), out[max(0, len(out)-200):])
		}
	}
}

// waitEmpty returns once there is room again.
func (o *outbox) waitEmpty() {
	for {
		o.mu.Lock()
		empty := len(o.waiting) == 0
		o.mu.Unlock()
		if empty {
			return
		}
		runtime.Gosched()
	}
}

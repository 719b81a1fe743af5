package cli

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/faults"
	"moonseal/modules/lab"
	"moonseal/runtime/journal"
)

// disk puts the state folder on a file system of its own, so many bytes large.
func (w *world) disk(size string) string {
	w.t.Helper()
	disk := filepath.Join(w.dir, "disk")
	w.check(os.Mkdir(disk, 0o700))
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		w.t.Skipf("no file system can be mounted here, so no disk can be full: %v", err)
	}
	w.t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	w.moveState(disk)
	return disk
}

// moveState makes to the state folder, with what the lab has put into it.
func (w *world) moveState(to string) {
	w.t.Helper()
	w.check(os.CopyFS(filepath.Join(to, "accounts"), os.DirFS(filepath.Join(w.dir, "state", "accounts"))))
	w.setConfig("state", to)
}

// fill leaves no room on the disk, until the function is called.
func (w *world) fill(disk string) (empty func()) {
	w.t.Helper()
	path := filepath.Join(disk, "filler")
	f, err := os.Create(path)
	w.check(err)
	for size := 1 << 20; size > 0; size /= 16 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			w.t.Fatal(err)
		}
	}
	w.check(f.Close())
	return func() { w.check(os.Remove(path)) }
}

// inbox is a service that alerts are sent to.
type inbox struct {
	mu   sync.Mutex
	mail []string
}

func (w *world) inbox() *inbox {
	w.t.Helper()
	in := &inbox{}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		in.mu.Lock()
		defer in.mu.Unlock()
		in.mail = append(in.mail, string(text))
	}))
	w.t.Cleanup(s.Close)
	w.env["ALERTS"] = "generic://" + s.Listener.Addr().String() + "?disabletls=yes"
	w.setConfig("alerts", map[string]any{"urls": []string{"ALERTS"}})
	return in
}

// count counts the messages that have all words.
func (in *inbox) count(words ...string) (n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, m := range in.mail {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(m, word) }) {
			n++
		}
	}
	return n
}

// A full disk stops all runs where they are, which is said at once to whoever looks
// and to whoever is told; with room again they continue by themselves.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	nodes := []cucmtest.NodeOptions{{Host: "one"}, {Host: "two"}, {Host: "three"}}
	w := newWorld(t, lab.Options{Nodes: nodes, Behavior: cucmtest.Behavior{RestartOutage: -1}, SpareKeys: len(nodes)})
	disk := w.disk("16m")
	in := w.inbox()
	for _, n := range nodes {
		w.renewal(n.Host)
	}
	d := w.serve()
	upload := w.fault(faults.Fault{Call: "cucm.upload-identity", Kind: faults.HoldAfter})
	runs := []string{d.begin("one")}
	w.held(d.process, upload)
	csr := w.fault(faults.Fault{Call: "cucm.csr", Kind: faults.HoldBefore})
	runs = append(runs, d.begin("two"))
	w.held(d.process, csr)
	empty := w.fill(disk)
	w.check(w.lab.Release(t.Context(), upload))
	w.check(w.lab.Release(t.Context(), csr))
	w.until("it is told", func() bool {
		return in.count("cannot write to the state directory", "the disk is full", "moonseal doctor") == 1
	})
	if out := w.moonseal(exitDone, "status"); !strings.HasPrefix(out, "cannot write to the state directory: journal: "+disk+"/moonseal.db: the disk is full\nhint: free some space") {
		t.Errorf("status: %s", out)
	}
	if out := w.moonseal(exitFailed, "run", "three", "--force"); !strings.Contains(out, "the disk is full\nhint: free some space") {
		t.Errorf("run: %s", out)
	}
	empty()
	for _, id := range runs {
		d.is(id, journal.Done)
	}
	w.until("it is over", func() bool { return in.count("the state directory can be written again") == 1 })
	if s, err := d.api.Status(t.Context()); err != nil || s.State != nil {
		t.Errorf("status: %+v, %v", s.State, err)
	}
	d.is(d.begin("three"), journal.Done)
	w.renewedEach(nodes)
	if l := w.ledger(); len(l.CSRs) != len(nodes) || len(l.Orders) != len(nodes) {
		t.Errorf("%d signing requests, %d orders", len(l.CSRs), len(l.Orders))
	}
	w.check(d.cmd.Process.Signal(syscall.SIGTERM))
	if code := d.process.wait(); code != exitDone || strings.Contains(d.out.String(), "panic") {
		t.Errorf("exit code %d:\n%s", code, d.out.String())
	}
	for _, line := range []string{"cannot write to the state directory: runs wait", "the state directory can be written again"} {
		if n := strings.Count(d.out.String(), line); n != 1 {
			t.Errorf("it says %d times %q:\n%s", n, line, d.out.String())
		}
	}

	// At the start it is said plainly, and nothing begins.
	empty = w.fill(disk)
	p := w.start("", "serve", "--config", w.config())
	if code, out := p.wait(), p.out.String(); code != exitFailed || !strings.Contains(out, "no space left on device") && !strings.Contains(out, "the disk is full") || !strings.Contains(out, "\nhint: free some space") {
		t.Errorf("exit code %d on a full disk:\n%s", code, out)
	}
	empty()
	w.check(unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	p = w.start("", "serve", "--config", w.config())
	if code, out := p.wait(), p.out.String(); code != exitUsage || !strings.Contains(out, disk) || !strings.Contains(out, "read-only file system") || !strings.Contains(out, "\nhint: ") {
		t.Errorf("exit code %d on a read-only disk:\n%s", code, out)
	}
}

// A disk that fails, and that the kernel lets nobody write to from then on. The
// daemon says so, and stops when it is told to; when the disk is mended it continues.
func TestDiskTurnsReadOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Nodes: []cucmtest.NodeOptions{{Host: "one"}}, Behavior: cucmtest.Behavior{RestartOutage: -1}})
	image := filepath.Join(w.dir, "image")
	w.check(os.WriteFile(image, nil, 0o600))
	w.check(os.Truncate(image, 32<<20))
	disk := filepath.Join(w.dir, "disk")
	w.check(os.Mkdir(disk, 0o700))
	w.orSkip("mkfs.ext4", "-q", image)
	w.orSkip("mount", "-o", "loop,errors=remount-ro", image, disk)
	t.Cleanup(func() {
		_ = exec.Command("umount", disk).Run()
		_ = os.Remove(image)
	})
	w.moveState(disk)
	in := w.inbox()
	w.renewal("one")
	w.setConfig("stop_timeout", "200ms")
	d := w.serve()
	upload := w.fault(faults.Fault{Call: "cucm.upload-identity", Kind: faults.HoldAfter})
	id := d.begin("one")
	w.held(d.process, upload)
	w.orSkip("mount", "-o", "remount,abort", disk)
	w.clearFaults()
	w.until("it is told", func() bool { return in.count("cannot write to the state directory", "moonseal doctor") == 1 })
	if s, err := d.api.Status(t.Context()); err != nil || s.State == nil || s.State.Hint == "" {
		t.Errorf("status: %+v, %v", s, err)
	}
	w.check(d.cmd.Process.Signal(syscall.SIGTERM))
	if code := d.process.wait(); strings.Contains(d.out.String(), "panic") {
		t.Errorf("exit code %d:\n%s", code, d.out.String())
	}
	w.orSkip("umount", disk)
	w.orSkip("mount", "-o", "loop", image, disk)
	d = w.serve()
	d.is(id, journal.Done)
	w.renewedEach([]cucmtest.NodeOptions{{Host: "one"}})
	d.kill()
	d.process.wait()
}

// orSkip runs a program that may not be there, or not be allowed here.
func (w *world) orSkip(name string, args ...string) {
	w.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		w.t.Skipf("no disk can fail here: %s %v: %v: %s", name, args, err, out)
	}
}

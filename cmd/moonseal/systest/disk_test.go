package systest

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
)

// disk puts the state directory on a file system of its own, so many bytes large.
func (s *site) disk(size string) string {
	s.t.Helper()
	disk := filepath.Join(s.dir, "disk")
	s.check(os.Mkdir(disk, 0o700))
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		s.t.Skipf("no file system can be mounted here, so no disk can be full: %v", err)
	}
	s.t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	s.moveState(disk)
	return disk
}

// moveState makes to the state directory, with what the lab has put into it.
func (s *site) moveState(to string) {
	s.t.Helper()
	s.check(os.CopyFS(filepath.Join(to, "accounts"), os.DirFS(filepath.Join(s.dir, "state", "accounts"))))
	s.set(map[string]any{"state": to})
}

// fill leaves no room on the disk, until the function is called.
func (s *site) fill(disk string) (empty func()) {
	s.t.Helper()
	path := filepath.Join(disk, "filler")
	f, err := os.Create(path)
	s.check(err)
	for size := 1 << 20; size > 0; size /= 16 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			s.t.Fatal(err)
		}
	}
	s.check(f.Close())
	return func() { s.check(os.Remove(path)) }
}

// inbox is a service that alerts are sent to.
type inbox struct {
	mu   sync.Mutex
	mail []string
}

func (s *site) inbox() *inbox {
	s.t.Helper()
	in := &inbox{}
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		in.mu.Lock()
		defer in.mu.Unlock()
		in.mail = append(in.mail, string(text))
	}))
	s.t.Cleanup(service.Close)
	s.env["ALERTS"] = "generic://" + service.Listener.Addr().String() + "?disabletls=yes"
	s.set(map[string]any{"alerts": map[string]any{"urls": []string{"ALERTS"}}})
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

// A full disk stops all runs where they are, which status and an alert report at once; with
// room again they continue by themselves.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	hosts := []string{"one", "two", "three"}
	s := newLabSite(t, noOutage, hosts...)
	disk := s.disk("16m")
	in := s.inbox()
	for _, host := range hosts {
		s.script(host, renewal(host))
	}
	d := s.serve()
	upload := s.lab.add(fault{Call: "cucm.upload-identity", Kind: holdAfter})
	runs := []string{d.begin("one")}
	s.lab.held(d.process, upload)
	csr := s.lab.add(fault{Call: "cucm.csr", Kind: holdBefore})
	runs = append(runs, d.begin("two"))
	s.lab.held(d.process, csr)
	empty := s.fill(disk)
	s.lab.release(upload)
	s.lab.release(csr)
	s.until("the alert arrives", func() bool {
		return in.count("cannot write to the state directory", "the disk is full", "moonseal doctor") == 1
	})
	if out := s.moonseal(exitDone, "status"); !strings.HasPrefix(out, "cannot write to the state directory: journal: "+disk+"/moonseal.db: the disk is full\nhint: free some space") {
		t.Errorf("status: %s", out)
	}
	if out := s.moonseal(exitFailed, "run", "three", "--force"); !strings.Contains(out, "the disk is full\nhint: free some space") {
		t.Errorf("run: %s", out)
	}
	empty()
	for _, id := range runs {
		d.is(id, "done")
	}
	s.until("the end is reported", func() bool { return in.count("the state directory can be written again") == 1 })
	if status := get[stateStatus](d, "/status"); status.State != nil {
		t.Errorf("status: %+v", status.State)
	}
	d.is(d.begin("three"), "done")
	s.renewedEach(len(hosts))
	if l := s.lab.ledger(); len(l.CSRs) != len(hosts) || len(l.Orders) != len(hosts) {
		t.Errorf("%d signing requests, %d orders", len(l.CSRs), len(l.Orders))
	}
	d.signal(syscall.SIGTERM)
	if code := d.process.wait(); code != exitDone || strings.Contains(d.out.String(), "panic") {
		t.Errorf("exit code %d:\n%s", code, d.out.String())
	}
	for _, line := range []string{"cannot write to the state directory: runs wait", "the state directory can be written again"} {
		if n := strings.Count(d.out.String(), line); n != 1 {
			t.Errorf("it says %d times %q:\n%s", n, line, d.out.String())
		}
	}

	// At the start it is reported in plain words, and no run begins.
	empty = s.fill(disk)
	p := s.start("serve")
	if code, out := p.wait(), p.out.String(); code != exitFailed || !strings.Contains(out, "no space left on device") && !strings.Contains(out, "the disk is full") || !strings.Contains(out, "\nhint: free some space") {
		t.Errorf("exit code %d on a full disk:\n%s", code, out)
	}
	empty()
	s.check(unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	p = s.start("serve")
	if code, out := p.wait(), p.out.String(); code != exitUsage || !strings.Contains(out, disk) || !strings.Contains(out, "read-only file system") || !strings.Contains(out, "\nhint: ") {
		t.Errorf("exit code %d on a read-only disk:\n%s", code, out)
	}
}

// stateStatus is the daemon's status, as far as it is about the state directory.
type stateStatus struct {
	State *struct{ Message, Hint string }
}

// A disk that fails, and to which the kernel refuses every write from then on. The daemon
// says so, and stops on SIGTERM; once the disk is repaired it continues.
func TestDiskTurnsReadOnly(t *testing.T) {
	t.Parallel()
	s := newLabSite(t, noOutage, "one")
	image := filepath.Join(s.dir, "image")
	s.check(os.WriteFile(image, nil, 0o600))
	s.check(os.Truncate(image, 32<<20))
	disk := filepath.Join(s.dir, "disk")
	s.check(os.Mkdir(disk, 0o700))
	s.orSkip("mkfs.ext4", "-q", image)
	s.orSkip("mount", "-o", "loop,errors=remount-ro", image, disk)
	t.Cleanup(func() {
		_ = exec.Command("umount", disk).Run()
		_ = os.Remove(image)
	})
	s.moveState(disk)
	in := s.inbox()
	s.script("one", renewal("one"))
	s.set(map[string]any{"stop_timeout": "200ms"})
	d := s.serve()
	upload := s.lab.add(fault{Call: "cucm.upload-identity", Kind: holdAfter})
	id := d.begin("one")
	s.lab.held(d.process, upload)
	s.orSkip("mount", "-o", "remount,abort", disk)
	s.lab.clear()
	s.until("the alert arrives", func() bool { return in.count("cannot write to the state directory", "moonseal doctor") == 1 })
	if status := get[stateStatus](d, "/status"); status.State == nil || status.State.Hint == "" {
		t.Errorf("status: %+v", status)
	}
	d.signal(syscall.SIGTERM)
	if code := d.process.wait(); strings.Contains(d.out.String(), "panic") {
		t.Errorf("exit code %d:\n%s", code, d.out.String())
	}
	s.orSkip("umount", disk)
	s.orSkip("mount", "-o", "loop", image, disk)
	d = s.serve()
	d.is(id, "done")
	s.renewedEach(1)
	d.kill()
	d.process.wait()
}

// orSkip runs a program that may not be there, or not be allowed here.
func (s *site) orSkip(name string, args ...string) {
	s.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		s.t.Skipf("no disk can fail here: %s %v: %v: %s", name, args, err, out)
	}
}

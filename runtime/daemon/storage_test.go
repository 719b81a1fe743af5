package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is due while the disk is full begins when there is room again: not a day later.
func TestDueWhileTheDiskIsFull(t *testing.T) {
	t.Parallel()
	h := newHouse(t, noon)
	h.check(os.MkdirAll(h.cfg.State, 0o700))
	if err := unix.Mount("tmpfs", h.cfg.State, "tmpfs", 0, "mode=0700,size=8m"); err != nil {
		t.Skipf("no file system can be mounted here, so no disk can be full: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(h.cfg.State, unix.MNT_DETACH) })
	h.script("a", script{Schedule: "0 13 * * *"})
	h.start()
	filler := filepath.Join(h.cfg.State, "filler")
	f, err := os.Create(filler)
	h.check(err)
	for size := 1 << 20; size > 0; size /= 16 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	h.check(f.Close())
	h.drifts(2*time.Hour, func() bool { return len(h.log.of("a due run cannot start yet")) > 0 })
	h.drifts(time.Hour, func() bool { return h.daemon.storage.trouble.Load() != nil })
	if s, err := h.daemon.Status(t.Context()); err != nil || s.State == nil || len(h.runs()) > 0 {
		t.Errorf("status %+v, %v; runs %v", s, err, h.runs())
	}
	h.check(os.Remove(filler))
	h.drifts(5*time.Minute, func() bool { return len(h.runs()) == 1 })
	h.drifts(5*time.Minute, func() bool { return h.daemon.storage.trouble.Load() == nil })
}

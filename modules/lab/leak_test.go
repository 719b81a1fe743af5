package lab

import (
	"context"
	"runtime"
	"testing"
	"time"

	"moonseal/modules/faults"
)

// Close waits for all that the world owns, held calls and waiting clients too.
func TestCloseEndsAll(t *testing.T) {
	before := runtime.NumGoroutine()
	const worlds = 3
	for range worlds {
		w, err := Start(t.Context(), Options{Dir: t.TempDir(), SpareKeys: -1})
		if err != nil {
			t.Fatal(err)
		}
		c := client(t, w)
		id := c.must(t, faults.Fault{Call: "cucm.*", Kind: faults.HoldBefore})
		node := newUser(t, w.opt.Dir).node(t, pub)
		done := make(chan error, 1)
		go func() {
			_, err := node.Identity(context.WithoutCancel(t.Context()), "tomcat")
			done <- err
		}()
		if err := c.WaitHeld(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err == nil {
			t.Error("a held call was answered after all")
		}
		c.HTTP.CloseIdleConnections()
	}
	// Pebble leaves one goroutine behind for each start; clients' own end a little later.
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before+worlds && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if got := runtime.NumGoroutine(); got > before+worlds {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after\n%s", before, got, stacks[:runtime.Stack(stacks, true)])
	}
}

package worker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/journal"
	"moonseal/runtime/worker"
)

// slow is a Spawner whose children take for ever to start.
type slow chan struct{}

func (s slow) Start(ctx context.Context, _ *journal.RunLock) (worker.Process, error) {
	s <- struct{}{}
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// Of many runs that resume at once few start at a time; one that does not get ready
// holds up the others for a while only.
func TestFewStartAtOnce(t *testing.T) {
	w := newWorld(t)
	atOnce := 1 + runtime.GOMAXPROCS(0)
	clock := clockwork.NewFakeClock()
	spawner := make(slow, 3*atOnce)
	w.parent.Spawner, w.parent.Clock = spawner, clock
	if err := w.journal.SaveBundle(t.Context(), "h", nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 3 * atOnce {
		stamp := journal.Stamp{Run: w.journal.NewRunID(), Epoch: 1, At: clock.Now()}
		if err := w.journal.Write(t.Context(), journal.RunCreated{Stamp: stamp, Playbook: fmt.Sprint(i), Bundle: "h"}); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if _, err := w.parent.Resume(ctx, worker.Job{}, stamp.Run); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	for range 3 {
		for range atOnce {
			<-spawner
		}
		if err := clock.BlockUntilContext(ctx, atOnce); err != nil {
			t.Fatal(err)
		}
		if n := len(spawner); n > 0 {
			t.Errorf("%d more start", n)
		}
		clock.Advance(time.Second)
	}
	cancel()
	all.Wait()
}

package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/secret"
)

// errParentGone ends a child whose parent is gone.
var errParentGone = errors.New("the parent process is gone")

// link is the child's end of the pair: the journal, the secrets, and the requests of the
// parent.
type link struct {
	conn *conn
	mu   sync.Mutex
	seq  uint64
	wait map[uint64]chan *answer
	gone chan struct{} // closed when the pair is

	out  sync.Mutex       // held while something is sent: records keep their order
	lazy []journal.Record // buffered until the next frame
	size int              // of these, in bytes
	hold *time.Timer      // sends them; nil while there are none

	// The parent asks the run to stop where it can continue later.
	drained chan struct{} // closed by drain
	drain   func()

	// A cancelled run must not wait for the call under way.
	hurried context.Context //nolint:containedctx // a signal, as drained
	hurry   context.CancelFunc

	start  chan *journal.History
	cancel chan *cancelling // one
}

func newLink(c *conn) *link {
	l := &link{
		conn: c, wait: map[uint64]chan *answer{}, gone: make(chan struct{}), drained: make(chan struct{}),
		start: make(chan *journal.History, 1), cancel: make(chan *cancelling, 1),
	}
	l.hurried, l.hurry = context.WithCancel(context.Background())
	l.drain = sync.OnceFunc(func() { close(l.drained) })
	return l
}

// listen dispatches incoming frames until the pair closes.
func (l *link) listen() {
	defer close(l.gone)
	defer l.hurry() // frees the context
	cancelled := false
	var history journal.Collector
	for {
		f, err := l.conn.receive()
		if err != nil {
			return
		}
		switch {
		case f.Answer != nil:
			l.mu.Lock()
			ch := l.wait[f.Seq]
			delete(l.wait, f.Seq)
			l.mu.Unlock()
			if ch != nil {
				ch <- f.Answer
			}
		case f.Piece != nil:
			if !l.piece(&history, f.Piece) {
				return
			}
		case f.Drain:
			l.drain()
		case f.Cancel != nil:
			if f.Cancel.Now {
				l.hurry()
			}
			if !cancelled {
				cancelled = true
				l.cancel <- f.Cancel
			}
		}
	}
}

// piece adds a piece of the history, and starts the run with the last one. It reports
// whether the piece is well-formed.
func (l *link) piece(history *journal.Collector, p *piece) bool {
	if err := history.Add(p.Bytes); err != nil {
		return false
	}
	if !p.Last {
		return true
	}
	h, err := history.History()
	if err == nil {
		l.start <- h
	}
	return err == nil
}

// ask sends a request and waits for its answer.
func (l *link) ask(ctx context.Context, f *frame) (*answer, error) {
	ch := make(chan *answer, 1)
	l.mu.Lock()
	l.seq++
	f.Seq = l.seq
	l.wait[f.Seq] = ch
	l.mu.Unlock()
	if err := l.send(f); err != nil {
		return nil, errors.Join(errParentGone, err)
	}
	select {
	case a := <-ch:
		if a.Error != nil {
			return nil, a.Error
		}
		return a, nil
	case <-l.gone:
		return nil, errParentGone
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Write implements [run.Journal].
func (l *link) Write(ctx context.Context, recs ...journal.Record) error {
	a, err := l.ask(ctx, &frame{Write: &writing{Synced: recs}})
	if err == nil && a.Drain {
		l.drain()
	}
	return err
}

// Lazy records are buffered for a moment: most steps are then sent whole.
const (
	lazyHold  = time.Millisecond
	mostHeld  = 256
	mostBytes = 256 << 10
)

// WriteLazy implements [run.Journal].
func (l *link) WriteLazy(_ context.Context, recs ...journal.Record) error {
	l.out.Lock()
	defer l.out.Unlock()
	for _, rec := range recs {
		l.size += journal.Size(rec)
	}
	if l.lazy = append(l.lazy, recs...); len(l.lazy) >= mostHeld || l.size >= mostBytes {
		return l.flushLocked()
	}
	if l.hold == nil {
		l.hold = time.AfterFunc(lazyHold, func() { _ = l.flush() }) // listen notices a closed pair
	}
	return nil
}

// flush sends the buffered records.
func (l *link) flush() error {
	l.out.Lock()
	defer l.out.Unlock()
	return l.flushLocked()
}

func (l *link) flushLocked() error {
	if lazy := l.unbuffer(); len(lazy) > 0 {
		return l.conn.send(&frame{Write: &writing{Lazy: lazy}})
	}
	return nil
}

// unbuffer returns the buffered records, to be sent at once.
func (l *link) unbuffer() []journal.Record {
	lazy := l.lazy
	l.lazy, l.size = nil, 0
	if l.hold != nil {
		l.hold.Stop()
		l.hold = nil
	}
	return lazy
}

// send sends a frame, with or after the buffered records.
func (l *link) send(f *frame) error {
	l.out.Lock()
	defer l.out.Unlock()
	if f.Write != nil {
		f.Write.Lazy = l.unbuffer()
	} else if err := l.flushLocked(); err != nil {
		return err
	}
	return l.conn.send(f)
}

// HeldBy implements [run.Journal].
func (l *link) HeldBy(ctx context.Context, values []string, except string) (map[string]string, error) {
	a, err := l.ask(ctx, &frame{Held: &heldBy{Values: values, Except: except}})
	if err != nil {
		return nil, err
	}
	return a.Held, nil
}

// Value implements [secret.Source].
func (l *link) Value(ctx context.Context, name string) (string, error) {
	a, err := l.ask(ctx, &frame{Secret: name, Shown: secret.IsShown(ctx)})
	if err != nil {
		return "", err
	}
	return a.Value, nil
}

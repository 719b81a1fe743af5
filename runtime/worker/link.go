package worker

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"

	"moonseal/runtime/journal"
)

// errParentGone ends a child whose parent is gone.
var errParentGone = errors.New("the parent process is gone")

// link is the child's end of the pair: the journal, the secrets, and the orders
// that come in.
type link struct {
	conn *conn
	mu   sync.Mutex
	seq  uint64
	wait map[uint64]chan *answer
	gone chan struct{} // closed when the pair is

	drain atomic.Bool // the parent wants the run to stop where a step has ended

	start  chan *journal.History
	cancel chan struct{}
}

func newLink(c *conn) *link {
	return &link{conn: c, wait: map[uint64]chan *answer{}, gone: make(chan struct{}), start: make(chan *journal.History, 1), cancel: make(chan struct{})}
}

// listen hands out what comes in until the pair closes.
func (l *link) listen() {
	defer close(l.gone)
	cancelled := false
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
		case f.Start != nil:
			l.start <- f.Start.History
		case f.Cancel && !cancelled:
			cancelled = true
			close(l.cancel)
		}
	}
}

// ask sends a request and waits for its answer.
func (l *link) ask(ctx context.Context, f *frame) (*answer, error) {
	ch := make(chan *answer, 1)
	l.mu.Lock()
	l.seq++
	f.Seq = l.seq
	l.wait[f.Seq] = ch
	l.mu.Unlock()
	if err := l.conn.send(f); err != nil {
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
	w, err := encode(recs)
	if err != nil {
		return err
	}
	a, err := l.ask(ctx, &frame{Write: w})
	if err == nil && a.Drain {
		l.drain.Store(true)
	}
	return err
}

// WriteLazy implements [run.Journal].
func (l *link) WriteLazy(_ context.Context, recs ...journal.Record) error {
	w, err := encode(recs)
	if err != nil {
		return err
	}
	w.Lazy = true
	return l.conn.send(&frame{Write: w})
}

func encode(recs []journal.Record) (*writing, error) {
	w := &writing{}
	for _, r := range recs {
		raw, err := journal.Encode(r)
		if err != nil {
			return nil, err
		}
		w.Records = append(w.Records, json.RawMessage(raw))
	}
	return w, nil
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
	a, err := l.ask(ctx, &frame{Secret: name})
	if err != nil {
		return "", err
	}
	return a.Value, nil
}

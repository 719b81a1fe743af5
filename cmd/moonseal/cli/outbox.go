package cli

import (
	"bytes"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// mostUnread is how many bytes an outbox holds for a reader that does not read.
const mostUnread = 1 << 20

// outbox is a writer that never blocks: a reader that stops reading, or goes away, must
// not stop the run that it follows. What does not fit is left out, and a line reports
// that.
type outbox struct {
	w    io.Writer
	lost func(w io.Writer, lines int) // reports the number of lines left out
	pipe chan os.Signal               // takes SIGPIPE, which would end the process

	mu      sync.Mutex
	waiting []byte
	left    int // writes that were left out
	closed  bool
	gone    bool // the reader
	more    *sync.Cond
	ended   chan struct{}
}

func newOutbox(w io.Writer, lost func(w io.Writer, lines int)) *outbox {
	o := &outbox{w: w, lost: lost, pipe: make(chan os.Signal, 1), ended: make(chan struct{})}
	o.more = sync.NewCond(&o.mu)
	signal.Notify(o.pipe, syscall.SIGPIPE)
	go o.deliver()
	return o
}

// Write implements [io.Writer]. It never fails.
func (o *outbox) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.gone:
	case len(o.waiting)+len(p) > mostUnread:
		o.left++
	default:
		if o.left > 0 {
			var note bytes.Buffer
			o.lost(&note, o.left)
			o.waiting, o.left = append(o.waiting, note.Bytes()...), 0
		}
		o.waiting = append(o.waiting, p...)
	}
	o.more.Signal()
	return len(p), nil
}

func (o *outbox) deliver() {
	defer close(o.ended)
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for len(o.waiting) == 0 && !o.closed {
			o.more.Wait()
		}
		if len(o.waiting) == 0 {
			return
		}
		next := o.waiting
		o.waiting = nil
		o.mu.Unlock()
		_, err := o.w.Write(next)
		o.mu.Lock()
		if err != nil {
			o.gone, o.waiting = true, nil
		}
	}
}

// close returns once all is written, or the reader is gone.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.more.Signal()
	o.mu.Unlock()
	<-o.ended
	signal.Stop(o.pipe)
}

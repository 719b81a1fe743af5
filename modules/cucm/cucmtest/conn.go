package cucmtest

import (
	"bytes"
	"errors"
	"net"
	"sync"
)

// readAhead bounds what a client may send before it is read, in bytes.
const readAhead = 4 << 20

// watchedConn reads ahead, so that it sees its client go away even while nothing reads:
// what a fault holds must be dropped then.
type watchedConn struct {
	net.Conn
	pumped chan struct{}

	mu   sync.Mutex
	more sync.Cond
	buf  bytes.Buffer
	err  error
}

// watch wraps conn; gone is called once the client has gone away.
func watch(conn net.Conn, gone func()) *watchedConn {
	w := &watchedConn{Conn: conn, pumped: make(chan struct{})}
	w.more.L = &w.mu
	go func() {
		defer close(w.pumped)
		defer gone()
		w.pump()
	}()
	return w
}

func (w *watchedConn) pump() {
	piece := make([]byte, 32<<10)
	for {
		n, err := w.Conn.Read(piece)
		w.mu.Lock()
		w.buf.Write(piece[:n])
		if err == nil && w.buf.Len() > readAhead {
			err = errors.New("client sends more than is read")
		}
		w.err = err
		w.more.Broadcast()
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (w *watchedConn) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.buf.Len() == 0 {
		if w.err != nil {
			return 0, w.err
		}
		w.more.Wait()
	}
	return w.buf.Read(p)
}

// cut resets the connection.
func (w *watchedConn) cut() {
	if tcp, ok := w.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = w.Close()
}

// wait waits until reading has ended; Close comes first.
func (w *watchedConn) wait() { <-w.pumped }

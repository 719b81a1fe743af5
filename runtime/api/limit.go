package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"moonseal/runtime/problem"
)

const (
	// readTimeout is how long a client has to send a request's header, and then its body.
	readTimeout = 10 * time.Second
	// idleTimeout is how long a connection may have no request.
	idleTimeout = 2 * time.Minute
	// mostConns bounds the connections of all clients; one user may have half of them. A
	// process with few descriptors has fewer: three of four are for runs.
	mostConns = 1024
)

// connLimit returns how many connections there may be at once.
func connLimit() int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return mostConns
	}
	return int(min(mostConns, max(files.Cur/4, 4)))
}

// limited is a listener that closes connections beyond its limits.
type limited struct {
	net.Listener

	most, perUser int

	mu   sync.Mutex
	all  int
	open map[int]int // by uid
}

func limitConns(l net.Listener, most int) *limited {
	return &limited{Listener: l, most: most, perUser: max(most/2, 1), open: map[int]int{}}
}

// Accept implements [net.Listener].
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid := peer(c)
		if l.enter(uid) {
			return &counted{Conn: c, uid: uid, leave: sync.OnceFunc(func() { l.leave(uid) })}, nil
		}
		_ = c.Close()
	}
}

func (l *limited) enter(uid int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.most || l.open[uid] >= l.perUser {
		return false
	}
	l.all++
	l.open[uid]++
	return true
}

func (l *limited) leave(uid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.open[uid]--; l.open[uid] == 0 {
		delete(l.open, uid)
	}
}

// counted is a connection that counts against the limits until it is closed.
type counted struct {
	net.Conn

	uid   int
	leave func()
}

// Close implements [net.Conn].
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// whole reads each request's body before it is handled, and answers with an error if the
// client needs longer than the timeout.
func whole(s *server, timeout time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		c := http.NewResponseController(w)
		if err := c.SetReadDeadline(time.Now().Add(timeout)); err != nil { //nolint:forbidigo // the kernel's deadline
			s.fail(w, err)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			message := "cannot read the request: " + err.Error()
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				message = "the request was not complete within " + timeout.String()
			}
			w.Header().Set("Connection", "close")
			s.fail(w, &problem.Error{Kind: problem.Usage, Message: message})
			return
		}
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			s.fail(w, err)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

package cucmtest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// web is a node's HTTPS port over its restarts: the port stays the node's own
// while nothing listens on it.
type web struct {
	node    *Node
	addr    string
	release func() // frees the port

	mu     sync.Mutex
	closed bool
	server *http.Server
	served chan struct{} // closed once server accepts no more
}

// listenWeb takes a port and serves on it.
func listenWeb(n *Node) (*web, error) {
	addr, release, err := reservePort()
	if err != nil {
		return nil, err
	}
	w := &web{node: n, addr: addr, release: release}
	if err := w.up(n.api(), n.handshake); err != nil {
		release()
		return nil, err
	}
	return w, nil
}

// handshake returns the certificate that Tomcat read when it last started.
func (n *Node) handshake(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.loaded[ciscoTomcat].tls(), nil
}

// up begins to serve. It must be down.
func (w *web) up(h http.Handler, cert func(*tls.ClientHelloInfo) (*tls.Certificate, error)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return errors.New("node is closed")
	}
	listener, err := listenAgain(w.addr)
	if err != nil {
		return err
	}
	c := w.node.c
	w.server = &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 30 * time.Second,
		TLSConfig:         &tls.Config{GetCertificate: cert, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
		ErrorLog:          slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return c.ctx },
		// Each connection's goroutine is waited for, and with it its handlers.
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				c.wg.Add(1)
			case http.StateClosed, http.StateHijacked:
				c.wg.Done()
			}
		},
	}
	served := make(chan struct{})
	w.served = served
	server := w.server
	c.wg.Go(func() {
		defer close(served)
		_ = server.ServeTLS(listener, "", "")
	})
	return nil
}

// listenAgain listens on a port that was listened on a moment ago. A process that
// this one forks holds the old listener until it executes its program.
func listenAgain(addr string) (net.Listener, error) {
	const pause, patience = 5 * time.Millisecond, 5 * time.Second
	again := time.NewTicker(pause)
	defer again.Stop()
	for tries := patience / pause; ; tries-- {
		l, err := net.Listen("tcp", addr)
		if err == nil || tries == 0 || !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
		<-again.C
	}
}

// down stops serving and cuts all connections, as a process that ends does.
func (w *web) down() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut()
}

func (w *web) shut() {
	if w.server == nil {
		return
	}
	_ = w.server.Close()
	<-w.served
	w.server = nil
}

// close is down for good.
func (w *web) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut()
	if !w.closed {
		w.closed = true
		w.release()
	}
}

// outage shows what clients meet while Tomcat restarts. It must be down.
func (w *web) outage(o Outage) error {
	switch o {
	case OutageHandshake:
		return w.up(http.NotFoundHandler(), func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return nil, errors.New("tomcat is restarting")
		})
	case OutageUnavailable:
		return w.up(http.HandlerFunc(unavailable), w.node.handshake)
	default:
		return nil
	}
}

func unavailable(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html;charset=utf-8")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, "<!doctype html><html><head><title>HTTP Status 503</title></head><body><h1>HTTP Status 503 – Service Unavailable</h1></body></html>\n")
}

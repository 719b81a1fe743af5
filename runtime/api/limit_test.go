package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// unixListener listens on a socket without a file.
func unixListener(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", "") // a name of the kernel's choice
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Connections that are too many are closed at once; one that ends makes room.
func TestConnectionsAreLimited(t *testing.T) {
	l := unixListener(t)
	limited := limitConns(l, 8)
	accepted := make(chan net.Conn, 64)
	go func() {
		defer close(accepted)
		for {
			c, err := limited.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	var first net.Conn
	for i := range limited.perUser {
		dial(t, l)
		if c := <-accepted; i == 0 {
			first = c
		}
	}
	if n, err := dial(t, l).Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("one too many: %d, %v", n, err)
	}
	_ = first.Close()
	_ = first.Close() // counts once
	dial(t, l)
	<-accepted
	if n, err := dial(t, l).Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("one too many again: %d, %v", n, err)
	}
	if len(limited.open) != 1 || limited.all != limited.perUser {
		t.Errorf("%d, %v", limited.all, limited.open)
	}
}

// A request that is not sent whole is given up, whatever its method, and one that is
// sent slowly enough is not.
func TestHalfARequestIsGivenUp(t *testing.T) {
	s := &server{log: slog.New(slog.DiscardHandler)}
	handled := make(chan string, 8)
	srv := &http.Server{Handler: whole(s, 50*time.Millisecond, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		handled <- r.Method + " " + string(body)
	})), ReadHeaderTimeout: time.Minute}
	l := unixListener(t)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
	})
	for _, method := range []string{"POST", "GET"} {
		c := dial(t, l)
		_, _ = fmt.Fprintf(c, "%s /pause HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{", method)
		answer, err := io.ReadAll(c) // to its end: the connection is closed
		if err != nil || !strings.Contains(string(answer), "not complete within 50ms") {
			t.Errorf("%s: %v: %s", method, err, answer)
		}
		c = dial(t, l)
		_, _ = fmt.Fprintf(c, "%s /pause HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", method)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK || <-handled != method+" {}" {
			t.Errorf("%s, whole: %s, %v", method, res.Status, err)
		}
	}
	if len(handled) > 0 {
		t.Errorf("handled: %s", <-handled)
	}
}

// Who follows a run for longer than a request may take is not cut off.
func TestNoDeadlineIsLeft(t *testing.T) {
	s := &server{log: slog.New(slog.DiscardHandler)}
	ended := make(chan error, 1)
	srv := &http.Server{Handler: whole(s, 20*time.Millisecond, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		timer := time.NewTimer(200 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
			ended <- nil
		case <-r.Context().Done():
			ended <- context.Cause(r.Context())
		}
	})), ReadHeaderTimeout: time.Minute}
	l := unixListener(t)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
	})
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"} {
		_, _ = io.WriteString(dial(t, l), request)
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", request, err)
		}
	}
}

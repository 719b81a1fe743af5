package acmetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// childEnv marks a process that Start started and that Main takes over.
const childEnv = "MOONSEAL_ACMETEST_CHILD"

// These begin the line with which the child reports its address, or its error.
const (
	readyWord = "acmetest ready "
	failWord  = "acmetest failed: "
)

// A child that takes longer to start or to end is killed.
const (
	startTime = 30 * time.Second
	stopTime  = 5 * time.Second
)

// Main must be called first in TestMain (or main) of every program that calls [Start] and
// may be built with -race. In a process that Start started it runs Pebble and never
// returns; in all others it does nothing.
func Main() {
	if os.Getenv(childEnv) == "" {
		return
	}
	if err := serveChild(os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Println(failWord + err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

// serveChild reads its Options from in and serves until in ends, which it does
// when the parent closes it or dies.
func serveChild(in io.Reader, out, logs io.Writer) error {
	decoder := json.NewDecoder(in)
	var o Options
	if err := decoder.Decode(&o); err != nil {
		return err
	}
	o.Log = slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	handler, err := newPebble(o)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	if _, err := fmt.Fprintln(out, readyWord+l.Addr().String()); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	err = errors.Join(err, server.Close())
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// startProcess runs Pebble in a second process of this program, whose Main
// serves plain HTTP on loopback.
func startProcess(ctx context.Context, o Options) (*backend, error) {
	if os.Getenv(childEnv) != "" {
		return nil, errMain
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// A test binary without Main runs no test and ends, instead of all of them.
	cmd := exec.CommandContext(ctx, self, "-test.run=^$")
	// Pebble's race must not fail the test: its report goes to the log.
	cmd.Env = append(os.Environ(), childEnv+"=1", "GORACE=exitcode=0 halt_on_error=0 atexit_sleep_ms=0")
	cmd.Stderr, cmd.WaitDelay = &lineLog{log: o.Log}, stopTime
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := sync.OnceValue(func() error { return stopProcess(ctx, cmd, in) })
	late := time.AfterFunc(startTime, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	address, err := handshake(in, out, o)
	if err != nil {
		_ = stop() // its exit code says no more than err
		return nil, err
	}
	return proxyTo(address, o, stop), nil
}

var errMain = errors.New("a second process did not take over: call acmetest.Main first in TestMain or main")

func handshake(in io.Writer, out io.Reader, o Options) (string, error) {
	// A child that is gone already shows below, by its silence.
	_ = json.NewEncoder(in).Encode(o)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if address, ok := strings.CutPrefix(lines.Text(), readyWord); ok {
			return address, nil
		}
		if message, ok := strings.CutPrefix(lines.Text(), failWord); ok {
			return "", errors.New(message)
		}
	}
	return "", errors.Join(errMain, lines.Err())
}

func stopProcess(ctx context.Context, cmd *exec.Cmd, in io.Closer) error {
	_ = in.Close()
	kill := time.AfterFunc(stopTime, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	if err := cmd.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("process: %w", err)
	}
	return nil
}

func proxyTo(address string, o Options, stop func() error) *backend {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: address})
			// Pebble builds its URLs from these two.
			p.Out.Host = p.In.Host
			p.Out.Header.Set("X-Forwarded-Proto", "https")
		},
		Transport: transport,
		ErrorLog:  o.logger(),
	}
	return &backend{handler: proxy, stop: func() error {
		transport.CloseIdleConnections()
		return stop()
	}}
}

// lineLog logs what is written to it line by line.
type lineLog struct {
	log  *slog.Logger
	rest string
}

// Write is called by one goroutine only, os/exec's.
func (l *lineLog) Write(p []byte) (int, error) {
	l.rest += string(p)
	for {
		line, rest, ok := strings.Cut(l.rest, "\n")
		if !ok {
			return len(p), nil
		}
		l.rest = rest
		l.log.Debug(line)
	}
}

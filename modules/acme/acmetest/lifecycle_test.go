package acmetest

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMisuse(t *testing.T) {
	key := "not base64url: hunter2"
	for name, o := range map[string]Options{
		"no resolver":  {},
		"percentage":   {AlwaysValid: true, NonceReject: 101},
		"negative":     {AlwaysValid: true, ChainLength: -1},
		"EAB key":      {AlwaysValid: true, EAB: map[string]string{"kid": key}},
		"EAB key, own": {AlwaysValid: true, EAB: map[string]string{"kid": key}, Mode: OwnProcess},
	} {
		ca, err := Start(t.Context(), o)
		if err == nil {
			_ = ca.Close()
			t.Errorf("%s: no error", name)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "call acmetest.Main") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A program that forgets Main gets an error, not ever more processes.
func TestWithoutMain(t *testing.T) {
	t.Setenv(childEnv, "1")
	if _, err := Start(t.Context(), Options{AlwaysValid: true, Mode: OwnProcess}); err == nil || !strings.Contains(err.Error(), "call acmetest.Main") {
		t.Error(err)
	}
}

func TestEnvironmentIsRestored(t *testing.T) {
	t.Setenv("PEBBLE_AUTHZREUSE", "17")
	before := os.Environ()
	startCA(t, Options{AlwaysValid: true, AuthzReuse: 100, Mode: modes()[0]})
	if after := os.Environ(); !slices.Equal(slices.Sorted(slices.Values(before)), slices.Sorted(slices.Values(after))) {
		t.Errorf("before %v\nafter %v", before, after)
	}
}

func TestCloseEndsAll(t *testing.T) {
	for _, mode := range modes() {
		t.Run(string(mode), func(t *testing.T) {
			before := runtime.NumGoroutine()
			for range 3 {
				ca, err := Start(t.Context(), Options{AlwaysValid: true, Mode: mode})
				if err != nil {
					t.Fatal(err)
				}
				client := newAccount(t, ca)
				issue(t, client, nil, "a.example.com")
				for range 2 {
					if err := ca.Close(); err != nil {
						t.Fatal(err)
					}
				}
				client.HTTPClient.CloseIdleConnections()
				if conn, err := net.Dial("tcp", ca.host); err == nil {
					_ = conn.Close()
					t.Error("still listening")
				}
			}
			allowed := before
			if mode == InProcess {
				allowed += 3 // Pebble's own, see the package doc
			}
			// The clients' connections take a moment to end.
			for limit := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > allowed; runtime.Gosched() {
				if time.Now().After(limit) {
					t.Fatalf("%d goroutines, %d allowed", runtime.NumGoroutine(), allowed)
				}
			}
		})
	}
}

// A parent that dies closes the pipe, however it died.
func TestChildEndsWithItsParent(t *testing.T) {
	in, parent := io.Pipe()
	lines, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- serveChild(in, out, io.Discard) }()
	if err := json.NewEncoder(parent).Encode(Options{AlwaysValid: true, ChainLength: 1}); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(lines).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), readyWord)
	if err != nil || !ok {
		t.Fatalf("%q, %v", line, err)
	}
	_ = parent.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("still listening")
	}
}

func TestEndOfContextStopsServing(t *testing.T) {
	for _, mode := range modes() {
		t.Run(string(mode), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			ca, err := Start(ctx, Options{AlwaysValid: true, Mode: mode})
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			if res, err := httpClient(t, ca).Get(ca.DirectoryURL()); err == nil {
				_ = res.Body.Close()
				t.Error("still serving")
			}
			if err := ca.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

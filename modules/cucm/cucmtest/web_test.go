package cucmtest

import (
	"net"
	"testing"
	"time"
)

// A process that was forked and has yet to execute its program listens on: that
// must not keep a node down after its restart.
func TestListenAgainWaitsForTheOldListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(30*time.Millisecond, func() { _ = l.Close() })
	again, err := listenAgain(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

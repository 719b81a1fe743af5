package matrix

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// relay passes TCP connections on to another address, counts them, and can be made as far
// away as needed.
type relay struct {
	to     string
	late   time.Duration // what a connection waits for before it is passed on
	opened atomic.Int64  // connections so far
	trip   atomic.Int64  // the round trip of later connections, a time.Duration
	turns  atomic.Int64  // how often a client sent something after it had received something
}

// listen serves addr until the end of t, and returns where that is.
func (r *relay) listen(t testing.TB, addr string) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var all sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.opened.Add(1)
			all.Go(func() { r.pass(ctx, conn) })
		}
	})
	return l.Addr().String()
}

// pass carries both ways until either side, or ctx, has ended. A connection on loopback is
// open at once; over a distance it takes a round trip, so what the client sends before that
// counts as sent then, and the server meets the connection half a round trip later.
func (r *relay) pass(ctx context.Context, in net.Conn) {
	trip := time.Duration(r.trip.Load())
	open := time.Now().Add(trip)
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	context.AfterFunc(ctx, func() { _ = in.Close() })
	there, back := newLane(trip/2, open), newLane(trip/2, open)
	var turn atomic.Bool // the client has received something since it last sent something
	turn.Store(true)
	there.onRead, back.onWrite = func() {
		if turn.Swap(false) {
			r.turns.Add(1)
		}
	}, func() { turn.Store(true) }
	all.Go(func() { there.read(ctx, in) })
	if !until(ctx, open.Add(trip/2+r.late)) {
		return
	}
	out, err := new(net.Dialer).DialContext(ctx, "tcp", r.to)
	if err != nil {
		return
	}
	context.AfterFunc(ctx, func() { _ = out.Close() })
	all.Go(func() { back.read(ctx, out) })
	var first sync.Once
	ended := make(chan struct{})
	for to, lane := range map[net.Conn]*lane{out: there, in: back} {
		all.Go(func() {
			defer first.Do(func() { close(ended) })
			lane.write(ctx, to)
		})
	}
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// lane carries bytes one way. Each piece arrives delay after it was read, in order, and
// holds none of the later ones up.
type lane struct {
	delay   time.Duration
	open    time.Time // what is read before counts as read then
	pieces  chan piece
	onRead  func() // a piece was sent
	onWrite func() // a piece has arrived
}

type piece struct {
	due  time.Time
	data []byte // nothing at the end
}

func newLane(delay time.Duration, open time.Time) *lane {
	return &lane{delay: delay, open: open, pieces: make(chan piece, 1024), onRead: func() {}, onWrite: func() {}}
}

func (l *lane) read(ctx context.Context, from io.Reader) {
	defer close(l.pieces)
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		sent := time.Now()
		if sent.Before(l.open) {
			sent = l.open
		}
		if n > 0 {
			l.onRead()
		}
		select {
		case l.pieces <- piece{sent.Add(l.delay), bytes.Clone(buffer[:n])}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (l *lane) write(ctx context.Context, to io.Writer) {
	for p := range l.pieces {
		if !until(ctx, p.due) {
			return
		}
		if len(p.data) > 0 {
			l.onWrite() // before the client can have answered it
		}
		if _, err := to.Write(p.data); err != nil {
			return
		}
	}
}

// until waits for a moment, and reports whether ctx has not ended before. A timer may be a
// millisecond late, which would be much of a round trip: the last one is waited for busily.
func until(ctx context.Context, due time.Time) bool {
	if d := time.Until(due) - time.Millisecond; d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
	}
	for time.Now().Before(due) && ctx.Err() == nil {
		runtime.Gosched()
	}
	return ctx.Err() == nil
}

// A connection through a relay costs a round trip, and so does a question; questions that
// do not wait for one another cost one together.
func TestRelay(t *testing.T) {
	const trip, questions = 50 * time.Millisecond, 100
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { _ = l.Close() })
	all.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	})
	r := &relay{to: l.Addr().String()}
	r.trip.Store(int64(trip))
	began := time.Now()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.listen(t, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	asked := []byte{1}
	ask := func() {
		t.Helper()
		if _, err := conn.Write(asked); err != nil {
			t.Fatal(err)
		}
	}
	answer := func(n int) {
		t.Helper()
		answers := make([]byte, n)
		if _, err := io.ReadFull(conn, answers); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	answer(1)
	if took := time.Since(began); took < 2*trip {
		t.Errorf("a connection and a question took %s, less than two round trips of %s", took, trip)
	}
	began = time.Now()
	for range questions {
		ask()
	}
	answer(questions)
	if took := time.Since(began); took < trip || took > questions/2*trip {
		t.Errorf("%d questions at once took %s, with a round trip of %s", questions, took, trip)
	}
	if n, turns := r.opened.Load(), r.turns.Load(); n != 1 || turns != 2 {
		t.Errorf("%d connections and %d round trips were counted", n, turns)
	}
}

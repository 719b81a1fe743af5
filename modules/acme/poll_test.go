package acme

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/acme/acmetest"
	"moonseal/runtime/problem"
)

// quick is a clock on which no wait takes time; it notes them.
type quick struct {
	*clockwork.FakeClock
	mu    sync.Mutex
	waits []time.Duration
}

func (q *quick) NewTimer(d time.Duration) clockwork.Timer {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waits = append(q.waits, d)
	timer := q.FakeClock.NewTimer(d)
	q.Advance(d)
	return timer
}

func newQuick() *quick { return &quick{FakeClock: clockwork.NewFakeClockAt(time.Now())} }

func pollClient(t *testing.T, clock clockwork.Clock) *Client {
	t.Helper()
	return must(New(CA{}, Options{Clock: clock, Within: time.Minute}))(t)
}

func TestPollBeginsEarlyAndGrows(t *testing.T) {
	clock := newQuick()
	n := 0
	err := pollClient(t, clock).poll(t.Context(), "x", nil, func() (bool, http.Header, error) { n++; return n == 15, nil, nil })
	var want []time.Duration
	for ms := range 13 {
		want = append(want, time.Millisecond<<ms) // 1 ms to 4.096 s
	}
	want = append(want, 5*time.Second)
	if err != nil || !slices.Equal(clock.waits, want) {
		t.Errorf("waits %v, %v", clock.waits, err)
	}
}

func TestPollHonoursRetryAfter(t *testing.T) {
	clock := newQuick()
	in := func(s string) http.Header { return http.Header{"Retry-After": {s}} }
	n := 0
	err := pollClient(t, clock).poll(t.Context(), "x", in("3"), func() (bool, http.Header, error) {
		n++
		return n == 3, []http.Header{in("7"), in("0"), nil}[n-1], nil
	})
	want := []time.Duration{3 * time.Second, 7 * time.Second, 2 * time.Millisecond}
	if err != nil || !slices.Equal(clock.waits, want) {
		t.Errorf("waits %v, %v", clock.waits, err)
	}
}

func TestPollGivesUp(t *testing.T) {
	clock := newQuick()
	start := clock.Now()
	never := func() (bool, http.Header, error) { return false, nil, nil }
	p := wantKind(t, pollClient(t, clock).poll(t.Context(), "the order", nil, never), problem.Timeout, "the order")
	if took := clock.Since(start); took > time.Minute || took < 50*time.Second || p.RetryAfter.IsZero() {
		t.Errorf("after %v: %+v", took, p)
	}
	// It does not sit out a wait that is longer than it may take.
	start = clock.Now()
	p = wantKind(t, pollClient(t, clock).poll(t.Context(), "the order", http.Header{"Retry-After": {"3600"}}, never), problem.Timeout)
	if clock.Since(start) != 0 || p.RetryAfter.Sub(start) != time.Hour {
		t.Errorf("waited %v: %+v", clock.Since(start), p)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pollClient(t, clockwork.NewFakeClock()).poll(ctx, "x", nil, never); err == nil {
		t.Error("goes on though its context has ended")
	}
}

func TestFinalizeWaitsAsLongAsTheCASays(t *testing.T) {
	w := newWorld(t, acmetest.Options{RetryOrder: 4})
	clock := newQuick()
	w.opts.Clock, w.opts.Within = clock, 1000*time.Hour
	w.issue(w.client(), newCSR(t, "", "a.example.com"), nil)
	if longest := slices.Max(clock.waits); longest < 2*time.Second {
		t.Errorf("waits %v", clock.waits)
	}
}

func BenchmarkIssue(b *testing.B) {
	ca, err := acmetest.Start(b.Context(), acmetest.Options{AlwaysValid: true})
	if err != nil {
		b.Fatal(err)
	}
	defer ca.Close()
	c, err := New(CA{Directory: ca.DirectoryURL(), Email: "a@example.com", Roots: ca.RootPEM()}, Options{
		Store: accountStore(b), RootCAs: ca.CertPool(), SystemRoots: noRoots,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	acct, err := c.Account(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	csr := newCSR(b, "", "a.example.com")
	for b.Loop() {
		order, err := c.Order(b.Context(), acct, OrderRequest{CSR: csr})
		if err == nil {
			_, err = c.Validate(b.Context(), acct, order)
		}
		if err == nil {
			_, err = c.Finalize(b.Context(), acct, order, csr)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

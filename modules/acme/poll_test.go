package acme

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
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
	err := pollClient(t, clock).poll(t.Context(), "x", time.Minute, nil, func() (standing, error) { n++; return standing{decided: n == 15}, nil })
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
	err := pollClient(t, clock).poll(t.Context(), "x", time.Minute, in("3"), func() (standing, error) {
		n++
		return standing{decided: n == 3, header: []http.Header{in("7"), in("0"), nil}[n-1]}, nil
	})
	want := []time.Duration{3 * time.Second, 7 * time.Second, 2 * time.Millisecond}
	if err != nil || !slices.Equal(clock.waits, want) {
		t.Errorf("waits %v, %v", clock.waits, err)
	}
}

func TestPollGivesUp(t *testing.T) {
	clock := newQuick()
	start := clock.Now()
	never := func() (standing, error) { return standing{why: "dns: no TXT record"}, nil }
	p := wantKind(t, pollClient(t, clock).poll(t.Context(), "the order", time.Minute, nil, never), problem.Timeout, "the order", "dns: no TXT record")
	if took := clock.Since(start); took > time.Minute || took < 50*time.Second || p.RetryAfter.IsZero() {
		t.Errorf("after %v: %+v", took, p)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pollClient(t, clockwork.NewFakeClock()).poll(ctx, "x", time.Minute, nil, never); err == nil {
		t.Error("continues though its context has ended")
	}
}

// A CA may ask to be left alone for a day for what takes it a minute.
func TestRetryAfterIsBoundedByTheStep(t *testing.T) {
	day := http.Header{"Retry-After": {"86400"}}
	log := &logged{}
	ctx := withLogger(t.Context(), slog.New(slog.NewTextHandler(log, nil)))
	clock := newQuick()
	start, n := clock.Now(), 0
	err := pollClient(t, clock).poll(ctx, "the order", time.Minute, day, func() (standing, error) { n++; return standing{decided: n == 1, header: day}, nil })
	if err != nil || clock.Since(start) != time.Minute {
		t.Errorf("after %v: %v", clock.Since(start), err)
	}
	if !strings.Contains(log.String(), "retry_after=24h0m0s") {
		t.Errorf("not logged: %s", log)
	}
	start, n = clock.Now(), 0
	err = pollClient(t, clock).poll(ctx, "the order", time.Minute, day, func() (standing, error) { n++; return standing{header: day}, nil })
	p := wantKind(t, err, problem.Timeout, "asks to retry in 24h0m0s", "in 1m0s")
	if clock.Since(start) != time.Minute || p.RetryAfter.Sub(clock.Now()) != time.Minute || n != 1 {
		t.Errorf("asked %d times in %v: %+v", n, clock.Since(start), p)
	}
}

// logged collects what is logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestFinalizeWaitsAsLongAsTheCASays(t *testing.T) {
	w := newTestCA(t, acmetest.Options{RetryOrder: 4})
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

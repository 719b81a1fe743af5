package dns

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/modules/dns/dnstest"
	"moonseal/runtime/journal/journaltest"
	"moonseal/runtime/secret"
)

// BenchmarkPropagated measures how long after the last of a zone's servers shows a
// record, and how long after that server's answer, it is known, if it is asked for as
// the standard pipeline does, twice a second; and how many questions for it a server
// gets in a second, at most on average. The servers' delays are spread evenly over that
// pause. Goals: at most 250 ms from the last answer in the median, and 2 questions.
func BenchmarkPropagated(b *testing.B) {
	for _, servers := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("%d servers", servers), func(b *testing.B) {
			var late, answered []time.Duration
			most := 0.0
			for b.Loop() {
				for range 10 {
					delay := time.Second + time.Duration(len(late)*137%500)*time.Millisecond
					after, answer, rate := becomeKnown(b, servers, delay)
					late, answered = append(late, after), append(answered, answer)
					most = max(most, rate)
				}
			}
			journaltest.Spread(b, "ms-from-last-answer-", answered)
			journaltest.Spread(b, "ms-", late)
			b.ReportMetric(most, "questions/s/server")
		})
	}
}

// becomeKnown writes a record that the last server shows after delay.
func becomeKnown(b *testing.B, servers int, delay time.Duration) (after, answer time.Duration, rate float64) {
	b.Helper()
	const pause = 500 * time.Millisecond
	delays := make([]time.Duration, servers)
	for i := range delays {
		delays[i] = delay * time.Duration(i+1) / time.Duration(servers)
	}
	world, err := dnstest.Start(dnstest.Options{Zones: []string{"example.com"}, Servers: servers, PropagationDelay: delays})
	if err != nil {
		b.Fatal(err)
	}
	defer world.Close()
	transport := world.HTTPClient().Transport.(*http.Transport)
	defer transport.CloseIdleConnections()
	c := New(Options{
		Dial: world.Dial, HTTP: transport, Clock: clockwork.NewRealClock(), Resolvers: []string{dnstest.ResolverHost},
		Secret: func(context.Context, secret.Handle) (string, error) { return world.Credentials().CloudflareToken, nil },
	})
	want := []Challenge{challenge("www.example.com", digestA)}
	plan, _, err := c.LookPresent(b.Context(), zoneAt("cloudflare"), want)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := c.Present(b.Context(), zoneAt("cloudflare"), plan); err != nil {
		b.Fatal(err)
	}
	shows := world.TXT().History[0].At.Add(delay)
	began := time.Now()
	every := time.NewTicker(pause)
	defer every.Stop()
	for {
		ok, reason, err := c.Propagated(b.Context(), zoneAt("cloudflare"), want, Propagation{})
		if err != nil {
			b.Fatal(err)
		}
		if ok {
			break
		}
		select {
		case <-every.C:
		case <-b.Context().Done():
			b.Fatal(reason)
		}
	}
	now := time.Now()
	asked, last := map[string]int{}, time.Time{}
	for _, q := range world.Asked() {
		if q.Type == "TXT" {
			asked[q.Server]++
			last = q.At
		}
	}
	for _, n := range asked {
		rate = max(rate, float64(n)/max(1, now.Sub(began).Seconds()+pause.Seconds()))
	}
	return now.Sub(shows), now.Sub(last), rate
}

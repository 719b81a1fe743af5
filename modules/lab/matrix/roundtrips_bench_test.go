package matrix

import (
	"math"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/journal/journaltest"
)

// How far away the CA and the node are.
const (
	tripToCA   = 20 * time.Millisecond
	tripToNode = 5 * time.Millisecond
)

// trips are round trips that a renewal cannot do without.
type trips struct {
	n   int
	of  time.Duration
	why string
}

// neededTrips are those of the renewal that renewalCosts counts, if nothing is asked twice
// and each answer is needed for the next question.
func neededTrips() []trips {
	return []trips{
		{2, tripToCA, "the connection to the CA: TCP and TLS 1.3"},
		{10, tripToCA, "requests to the CA: each needs the nonce, or a URL, of the answer before it"},
		{3 * 2, tripToNode, "three connections to the node: TCP and TLS 1.3"},
		{9, tripToNode, "requests to the node, one after the other over the connection that is open"},
		{2 * 7, tripToNode, "two logins over SSH: TCP, version, key exchange, service, password, channel, terminal and shell"},
		{1 + 6, tripToNode, "commands over SSH: the list of services, and the restart of each of six, as the node takes one at a time"},
	}
}

// BenchmarkRoundTrips renews through relays that make the CA 20 ms away and the node 5 ms,
// and without that distance, in turns. DNS and its provider are not far away. Of three
// figures, ratio is judged: what the distance costs, against the round trips that are
// needed. The work itself is on neither side of it, so a slow machine hides no round trip
// that is wasted. time-ratio is the whole time far away, work included, against the same
// round trips, and depends on the machine; share-ratio is that time against round trips
// and work together, in which wasted ones count least. The goal for all is 1.6. The round
// trips themselves are counted too, which no busy machine changes: one for each connection,
// and one for each time that a client sends something after an answer. Beside the needed
// ones these are how each login over SSH asks for the methods that there are, since a wrong
// one would count against the account, and the end of two connections, which nothing waits for.
func BenchmarkRoundTrips(b *testing.B) {
	s := newSite(b)
	m := newMeter(b, s)
	r := s.renewal(b, dropIn{}, patient())
	renew := func(toCA, toNode time.Duration) time.Duration {
		m.ca.trip.Store(int64(toCA))
		m.node.trip.Store(int64(toNode))
		m.shell.trip.Store(int64(toNode))
		return journaltest.Time(b, func() error {
			if out := r.toTheEnd(b); out.Status != journal.Done {
				b.Fatalf("%s: %v", out.Reason, out.Error)
			}
			return nil
		})
	}
	trips := func() (n int64) {
		for _, r := range []*relay{m.ca, m.node, m.shell} {
			n += r.opened.Load() + r.turns.Load()
		}
		return n
	}
	renew(0, 0)
	least := int64(math.MaxInt64) // a CA that has not decided yet is asked again
	var near, far []time.Duration
	for b.Loop() {
		for range 5 {
			near = append(near, renew(0, 0))
			before := trips()
			far = append(far, renew(tripToCA, tripToNode))
			least = min(least, trips()-before)
		}
	}
	var needed time.Duration
	count := 0
	for _, t := range neededTrips() {
		needed += time.Duration(t.n) * t.of
		count += t.n
	}
	work, all := journaltest.Median(near), journaltest.Median(far)
	b.ReportMetric(0, "ns/op") // says nothing here: it is both together
	b.ReportMetric(milliseconds(work), "ms/near")
	b.ReportMetric(milliseconds(all), "ms/far")
	b.ReportMetric(milliseconds(needed), "ms/needed")
	b.ReportMetric(float64(least), "round-trips")
	b.ReportMetric(float64(count), "round-trips-needed")
	b.ReportMetric(float64(all-work)/float64(needed), "ratio")
	b.ReportMetric(float64(all)/float64(needed), "time-ratio")
	b.ReportMetric(float64(all)/float64(needed+work), "share-ratio")
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

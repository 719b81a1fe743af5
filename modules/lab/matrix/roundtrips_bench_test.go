package matrix

import (
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
// and work together, in which wasted ones count least. The goal for all is 1.6.
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
	renew(0, 0)
	var near, far []time.Duration
	for b.Loop() {
		for range 5 {
			near = append(near, renew(0, 0))
			far = append(far, renew(tripToCA, tripToNode))
		}
	}
	var needed time.Duration
	for _, t := range neededTrips() {
		needed += time.Duration(t.n) * t.of
	}
	work, all := journaltest.Median(near), journaltest.Median(far)
	b.ReportMetric(0, "ns/op") // says nothing here: it is both together
	b.ReportMetric(milliseconds(work), "ms/near")
	b.ReportMetric(milliseconds(all), "ms/far")
	b.ReportMetric(milliseconds(needed), "ms/needed")
	b.ReportMetric(float64(all-work)/float64(needed), "ratio")
	b.ReportMetric(float64(all)/float64(needed), "time-ratio")
	b.ReportMetric(float64(all)/float64(needed+work), "share-ratio")
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

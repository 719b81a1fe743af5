package journaltest

import (
	"slices"
	"testing"
	"time"
)

// Ratio compares what is measured with its floor, or with a peer: medians of
// what both took, in turns.
type Ratio struct{ ours, theirs []time.Duration }

// Ours adds how long one operation of ours took.
func (r *Ratio) Ours(d time.Duration) { r.ours = append(r.ours, d) }

// Theirs adds how long the floor, or the peer, took for the same.
func (r *Ratio) Theirs(d time.Duration) { r.theirs = append(r.theirs, d) }

// Slower reports, beside both medians, how many times the floor ours is; name
// distinguishes several of one benchmark, and may be "".
func (r *Ratio) Slower(b *testing.B, name string) {
	b.Helper()
	r.report(b, name, "floor", func(ours, floor float64) float64 { return ours / floor })
}

// Faster reports, beside both medians, how many times as long as ours the peer is.
func (r *Ratio) Faster(b *testing.B, name string) {
	b.Helper()
	r.report(b, name, "peer", func(ours, peer float64) float64 { return peer / ours })
}

func (r *Ratio) report(b *testing.B, name, other string, ratio func(ours, theirs float64) float64) {
	b.Helper()
	if len(r.ours) == 0 || len(r.theirs) == 0 {
		b.Fatal("nothing was measured")
	}
	if name != "" {
		name = "-" + name
	}
	ours, theirs := Median(r.ours), Median(r.theirs)
	b.ReportMetric(0, "ns/op") // says nothing here: it is both together
	b.ReportMetric(float64(ours.Microseconds()), "µs/ours"+name)
	b.ReportMetric(float64(theirs.Microseconds()), "µs/"+other+name)
	b.ReportMetric(ratio(float64(ours), float64(theirs)), "ratio"+name)
}

// Median returns the median of list, which it sorts.
func Median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// Spread reports the median of list, which it sorts, the 99th percentile and the
// maximum, in milliseconds: name becomes part of their units. Too few samples have
// no percentile: the median takes 10 of them, the 99th percentile 100.
func Spread(b *testing.B, name string, list []time.Duration) {
	b.Helper()
	slices.Sort(list)
	report := func(of string, d time.Duration) { b.ReportMetric(float64(d.Microseconds())/1000, name+of) }
	if len(list) >= 10 {
		report("p50", list[len(list)/2])
	}
	if len(list) >= 100 {
		report("p99", list[len(list)*99/100])
	}
	report("max", list[len(list)-1])
}

// Time returns how long do took, and ends the benchmark where it fails.
func Time(b *testing.B, do func() error) time.Duration {
	b.Helper()
	begin := time.Now()
	if err := do(); err != nil {
		b.Fatal(err)
	}
	return time.Since(begin)
}

package journal

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"moonseal/runtime/journal/journaltest"
)

// payload is a step's result of usual size: a certificate and its fingerprints.
var payload = result(0)

// result is the result of step n: no two steps return the same.
func result(n int) json.RawMessage {
	return json.RawMessage(`{"pem":"` + fmt.Sprintf("%08d", n) + strings.Repeat("A", 1992) + `"}`)
}

// BenchmarkStepRatio: a step without effect, against a bare synced commit of the
// same size on the same disk. Goal, for the whole engine: at most 1.5 times; see
// BenchmarkStepThroughTheEngine in runtime/run.
func BenchmarkStepRatio(b *testing.B) {
	floor, err := journaltest.Open(b.Context(), b.TempDir())
	must(b, err)
	defer func() { must(b, floor.Close()) }()
	j := openTest(b, b.TempDir())
	s := newRun(b, j, "p")
	must(b, journaltest.Fill(func(text string) error { return j.Write(b.Context(), Logged{Stamp: s, Message: text}) }))
	var r journaltest.Ratio
	for n := 0; b.Loop(); n++ {
		r.Theirs(journaltest.Time(b, func() error { return floor.Commit(string(payload)) }))
		r.Ours(journaltest.Time(b, func() error { return step(b, j, s, n) }))
	}
	r.Slower(b, "")
}

func step(b *testing.B, j *Journal, s Stamp, n int) error {
	if err := j.WriteLazy(b.Context(), StepStarted{Stamp: s, Step: n, Kind: "step", Name: "downloading_certificate", Attempt: 1}); err != nil {
		return err
	}
	return j.Write(b.Context(), StepDone{Stamp: s, Step: n, Result: result(n)})
}

const (
	atOnce = 50
	each   = 3 // steps of a run in one round
)

// BenchmarkFiftyRuns: steps of fifty runs at once, which share commits, against as
// many synced commits of the same size over fifty connections of their own, as
// fifty processes without a common writer would have them. Goal: at least 10 times
// faster.
func BenchmarkFiftyRuns(b *testing.B) {
	j := openTest(b, b.TempDir())
	dir := b.TempDir()
	var runs []Stamp
	var conns []*journaltest.Floor
	for range atOnce {
		runs = append(runs, newRun(b, j, "p"))
		c, err := journaltest.Open(b.Context(), dir)
		must(b, err)
		defer func() { must(b, c.Close()) }()
		conns = append(conns, c)
	}
	must(b, journaltest.Fill(func(text string) error { return j.Write(b.Context(), Logged{Stamp: runs[0], Message: text}) }))
	var r journaltest.Ratio
	begin := j.Stats().Commits
	rounds := 0
	for b.Loop() {
		r.Theirs(journaltest.Time(b, func() error { return fifty(func(i, _ int) error { return conns[i].Commit(string(payload)) }) }))
		r.Ours(journaltest.Time(b, func() error { return fifty(func(i, n int) error { return step(b, j, runs[i], rounds*each+n) }) }))
		rounds++
	}
	b.ReportMetric(float64(j.Stats().Commits-begin)/float64(rounds*each*atOnce), "commits/step")
	r.Faster(b, "")
}

// fifty runs f some times in each of fifty goroutines.
func fifty(f func(i, n int) error) error {
	var g errgroup.Group
	for i := range atOnce {
		g.Go(func() error {
			for n := range each {
				if err := f(i, n); err != nil {
					return fmt.Errorf("%d: %w", i, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
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

// BenchmarkFiftyRuns: steps of fifty runs at once, which share commits, against the
// same statements on one connection behind a mutex, with a synced commit for each
// step. What is measured is the sharing alone: the peer neither polls a busy database
// nor changes goroutines more than the mutex asks. Goal: at least 4 times faster.
func BenchmarkFiftyRuns(b *testing.B) {
	j := openTest(b, b.TempDir())
	peer, theirs := openMutexed(b)
	runs := fiftyRuns(b, j)
	var r journaltest.Ratio
	begin := j.Stats().Commits
	rounds := 0
	for b.Loop() {
		r.Theirs(journaltest.Time(b, func() error {
			return fifty(func(i, n int) error { return peer.step(theirs[i], rounds*each+n) })
		}))
		r.Ours(journaltest.Time(b, func() error { return fifty(func(i, n int) error { return step(b, j, runs[i], rounds*each+n) }) }))
		rounds++
	}
	b.ReportMetric(float64(j.Stats().Commits-begin)/float64(rounds*each*atOnce), "commits/step")
	r.Faster(b, "")
}

// fiftyRuns makes the runs, in a journal whose log has its size.
func fiftyRuns(b *testing.B, j *Journal) []Stamp {
	b.Helper()
	var runs []Stamp
	for range atOnce {
		runs = append(runs, newRun(b, j, "p"))
	}
	must(b, journaltest.Fill(func(text string) error { return j.Write(b.Context(), Logged{Stamp: runs[0], Message: text}) }))
	return runs
}

// mutexed writes a journal without a writer: a connection that one goroutine at a
// time has for a transaction of its own.
type mutexed struct {
	mu   sync.Mutex
	conn *conn
}

// openMutexed returns the peer, and fifty runs of its journal.
func openMutexed(b *testing.B) (*mutexed, []Stamp) {
	b.Helper()
	j, err := Open(b.Context(), b.TempDir(), Options{})
	must(b, err)
	runs := fiftyRuns(b, j)
	must(b, j.Close())
	steps, err := migrations()
	must(b, err)
	c, err := openConn(b.Context(), j.path, steps, Options{})
	must(b, err)
	b.Cleanup(c.close)
	c.work.clock = j.clock
	return &mutexed{conn: c}, runs
}

func (m *mutexed) step(s Stamp, n int) error {
	r, err := newRequest(nil, []Record{
		StepStarted{Stamp: s, Step: n, Kind: "step", Name: "downloading_certificate", Attempt: 1},
		StepDone{Stamp: s, Step: n, Result: payload},
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.conn.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if _, err := m.conn.applyRequest(r); err != nil {
		return err
	}
	_, err = m.conn.exec("COMMIT")
	return errors.Join(err, r.err)
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

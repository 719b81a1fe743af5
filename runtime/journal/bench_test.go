package journal

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// payload is a step's result of usual size: a certificate and its fingerprints.
var payload = json.RawMessage(`{"pem":"` + strings.Repeat("A", 2000) + `"}`)

// BenchmarkBareCommit is the floor for BenchmarkStep: one synced transaction
// with one row of the same size, by hand.
func BenchmarkBareCommit(b *testing.B) {
	w := bare(b, b.TempDir())
	for n := 0; b.Loop(); n++ {
		must(b, bareInsert(w, n))
	}
}

func bare(b *testing.B, dir string) *conn {
	path := filepath.Join(dir, "bare.db")
	must(b, makeFile(path))
	w, err := openConn(b.Context(), path, []string{"CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, run TEXT, step INTEGER, body TEXT) STRICT"})
	must(b, err)
	b.Cleanup(w.close)
	return w
}

func bareInsert(w *conn, n int) error {
	if _, err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if _, err := w.exec("INSERT INTO t (run, step, body) VALUES ($1, $2, $3)", "0123456789", n, string(payload)); err != nil {
		return err
	}
	_, err := w.exec("COMMIT")
	return err
}

// BenchmarkStep is a step without effect: its start goes lazily, its result is
// synced.
func BenchmarkStep(b *testing.B) {
	j := openTest(b, b.TempDir())
	s := newRun(b, j, "p")
	for n := 0; b.Loop(); n++ {
		must(b, step(b, j, s, n))
	}
}

// BenchmarkStepRatio takes the two in turns, for a disk's speed changes from
// second to second, and reports how many times the floor's median a step costs.
func BenchmarkStepRatio(b *testing.B) {
	w := bare(b, b.TempDir())
	j := openTest(b, b.TempDir())
	s := newRun(b, j, "p")
	var floor, ours []float64
	timed := func(into *[]float64, f func() error) {
		begin := time.Now()
		must(b, f())
		*into = append(*into, float64(time.Since(begin).Microseconds()))
	}
	for n := 0; b.Loop(); n++ {
		timed(&floor, func() error { return bareInsert(w, n) })
		timed(&ours, func() error { return step(b, j, s, n) })
	}
	slices.Sort(floor)
	slices.Sort(ours)
	b.ReportMetric(floor[len(floor)/2], "µs/bare")
	b.ReportMetric(ours[len(ours)/2], "µs/step")
	b.ReportMetric(ours[len(ours)/2]/floor[len(floor)/2], "ratio")
}

func step(b *testing.B, j *Journal, s Stamp, n int) error {
	if err := j.WriteLazy(b.Context(), StepStarted{Stamp: s, Step: n, Kind: "step", Name: "downloading_certificate", Attempt: 1}); err != nil {
		return err
	}
	return j.Write(b.Context(), StepDone{Stamp: s, Step: n, Result: payload})
}

const atOnce = 50

// BenchmarkFiftyRuns: one operation is a step in each of fifty runs at once.
func BenchmarkFiftyRuns(b *testing.B) {
	j := openTest(b, b.TempDir())
	var runs []Stamp
	for range atOnce {
		runs = append(runs, newRun(b, j, "p"))
	}
	before := j.Stats().Commits
	fifty(b, func(i, n int) error { return step(b, j, runs[i], n) })
	b.ReportMetric(float64(j.Stats().Commits-before)/float64(b.N), "commits/op")
}

// BenchmarkFiftyConnections is the same with a connection for each.
func BenchmarkFiftyConnections(b *testing.B) {
	dir := b.TempDir()
	var conns []*conn
	for range atOnce {
		conns = append(conns, bare(b, dir))
	}
	fifty(b, func(i, n int) error { return bareInsert(conns[i], n) })
}

// fifty runs f b.N times in each of fifty goroutines.
func fifty(b *testing.B, f func(i, n int) error) {
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range atOnce {
		wg.Go(func() {
			for n := range b.N {
				if err := f(i, n); err != nil {
					b.Error(fmt.Errorf("%d: %w", i, err))
					return
				}
			}
		})
	}
	wg.Wait()
}

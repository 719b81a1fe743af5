package queuetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"moonseal/runtime/queue"
)

const (
	modelSeeds = 8
	modelRuns  = 450
)

// testModel does at random what a daemon does, one thing after the other, and
// compares the queue with what is known of it after each.
func testModel(t *testing.T, open Open) {
	for seed := range uint64(modelSeeds) {
		t.Run(fmt.Sprint("Seed", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, open, seed)
				for m.created < modelRuns {
					m.step()
				}
				m.finishAll()
			})
		})
	}
}

// model is what is known of the queue.
type model struct {
	*rig
	rand    *rand.Rand
	slots   int
	created int
	open    map[string]*modelRun
	calls   map[string]time.Time // those that ran after the last step, and since when
	did     string               // the last step
	ended   int
}

type modelRun struct {
	playbook string
	again    bool // it was woken or enqueued while it was worked on
}

func newModel(t *testing.T, open Open, seed uint64) *model {
	t.Helper()
	m := &model{rand: rand.New(rand.NewPCG(seed, 1)), slots: 4, open: map[string]*modelRun{}, calls: map[string]time.Time{}} //nolint:gosec // to be repeated
	m.rig = start(t, open, queue.Options{Concurrency: m.slots})
	return m
}

// step does one thing.
func (m *model) step() {
	switch n := m.rand.IntN(100); {
	case n < 25:
		m.create()
	case n < 55:
		m.finish()
	case n < 60:
		m.enqueueAgain()
	case n < 68:
		m.wake()
	case n < 73:
		m.cancel()
	case n < 82:
		m.changeHeld()
	case n < 86:
		m.slots = 1 + m.rand.IntN(8)
		m.did = fmt.Sprint("concurrency ", m.slots)
		m.check(m.SetConcurrency(m.slots))
	case n < 90:
		m.sync()
	default:
		d := m.upTo(3 * time.Second)
		m.did = fmt.Sprint("sleep ", d)
		m.sleep(d)
	}
	m.verify()
}

func (m *model) upTo(d time.Duration) time.Duration { return time.Duration(m.rand.Int64N(int64(d))) }

// job returns a job with random properties.
func (m *model) job(run string) queue.Job {
	j := queue.Job{Run: run, Playbook: fmt.Sprint("p", m.rand.IntN(200)), Tenant: fmt.Sprint("t", m.rand.IntN(3))}
	if m.rand.IntN(3) > 0 {
		j.Expires = m.in(m.upTo(time.Hour))
	}
	if m.rand.IntN(3) == 0 {
		j.Locks = m.locks()
	}
	return j
}

func (m *model) locks() (names []string) {
	for range 1 + m.rand.IntN(3) {
		names = append(names, m.lock())
	}
	return names
}

func (m *model) lock() string { return fmt.Sprint("lock", m.rand.IntN(5)) }

func (m *model) at() (at time.Time) {
	if m.rand.IntN(2) == 0 {
		at = m.in(m.upTo(10 * time.Second))
	}
	return at
}

func (m *model) create() {
	j := m.job(fmt.Sprint("run", m.created))
	m.did = fmt.Sprintf("enqueue %+v", j)
	busy := false
	for _, r := range m.open {
		busy = busy || r.playbook == j.Playbook
	}
	if m.add(j, m.at()) == busy {
		m.t.Fatalf("%s: added %v", m.did, !busy)
	}
	if !busy {
		m.created++
		m.open[j.Run] = &modelRun{playbook: j.Playbook}
	}
}

// some returns an open run, "" if there is none.
func (m *model) some() string {
	all := m.Waiting()
	for _, r := range m.Running() {
		all = append(all, queue.Waiting{Job: r.Job})
	}
	if len(all) == 0 {
		return ""
	}
	return all[m.rand.IntN(len(all))].Job.Run
}

func (m *model) isRunning(run string) bool {
	_, is := m.calls[run]
	return is
}

func (m *model) enqueueAgain() {
	run := m.some()
	if run == "" {
		return
	}
	j := m.job(run)
	m.did = fmt.Sprintf("enqueue again %+v", j)
	j.Playbook = m.open[run].playbook
	m.open[run].again = m.isRunning(run)
	if m.add(j, m.at()) {
		m.t.Fatalf("%s: added twice", m.did)
	}
}

func (m *model) wake() {
	run := m.some()
	m.did = "wake " + run
	if m.Wake(run) != (run != "") {
		m.t.Fatal(m.did)
	}
	if run != "" {
		m.open[run].again = m.isRunning(run)
	}
}

func (m *model) cancel() {
	run := m.some()
	m.did = "cancel " + run
	want := queue.WasWaiting
	switch {
	case run == "":
		want = queue.NotFound
	case m.isRunning(run):
		want = queue.WasRunning
	default:
		delete(m.open, run)
	}
	m.wantCancel(run, want)
	synctest.Wait()
	if want == queue.WasRunning {
		m.open[run].again = false // it has returned a wait
		delete(m.calls, run)
	}
}

// changeHeld is what runs do that are not known here.
func (m *model) changeHeld() {
	lock, run := m.lock(), m.some()
	if m.rand.IntN(3) > 0 {
		run = ""
	}
	m.did = fmt.Sprintf("%s is held by %q", lock, run)
	m.hold(lock, run)
	if m.rand.IntN(2) == 0 {
		m.Recheck()
	} else {
		m.sleep(time.Second)
	}
}

func (m *model) sync() {
	m.did = "sync"
	m.unfinished = nil
	for _, w := range m.Waiting() {
		w.At = w.At.Add(time.Second - m.upTo(2*time.Second))
		m.unfinished = append(m.unfinished, w)
	}
	for _, r := range m.Running() {
		m.unfinished = append(m.unfinished, queue.Waiting{Job: r.Job})
	}
	want := m.rand.IntN(2)
	if want == 1 {
		run := fmt.Sprint("run", m.created)
		m.created++
		m.open[run] = &modelRun{playbook: "playbook of " + run}
		m.unfinished = append(m.unfinished, waitingJob(run, m.open[run].playbook, m.at()))
	}
	if added, err := m.Sync(m.t.Context()); added != want || err != nil {
		m.t.Fatalf("sync added %d, %v; want %d", added, err, want)
	}
}

func (m *model) finish() {
	all := m.Running()
	if len(all) == 0 {
		return
	}
	m.finishOne(all[m.rand.IntN(len(all))].Job.Run, m.rand.IntN(8))
}

func (m *model) finishOne(run string, how int) {
	m.did = fmt.Sprintf("finish %s, %d", run, how)
	result, takes := queue.Done(), ""
	switch how {
	case 0:
		result = queue.Retry(errors.New("no process"))
	case 1, 2:
		result, takes = queue.Wait(m.in(m.upTo(5*time.Second))), m.lock()
	case 3:
		result = queue.WaitForLocks(m.locks())
	case 4:
		result = queue.Result{}
	default:
		if !m.open[run].again {
			delete(m.open, run)
			m.ended++
		}
	}
	if r := m.open[run]; r != nil {
		r.again = false
	}
	delete(m.calls, run)
	m.endWith(run, func() queue.Result {
		m.mu.Lock()
		defer m.mu.Unlock()
		for lock, holder := range m.held {
			if holder == run && how > 3 {
				delete(m.held, lock)
			}
		}
		if takes != "" && m.held[takes] == "" {
			m.held[takes] = run
		}
		return result
	})
}

// finishAll expects that each job that is still open ends.
func (m *model) finishAll() {
	clear(m.held)
	m.slots = 3
	m.check(m.SetConcurrency(m.slots))
	for range 10 * modelRuns {
		synctest.Wait()
		m.verify()
		running, waits := m.Running(), m.Waiting()
		switch {
		case len(running) > 0:
			m.finishOne(running[0].Job.Run, 7)
		case len(waits) > 0:
			m.sleep(max(waits[0].At.Sub(m.clock.Now()), 0))
		default:
			if len(m.open) > 0 {
				m.t.Errorf("lost: %v", m.open)
			}
			m.wantIdle(true)
			m.t.Logf("%d runs, %d ended, %d calls at once at most", m.created, m.ended, m.most)
			return
		}
	}
	m.t.Errorf("not all end: running %v, waiting %v", m.Running(), m.Waiting())
}

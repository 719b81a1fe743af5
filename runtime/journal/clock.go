package journal

import (
	"time"

	"github.com/jonboulle/clockwork"
)

// setBack moves what a run waits for to an earlier instant if the clock is behind the
// run's latest record: then the clock was wrong before, and so is every instant that
// was computed from it. No wait is longer than intended.
func (w *conn) setBack(s Stamp) error {
	var latest int64
	err := w.row(`SELECT `+latestColumn+` FROM runs WHERE id = $1`, s.Run).Scan(&latest)
	now := s.At.UnixNano()
	if err != nil || latest <= now {
		return noRunOr(s.Run, err)
	}
	_, err = w.exec(`UPDATE steps SET attempt_at = min(attempt_at, $3), deadline = deadline - $2, next_at = next_at - $2
		WHERE run = $1 AND state IN ('started', 'retrying')`, s.Run, latest-now, now)
	if err != nil {
		return err
	}
	_, err = w.exec(`UPDATE runs SET updated_at = $3, failing_since = failing_since - $2, wake_at = wake_at - $2 WHERE id = $1`, s.Run, latest-now, now)
	return err
}

// latestColumn computes Run.Latest. The end of a step is not part of it: it must not be
// changed, since a replay sees it.
const latestColumn = `max(updated_at, COALESCE((SELECT max(attempt_at) FROM steps WHERE run = runs.id AND state IN ('started', 'retrying')), 0))`

// workload measures the work of the processes that have runs now. It is lost with this
// process; then the instants of the records are used.
type workload struct {
	clock  clockwork.Clock
	stints map[string]*stint // by run
}

// stint is the work of one process on a run.
type stint struct {
	start  time.Time     // with a monotonic reading
	worked time.Duration // as its latest record has it
}

// adopted starts to measure a process that has adopted the run.
func (l workload) adopted(run string) {
	l.stints[run] = &stint{start: l.clock.Now()}
}

// observe stores the work that a record reports.
func (l workload) observe(s Stamp) {
	if p := l.stints[s.Run]; p != nil {
		p.worked = max(p.worked, s.Worked)
	}
}

// stopped returns the work of a process that stops working on its run.
func (l workload) stopped(s Stamp) time.Duration {
	defer delete(l.stints, s.Run)
	return l.bound(s.Run, s.Worked)
}

// died returns the work of a process that died: byRecords is the time between its first
// record and its last.
func (l workload) died(run string, byRecords time.Duration) time.Duration {
	if p := l.stints[run]; p != nil {
		byRecords = p.worked
	}
	return l.bound(run, byRecords)
}

// bound limits the work of a process to the time that it had.
func (l workload) bound(run string, worked time.Duration) time.Duration {
	if p := l.stints[run]; p != nil {
		worked = min(worked, l.clock.Since(p.start))
	}
	return max(worked, 0)
}

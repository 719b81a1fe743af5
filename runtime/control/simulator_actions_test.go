package control_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/run"
)

// actions are what can happen; the names are what a trail shows.
func (m *machine) actions() map[string]func(*rapid.T) {
	acts := map[string]func(*rapid.T){
		"": func(*rapid.T) {
			for _, r := range m.runs {
				if r.changed {
					m.verify(r)
				}
			}
		},
		"work": m.work, "work again": m.work, "work on": m.work, "rounds": m.rounds, "pass": m.passSome, "clock": m.setClock, "outage": m.outage,
		"cancel": m.cancelOne, "deny": m.denyOne, "decide": m.decideOne, "upgrade": m.upgrade, "add": m.addOne,
	}
	return acts
}

func (m *machine) some(t *rapid.T) *simRun { return rapid.SampledFrom(m.runs).Draw(t, "run") }

// rare skips an action but once in n times.
func rare(t *rapid.T, n int) {
	if rapid.IntRange(0, n-1).Draw(t, "rare") != n-1 {
		t.SkipNow()
	}
}

func (m *machine) drawLocks(t *rapid.T) []string {
	return rapid.SampledFrom([][]string{nil, {"pub"}, {"pub", "sub"}}).Draw(t, "locks")
}

// waited lets time go by until a run is due, if it is by itself.
func (m *machine) waited(r *simRun) (row journal.Run, due bool) {
	row = m.row(r)
	if row.Status == journal.Waiting && !row.WakeAt.IsZero() && !m.due(row) {
		m.pass(row.WakeAt.Sub(m.clock.Now()))
	}
	return row, m.due(row)
}

// rounds lets a run fail in one process after the other, early in each.
func (m *machine) rounds(t *rapid.T) {
	r := m.some(t)
	for range rapid.IntRange(2, 4).Draw(t, "rounds") {
		row, due := m.waited(r)
		if !due {
			return
		}
		f := rapid.SampledFrom([]fault{refuse, vanish, lose}).Draw(t, "fault")
		pl := plan{faults: map[int]fault{rapid.IntRange(1, 5).Draw(t, "call"): f}}
		m.note("a round of %s: %v", r.playbook, pl.faults)
		m.slice(r, mode(row), pl)
		m.verify(r)
	}
}

// work lets a process work on a run that is due, and things go wrong.
func (m *machine) work(t *rapid.T) {
	r := m.some(t)
	row, due := m.waited(r)
	if !due {
		t.SkipNow()
	}
	pl := drawPlan(t)
	if r.book.timeout {
		drawLong(t, pl)
	}
	m.note("work on %s: %v %v", r.playbook, pl.faults, pl.interrupts)
	m.slice(r, mode(row), pl)
}

func drawPlan(t *rapid.T) plan {
	pl := plan{faults: map[int]fault{}, interrupts: map[int]string{}}
	for range rapid.SampledFrom([]int{0, 1, 1, 2, 3}).Draw(t, "faults") {
		f := rapid.SampledFrom([]fault{lose, refuse, vanish, loseHard, delay, lose, lose, reject})
		pl.faults[rapid.IntRange(1, 10).Draw(t, "call")] = f.Draw(t, "fault")
	}
	acts := []string{killed, killed, killed, killed, drained, disputed, crossed, taken, asked, ahead, back}
	for range rapid.SampledFrom([]int{0, 1, 1, 2}).Draw(t, "interrupts") {
		pl.interrupts[rapid.IntRange(1, 20).Draw(t, "point")] = rapid.SampledFrom(acts).Draw(t, "interrupt")
	}
	pl.lost = rapid.Bool().Draw(t, "lost")
	return pl
}

// drawLong lets a run with a timeout lose an answer, and then take too long.
func drawLong(t *rapid.T, pl plan) {
	if rapid.IntRange(0, 2).Draw(t, "long") == 0 {
		return
	}
	from := rapid.SampledFrom([]int{2, 2, 1, 4, 6}).Draw(t, "lost call") // the first one looks
	pl.faults[from] = rapid.SampledFrom([]fault{lose, vanish, loseHard}).Draw(t, "lost as")
	for n := from + 1; n < from+4; n++ {
		pl.faults[n] = delay
	}
}

func (m *machine) passSome(t *rapid.T) {
	m.pass(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, 25 * time.Hour}).Draw(t, "time"))
}

// most is how much trouble there may be without runs that give up.
const mostTrouble = 5 * 24 * time.Hour

func (m *machine) troubled(d time.Duration) bool {
	m.trouble += max(d, -d)
	return m.trouble > mostTrouble
}

func (m *machine) setClock(t *rapid.T) {
	d := rapid.SampledFrom([]time.Duration{time.Minute, time.Hour, 26 * time.Hour, -time.Minute, -time.Hour, -26 * time.Hour}).Draw(t, "by")
	if m.troubled(d) {
		t.SkipNow()
	}
	m.note("clock set by %s", d)
	m.clock.set(d)
}

func (m *machine) outage(t *rapid.T) {
	r := m.some(t)
	d := rapid.SampledFrom([]time.Duration{time.Minute, 30 * time.Minute, 3 * time.Hour, 50 * time.Hour}).Draw(t, "outage")
	if m.troubled(d) {
		t.SkipNow()
	}
	m.note("outage of %s for %s", d, r.playbook)
	r.world.outage = m.clock.Clock.Now().Add(d)
}

func (m *machine) cancelOne(t *rapid.T) {
	rare(t, 4)
	m.cancel(m.some(t))
}

func (m *machine) denyOne(t *rapid.T) {
	rare(t, 3)
	r := m.some(t)
	m.decide("deny", r, func(d control.Decision) error {
		_, err := m.control.Deny(t.Context(), r.id, d)
		if err == nil {
			r.diverge("denied")
		}
		return err
	})
}

// decideOne is a decision that may fit the run or not.
func (m *machine) decideOne(t *rapid.T) {
	r := m.some(t)
	ctx := t.Context()
	switch what := rapid.SampledFrom([]string{"approve", "resume", "unlock", "retry", "cleanup", "as"}).Draw(t, "decision"); what {
	case "resume":
		m.resumeHonestly(r)
	case "as":
		m.resumeAs(t, r)
	case "cleanup":
		m.cleanUpOne(t, r)
	default:
		m.decide(what, r, func(d control.Decision) (err error) {
			switch what {
			case "approve":
				_, err = m.control.Approve(ctx, r.id, d)
			case "unlock":
				_, err = m.control.Unlock(ctx, r.id, d)
				if err == nil {
					m.release(r)
				}
			default:
				_, _, err = m.control.Retry(ctx, r.id, d)
			}
			return err
		})
	}
}

// resumeAs resumes a run by verdicts that may be wrong, incomplete, or of no call.
func (m *machine) resumeAs(t *rapid.T, r *simRun) {
	drawVerdict := func() run.Verdict {
		v := run.Verdict{As: rapid.SampledFrom([]string{run.AsLook, run.AsDone, run.AsAgain, "", "nonsense"}).Draw(t, "as")}
		if v.As == run.AsDone {
			v.Result = rapid.SampledFrom([]json.RawMessage{nil, json.RawMessage(`{"n":1}`), json.RawMessage(`{"n":`), json.RawMessage(`[1]`)}).Draw(t, "result")
		}
		return v
	}
	unclear := run.Unclear(m.history(r))
	verdicts := run.Verdicts{"": drawVerdict()}
	for _, e := range unclear {
		if rapid.Bool().Draw(t, "by name") {
			verdicts[run.CallName(e)] = drawVerdict()
		}
	}
	m.decide(fmt.Sprintf("resume as %v", verdicts), r, func(d control.Decision) error {
		d.Verdicts = verdicts
		_, err := m.control.Resume(t.Context(), r.id, d)
		if err != nil || len(unclear) == 0 {
			return err
		}
		r.diverge("a person's word")
		for _, e := range unclear {
			r.world.mayTwice[r.intentOf(e).name] = true
		}
		return nil
	})
}

func (m *machine) cleanUpOne(t *rapid.T, r *simRun) {
	allowed := false
	m.decide("cleanup", r, func(d control.Decision) error {
		_, err := m.control.Cleanup(t.Context(), r.id, d)
		allowed = err == nil
		return err
	})
	if allowed {
		m.pass(25 * time.Hour)
		m.slice(r, run.Cleanup, drawPlan(t))
	}
}

// dispute is everything that can be decided about a run, while a process works on it.
func (m *machine) dispute(r *simRun) (stale bool) {
	ctx := m.t.Context()
	decisions := []struct {
		what string
		do   func(control.Decision) error
	}{
		{"approve", func(d control.Decision) error { _, err := m.control.Approve(ctx, r.id, d); return err }},
		{"deny", func(d control.Decision) error { _, err := m.control.Deny(ctx, r.id, d); return err }},
		{"resume", func(d control.Decision) error { _, err := m.control.Resume(ctx, r.id, d); return err }},
		{"unlock", func(d control.Decision) error { _, err := m.control.Unlock(ctx, r.id, d); return err }},
		{"cleanup", func(d control.Decision) error { _, err := m.control.Cleanup(ctx, r.id, d); return err }},
		{"forget", func(d control.Decision) error { _, err := m.control.Forget(ctx, r.id, d); return err }},
	}
	for _, decision := range decisions {
		// The journal may not know yet that a process works on the run.
		row := m.row(r)
		waits := slices.Contains([]journal.Status{journal.Waiting, journal.Parked}, row.Status)
		m.decide(decision.what, r, func(d control.Decision) error {
			err := decision.do(d)
			switch {
			case err != nil:
			case !row.Ended.IsZero(): // and a process cleans up, which loses the run if all is given up
				stale = stale || decision.what == "forget"
				r.forgot = r.forgot || decision.what == "forget"
			case !waits:
				r.world.violate("%s of a run that is being worked on", decision.what)
			case decision.what == "unlock":
				m.release(r)
			default:
				r.diverge("decided about before its process was known")
				stale = true
			}
			return err
		})
	}
	return stale
}

// upgrade makes later processes those of a newer moonseal.
func (m *machine) upgrade(*rapid.T) {
	m.note("upgrade")
	m.upgraded = true
}

func (m *machine) addOne(t *rapid.T) {
	if len(m.runs) > 1 {
		t.SkipNow()
	}
	m.note("another run")
	m.add(drawBook(t), m.drawLocks(t))
}

// end leads every run to its end, or cancels it, and compares it with its twin.
func (m *machine) end(t *rapid.T) {
	cancel := rapid.IntRange(0, 4).Draw(t, "cancel at the end") == 4
	m.note("the end, cancel: %v", cancel)
	for _, r := range m.runs {
		r.world.outage = time.Time{}
		if cancel && m.row(r).Ended.IsZero() {
			m.mustCancel(r)
		}
		m.finish(r)
	}
	for _, r := range m.runs {
		m.asTwin(r)
	}
}

package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"pgregory.net/rapid"

	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// machine is one state directory, and the runs in it.
type machine struct {
	t        *rapid.T
	dir      string
	clock    *wallClock
	journal  *journal.Journal
	control  *control.Control
	runs     []*simRun
	upgraded bool
	trouble  time.Duration     // outages and wrong clocks so far; more than days of it make runs give up
	holder   map[string]string // of each lock, since its first disruptive call
	trail    []string          // what was done
}

// simRun is a run, and what is known of it.
type simRun struct {
	id       string
	playbook string
	book     *book
	world    *simWorld
	locks    []string
	twin     *simRun // what it is without faults; nil for a twin
	diverged string  // why it may end differently; "" if it may not
	rounds   map[string]int
	working  bool // a process works on it
	changed  bool // since it was verified

	read   *journal.History // as of so many commits
	readAt int64

	cancelled bool
	forgot    bool // a person gave up what was left of it
	status    journal.Status
}

// what a slice meets.
type plan struct {
	faults     map[int]fault // by the number of the call
	interrupts map[int]string
	lost       bool // a process that is killed loses its lazy records
}

// Interrupts of a slice.
const (
	killed   = "kill"   // its process dies
	asked    = "cancel" // it is cancelled
	drained  = "drain"  // the daemon stops
	taken    = "take"   // another process takes the run up
	disputed = "decide" // someone decides about the run that is being worked on
	crossed  = "other"  // another run is worked on
	ahead    = "ahead"  // the clock is set, as when a virtual machine is resumed
	back     = "back"   // the clock is set back
)

func (m *machine) fatalf(format string, args ...any) {
	m.t.Helper()
	for _, r := range m.runs {
		m.t.Logf("%s, run %s, locks %v, diverged %q:\n%s", r.playbook, r.id, r.locks, r.diverged, r.book.source)
		for _, e := range r.world.ledger {
			m.t.Logf("ledger: %+v", *e)
		}
	}
	m.t.Logf("%s", strings.Join(m.trail, "\n"))
	m.t.Fatalf(format, args...)
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.fatalf("%v", err)
	}
}

func (m *machine) note(format string, args ...any) {
	m.trail = append(m.trail, fmt.Sprintf(format, args...))
}

// add begins a run, after its twin has shown how it ends.
func (m *machine) add(b *book, locks []string) {
	n := len(m.runs)
	twin := m.begin(fmt.Sprintf("twin%d", n), b, nil)
	m.finish(twin)
	r := m.begin(fmt.Sprintf("p%d", n), b, locks)
	r.twin = twin
	if b.timeout {
		r.diverge("a timeout: how long it works depends on what it meets")
	}
	m.runs = append(m.runs, r)
}

func (m *machine) begin(playbook string, b *book, locks []string) *simRun {
	created, err := m.control.Begin(m.t.Context(), control.Beginning{
		Playbook: playbook, Bundle: playbook, Locks: locks, Sources: []journal.Source{{Path: "p.lua", Body: []byte(b.source)}},
	})
	m.must(err)
	r := &simRun{id: created.Run.ID, playbook: playbook, book: b, locks: locks, world: newSimWorld(m.clock, b), rounds: map[string]int{}}
	r.world.unbooked = func(what string) { r.diverge(what) }
	r.world.locked = func(string) string { return m.lockedBy(r) }
	return r
}

func (r *simRun) diverge(why string) {
	if r.diverged == "" {
		r.diverged = why
	}
}

// slice lets a process work on a run until it ends, stops, or is stopped.
func (m *machine) slice(r *simRun, mode run.Mode, pl plan) {
	ctx, cancel := context.WithCancelCause(m.t.Context())
	defer cancel(nil)
	if _, err := m.journal.Adopt(ctx, r.id); err != nil {
		m.fatalf("adopt: %v", err)
	}
	p := &process{
		wire: &wire{journal: m.journal, synced: r.world.answered}, source: r.book.source, world: r.world, clock: m.clock, dir: m.dir,
		history: m.history(r), mode: mode, upgrade: m.upgraded, drain: make(chan struct{}),
	}
	points, calls, stale, stopped := 0, 0, false, false // stale: it must change nothing any more
	drain := sync.OnceFunc(func() { close(p.drain) })
	r.world.stale = func(string) bool { return stale }
	r.world.fault = func() fault { calls++; return pl.faults[calls] }
	r.world.point = func(what string) {
		points++
		switch act := pl.interrupts[points]; act {
		case killed:
			m.note("  killed at %q", what)
			if !pl.lost {
				_ = p.wire.flush()
			}
			p.wire.dead = true
			kill()
		case asked:
			m.note("  cancelled at %q", what)
			m.cancel(r)
			stopped = true
			cancel(run.ErrCancelled)
		case drained:
			m.note("  drained at %q", what)
			drain()
		case taken:
			m.note("  taken over at %q", what)
			stopped = true
			stale = !strings.HasPrefix(what, string(run.AfterMark)) // a call that is marked already is about to be made
			if _, err := m.journal.Adopt(m.t.Context(), r.id); err != nil {
				r.world.violate("adopt: %v", err)
			}
		case disputed:
			m.note("  decided about at %q", what)
			if m.dispute(r) {
				stale, stopped = true, true
			}
		case crossed:
			began := m.clock.Clock.Now()
			m.cross(what)
			r.world.worked += m.clock.Clock.Since(began) // this run's process, which stands still
		case ahead, back:
			d := map[string]time.Duration{ahead: 3 * time.Hour, back: -3 * time.Hour}[act]
			if !m.troubled(d) {
				m.note("  clock set by %s at %q", d, what)
				m.clock.set(d)
			}
		}
	}
	p.trace = func(at run.Point, what string) { r.world.point(string(at) + " " + what) }
	clear(r.world.reached)
	r.working, r.changed = true, true
	p.run(ctx)
	r.working = false
	r.world.point, r.world.fault, r.world.stale = func(string) {}, func() fault { return noFault }, func(string) bool { return false }
	switch {
	case p.broken != nil:
		m.fatalf("panic: %v", p.broken)
	case p.killed:
	case p.history.Run.Outcome != "": // which stands; the body only returns deferred functions
	case p.err != nil && stopped:
		m.note("  ended: %v", p.err)
	case p.err != nil:
		m.fatalf("the process of %s cannot go on: %v", r.playbook, p.err)
	default:
		m.note("  %s: %s %s %v", r.playbook, p.out.Status, p.out.Reason, errorText(p.out))
		m.outcome(r, p.out, mode)
		if p.out.Status.Outcome() {
			m.release(r)
		}
	}
}

func errorText(o *run.Outcome) string {
	if o.Error == nil {
		return ""
	}
	return o.Error.Error()
}

// cross works on the first other run that nothing works on.
func (m *machine) cross(what string) {
	for _, r := range m.runs {
		if r.working {
			continue
		}
		if row := m.row(r); m.due(row) {
			m.note("  at %q, meanwhile %s:", what, r.playbook)
			m.slice(r, mode(row), plan{})
			return
		}
	}
}

// history reads a run anew if anything was committed since it was read.
func (m *machine) history(r *simRun) *journal.History {
	commits := m.journal.Stats().Commits
	if r.read == nil || r.readAt != commits {
		h, err := m.journal.History(m.t.Context(), r.id)
		m.must(err)
		r.read, r.readAt = h, commits
	}
	return r.read
}

func (m *machine) row(r *simRun) journal.Run {
	if r.read != nil && r.readAt == m.journal.Stats().Commits {
		return r.read.Run
	}
	row, err := m.journal.Run(m.t.Context(), r.id)
	m.must(err)
	return row
}

func mode(row journal.Run) run.Mode {
	if !row.CancelAsked.IsZero() {
		return run.Cancel
	}
	return run.Continue
}

// due reports whether a daemon would work on the run now.
func (m *machine) due(row journal.Run) bool {
	switch {
	case !row.Ended.IsZero():
		return false
	case !row.CancelAsked.IsZero():
		return true
	case row.Status == journal.Parked:
		return false
	case row.Status != journal.Waiting, strings.HasPrefix(row.WaitFor, run.WaitLock):
		return true
	case row.WakeAt.IsZero():
		return false // for a decision
	}
	return !row.WakeAt.After(m.clock.Now()) || row.ClockSetBack(m.clock.Now())
}

// finish leads a run to its end, or as far as it gets, with a world that answers and a
// person who decides by what is so.
func (m *machine) finish(r *simRun) {
	const most = 80
	resumed := 0
	for range most {
		row := m.row(r)
		switch {
		case !row.Ended.IsZero():
			m.cleanUp(r)
			if row.Error != nil && strings.HasPrefix(row.Error.Message, "given up after ") { // days of rounds of faults, which its twin does not have
				r.diverge("it has given up")
			}
			r.status = row.Status
			return
		case strings.HasPrefix(row.WaitFor, run.WaitLock) && m.finishHolders(r):
		case m.due(row):
			m.slice(r, mode(row), plan{})
			m.verify(r)
		case row.Status == journal.Parked && resumed >= 4:
			// One whose time is used up has none after a resume either: a person ends it.
			if r.twin != nil && !r.book.mutates && !r.book.timeout && r.twin.status != journal.Parked {
				m.fatalf("%s stays parked: %s", r.playbook, row.Reason)
			}
			r.status = journal.Parked
			m.mustCancel(r)
			return
		case row.Status == journal.Parked:
			resumed++
			m.resumeHonestly(r)
		case row.WakeAt.IsZero():
			_, err := m.control.Approve(m.t.Context(), r.id, control.Decision{By: "alice"})
			m.must(err)
		default:
			m.pass(row.WakeAt.Sub(m.clock.Now()))
		}
	}
	m.fatalf("%s does not end: %+v", r.playbook, m.row(r))
}

// pass lets time go by.
func (m *machine) pass(d time.Duration) {
	if d > 0 {
		_ = wait(m.t.Context(), d)
	}
}

// finishHolders finishes the runs that hold locks, and reports whether there were any.
func (m *machine) finishHolders(r *simRun) (found bool) {
	for _, other := range m.runs {
		if other != r && len(m.held(other)) > 0 {
			m.finish(other)
			found = true
		}
	}
	return found
}

func (m *machine) held(r *simRun) (names []string) {
	holders, err := m.journal.Holders(m.t.Context())
	m.must(err)
	for name, run := range holders {
		if run == r.id {
			names = append(names, name)
		}
	}
	return names
}

// cleanUp tries what an ended run could not undo, until it can.
func (m *machine) cleanUp(r *simRun) {
	for range 3 {
		if !slices.ContainsFunc(m.history(r).Undos, func(u journal.Undo) bool { return u.State == journal.UndoPending }) {
			return
		}
		m.pass(25 * time.Hour)
		m.decide("cleanup", r, func(d control.Decision) error {
			_, err := m.control.Cleanup(m.t.Context(), r.id, d)
			return err
		})
		m.slice(r, run.Cleanup, plan{})
		m.verify(r)
	}
}

// mustCancel cancels a run, which must end it in bounded time.
func (m *machine) mustCancel(r *simRun) {
	m.cancel(r)
	began := m.clock.Clock.Now()
	for range 3 {
		if m.row(r).Ended.IsZero() {
			m.slice(r, run.Cancel, plan{})
			m.verify(r)
		}
	}
	if row := m.row(r); row.Ended.IsZero() || m.clock.Clock.Since(began) > time.Hour {
		m.fatalf("%s was cancelled %s ago, and is %s: %s", r.playbook, m.clock.Clock.Since(began), row.Status, row.Reason)
	}
}

func (m *machine) cancel(r *simRun) {
	r.diverge("cancelled")
	m.decide("cancel", r, func(d control.Decision) error {
		_, err := m.control.Cancel(m.t.Context(), r.id, d)
		r.cancelled = r.cancelled || err == nil
		return err
	})
}

// resumeHonestly resumes a parked run by what the ledger says: of all calls by their
// names, without one if only one is in question, or lets those be asked that can be.
func (m *machine) resumeHonestly(r *simRun) {
	verdicts := run.Verdicts{}
	for _, e := range run.Unclear(m.history(r)) {
		c, v := r.intentOf(e), run.Verdict{As: run.AsAgain}
		switch {
		case probed(c.fn) || c.probed:
			v.As = run.AsLook
		case repeatable(c.fn):
			continue // needs none
		case r.world.part(c.name) >= r.world.whole(c.name):
			v = run.Verdict{As: run.AsDone, Result: m.encoded(r, c)}
		}
		if v.As != run.AsLook {
			r.world.told(c.name)
		}
		verdicts[run.CallName(e)] = v
	}
	if len(verdicts) == 1 && m.row(r).Epoch%2 == 0 { // a name is not needed
		for _, v := range verdicts {
			verdicts = run.Verdicts{"": v}
		}
	}
	m.decide(fmt.Sprintf("resume %v", verdicts), r, func(d control.Decision) error {
		d.Verdicts = verdicts
		_, err := m.control.Resume(m.t.Context(), r.id, d)
		return err
	})
}

// encoded is what a call returns, as the journal has it.
func (m *machine) encoded(r *simRun, c *intent) json.RawMessage {
	reg, err := r.world.registry(m.upgraded)
	m.must(err)
	raw, err := reg.EncodeResult(r.world.result(c.name))
	m.must(err)
	return raw
}

func (r *simRun) intentOf(e journal.Effect) *intent {
	for name, c := range r.book.calls {
		if strings.Contains(string(e.Args), `"`+name+`"`) {
			return c
		}
	}
	return &intent{}
}

// decide is a decision, which changes nothing if it is refused.
func (m *machine) decide(what string, r *simRun, do func(control.Decision) error) {
	before := m.snapshot(r)
	r.changed = true
	err := do(control.Decision{By: "alice", Ticket: "CHG&1"})
	m.note("%s of %s: %v", what, r.playbook, err)
	if err == nil {
		return
	}
	var e *problem.Error
	if !errors.As(err, &e) || e.Kind == problem.Internal || e.Code == "" {
		r.world.violate("%s of %s is refused without a reason: %v", what, r.playbook, err)
	}
	if after := m.snapshot(r); after != before {
		r.world.violate("%s of %s was refused (%v), and changed\n%s\nto\n%s", what, r.playbook, err, before, after)
	}
}

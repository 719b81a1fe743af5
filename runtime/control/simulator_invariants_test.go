package control_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/run"
)

// cleaningUp is the name of deferred functions' steps.
const cleaningUp = "cleaning_up"

// longest is the longest wait that anything asks for.
const longest = 24 * time.Hour

// ntp is by how much the clock goes back without anybody noticing.
const ntp = time.Minute

// asks returns the longest wait that a run asks for which waits for what.
func asks(what string) time.Duration {
	switch {
	case what == "sleep":
		return 3 * time.Hour
	case strings.HasPrefix(what, "poll of "):
		return time.Hour
	}
	return longest
}

// outcome checks how a process ended.
func (m *machine) outcome(r *simRun, out *run.Outcome, mode run.Mode) {
	if out.Status == journal.Waiting && out.Until.Sub(m.clock.Now()) > asks(out.Reason) {
		r.world.violate("%s waits %s for %s", r.playbook, out.Until.Sub(m.clock.Now()), out.Reason)
	}
	if out.Error != nil && strings.Contains(out.Error.Message, "worked for longer") && r.world.worked < workLimit {
		r.world.violate("%s worked for %s, and that was too long", r.playbook, r.world.worked)
	}
	if step, ok := strings.CutPrefix(out.Reason, "retry of "); ok && out.Status == journal.Waiting {
		waits := []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, longest}
		most := waits[min(r.rounds[step], len(waits)-1)]
		if got := out.Until.Sub(m.clock.Now()); got > most {
			r.world.violate("%s failed %d rounds, and waits %s", step, r.rounds[step]+1, got)
		}
		r.rounds[step]++
	}
	timedOut := r.book.timeout && out.Status == journal.Failed
	if mode == run.Continue && out.Status.Outcome() && !r.cancelled && !timedOut {
		m.reachedAll(r)
	}
}

// reachedAll checks that a body which ended came to every step that the run has.
func (m *machine) reachedAll(r *simRun) {
	for _, s := range m.history(r).Steps {
		if (s.Kind == "step" || s.Kind == "poll") && s.Name != cleaningUp && !r.world.reached[s.Name] {
			r.world.violate("%s ended, and its last process did not come to %s", r.playbook, s.Name)
		}
	}
}

// verify checks what must hold of a run whenever nothing works on it.
func (m *machine) verify(r *simRun) {
	m.t.Helper()
	r.changed = false
	h := m.history(r)
	m.noOpenEffects(r, h)
	now := m.clock.Now()
	if left := h.Run.WakeAt.Sub(now); h.Run.Status == journal.Waiting && left > asks(h.Run.WaitFor)+ntp && !m.due(h.Run) {
		r.world.violate("%s is to wait %s more for %s", r.playbook, left, h.Run.WaitFor)
	}
	if h.Run.Worked > r.world.worked {
		r.world.violate("%s worked for %s, and the journal has %s", r.playbook, r.world.worked, h.Run.Worked)
	}
	m.nothingForgotten(r, h)
	m.keepsLocks(r, h.Run)
	if len(r.world.violations) > 0 {
		m.fatalf("%s", strings.Join(r.world.violations, "\n"))
	}
	if ended := !h.Run.Ended.IsZero(); ended {
		if held := m.held(r); len(held) > 0 {
			m.fatalf("%s has ended and holds %v", r.playbook, held)
		}
		m.release(r)
	}
}

// noOpenEffects checks that no step has ended with a call of unknown outcome, and
// that no function was called while one of its calls was unknown.
func (m *machine) noOpenEffects(r *simRun, h *journal.History) {
	open := map[string]bool{}
	for _, e := range h.Effects {
		if e.State != journal.EffectOpen {
			continue
		}
		key := fmt.Sprint(e.Step, " ", e.Fn)
		if open[key] {
			r.world.violate("step %d of %s has two open calls of %s", e.Step, r.playbook, e.Fn)
		}
		open[key] = true
		i := slices.IndexFunc(h.Steps, func(s journal.Step) bool { return s.Step == e.Step })
		s := h.Steps[i]
		if s.State == journal.StepIsDone || s.State == journal.StepIsFailed {
			r.world.violate("step %s of %s is %s with an open call of %s", s.Name, r.playbook, s.State, e.Fn)
		}
		if !h.Run.Ended.IsZero() && !r.cancelled && s.Name != cleaningUp { // which is tried again
			r.world.violate("%s is %s with an open call of %s", r.playbook, h.Run.Status, e.Fn)
		}
	}
}

// nothingForgotten checks that what a run has made, and could undo, was undone once
// the run has ended, or is listed.
func (m *machine) nothingForgotten(r *simRun, h *journal.History) {
	if h.Run.Ended.IsZero() || r.forgot {
		return
	}
	for _, e := range r.world.ledger {
		c := r.world.intent(e.name)
		if !undoable(e.fn) || !e.took || c.deferred || r.world.things[e.name] == 0 {
			continue
		}
		listed := slices.ContainsFunc(h.Undos, func(u journal.Undo) bool {
			return u.State == journal.UndoPending && strings.Contains(string(u.Args), `"`+e.name+`"`)
		})
		if !listed {
			r.world.violate("%s has ended, %s of %s was not undone, and is not listed", r.playbook, e.fn, e.name)
		}
	}
}

// asTwin checks that a run without divergence ended as its twin did.
func (m *machine) asTwin(r *simRun) {
	if r.diverged != "" || r.forgot {
		return
	}
	if r.status != r.twin.status {
		m.fatalf("%s ended %s, its twin %s", r.playbook, r.status, r.twin.status)
	}
	if is, want := r.world.there(), r.twin.world.there(); !slices.Equal(is, want) && r.status != journal.Parked {
		m.fatalf("%s left %v, its twin %v", r.playbook, is, want)
	}
}

// lockedBy returns what is wrong with the locks of a run that makes a disruptive call.
func (m *machine) lockedBy(r *simRun) string {
	holders, err := m.journal.Holders(m.t.Context())
	if err != nil {
		return err.Error()
	}
	for _, name := range r.locks {
		if holders[name] != r.id {
			return fmt.Sprintf("%s is held by %q", name, holders[name])
		}
		if old := m.holder[name]; old != "" && old != r.id {
			return fmt.Sprintf("%s disrupts what it shares with this run, and has not ended", old)
		}
		m.holder[name] = r.id
	}
	return ""
}

// keepsLocks checks that a run which has disrupted what it shares with others keeps its
// locks to its end.
func (m *machine) keepsLocks(r *simRun, row journal.Run) {
	if !row.Ended.IsZero() {
		return
	}
	holders, err := m.journal.Holders(m.t.Context())
	m.must(err)
	for name, run := range m.holder {
		if run == r.id && holders[name] != r.id {
			r.world.violate("%s is %s, and has lost its lock %s", r.playbook, row.Status, name)
		}
	}
}

func (m *machine) release(r *simRun) {
	for name, run := range m.holder {
		if run == r.id {
			delete(m.holder, name)
		}
	}
}

// snapshot is what the journal has of a run, as text.
func (m *machine) snapshot(r *simRun) string {
	ctx := m.t.Context()
	err := m.journal.Probe(ctx) // what is queued is committed
	decisions, err2 := m.journal.Decisions(ctx, r.id)
	locks, err3 := m.journal.Locks(ctx)
	text, err4 := json.MarshalIndent([]any{m.history(r), decisions, locks}, "", " ")
	if err := errors.Join(err, err2, err3, err4); err != nil {
		r.world.violate("%v", err)
	}
	return string(text)
}

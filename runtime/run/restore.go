package run

import (
	"time"

	"moonseal/runtime/journal"
)

// restore takes over what the journal knows of the run.
func (r *Run) restore(h *journal.History) {
	byStep := map[int]*step{}
	for _, j := range h.Steps {
		s := &step{
			n: j.Step, kind: j.Kind, name: j.Name, key: j.Key, state: j.State, attempt: j.Attempt,
			deadline: j.Deadline, result: j.Result, err: j.Error, started: j.Started, ended: j.Ended,
		}
		byStep[s.n] = s
		if s.n == approvalStep {
			r.approval = s
			continue
		}
		if s.n >= firstDefer {
			r.deferSteps = append(r.deferSteps, s)
			continue
		}
		r.steps = append(r.steps, s)
	}
	r.journaled = len(r.steps)
	effects := map[[2]int]*effect{}
	for _, j := range h.Effects {
		e := &effect{n: j.N, fn: j.Fn, args: j.Args, look: j.Look, progress: j.Progress, result: j.Result, state: restored(j.State)}
		effects[[2]int{j.Step, j.N}] = e
		if s := byStep[j.Step]; s != nil {
			s.effects = append(s.effects, e)
		}
	}
	for _, j := range h.Undos {
		u := &undo{n: j.N, step: j.Step, fn: j.Fn, args: j.Args, holds: j.Holds, done: j.State != journal.UndoPending, failed: j.Attempts, granted: j.Granted}
		if u.effect = effects[[2]int{j.Step, j.Effect}]; u.effect != nil {
			u.label = byStep[j.Step].label()
		}
		r.undos = append(r.undos, u)
	}
	for _, j := range h.Hooks {
		r.hooks[j.Key] = true
	}
}

// setBack takes what an earlier process waits for as the journal will have it once this
// one has said when it resumes: see [journal.Run.Latest].
func (r *Run) setBack(latest time.Time) {
	back := latest.Sub(r.opt.Clock.Now())
	if back <= 0 {
		return
	}
	for _, s := range r.steps {
		if !s.final() && !s.deadline.IsZero() {
			s.deadline = s.deadline.Add(-back)
		}
	}
	if !r.failing.IsZero() {
		r.failing = r.failing.Add(-back)
	}
}

func restored(s journal.EffectState) effectState {
	switch s {
	case journal.EffectIsDone:
		return done
	case journal.EffectIsNotDone:
		return notDone
	default:
		return open
	}
}

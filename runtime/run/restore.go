package run

import (
	"moonseal/runtime/journal"
)

// restore takes over what the journal knows of the run.
func restore(h *journal.History, c *cursor, st *undoStack) {
	steps := map[int]*step{}
	for _, j := range h.Steps {
		s := &step{
			n: j.Step, kind: j.Kind, stepKey: stepKey{j.Name, j.Key}, state: j.State, attempt: j.Attempt,
			deadline: j.Deadline, result: j.Result, err: j.Error, started: j.Started, ended: j.Ended,
		}
		steps[s.n] = s
		switch {
		case s.n == approvalStep:
			c.approval = s
		case s.n >= firstDefer:
			c.defers = append(c.defers, s)
		default:
			c.steps = append(c.steps, s)
		}
	}
	c.recorded = len(c.steps)
	effects := map[[2]int]*effect{}
	for _, j := range h.Effects {
		e := &effect{
			n: j.N, fn: j.Fn, args: j.Args, look: j.Look, progress: j.Progress, result: j.Result,
			state: restored(j.State),
		}
		effects[[2]int{j.Step, j.N}] = e
		if s := steps[j.Step]; s != nil {
			s.effects = append(s.effects, e)
		}
	}
	for _, j := range h.Undos {
		u := &undo{n: j.N, fn: j.Fn, args: j.Args, done: j.State != journal.UndoPending, failed: j.Attempts, granted: j.Granted}
		if u.effect = effects[[2]int{j.Step, j.Effect}]; u.effect != nil {
			u.label = steps[j.Step].label()
		}
		st.push(u)
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

package run

import (
	"context"
	"strings"

	"moonseal/runtime/journal"
)

// outstanding asks once about each call that may have happened, and returns those of which
// nobody can tell, and those that are half done.
func (r *Run) outstanding(ctx context.Context) (names []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	for _, s := range r.steps {
		for _, e := range s.effects {
			if e.state == open && !r.askOnce(ctx, s, e) {
				names = append(names, e.fn+" may have happened")
			}
			if e.state == notDone && len(e.progress) > 0 && !s.final() {
				names = append(names, e.fn+" is half done: "+brief(e.progress))
			}
		}
	}
	return names
}

// askOnce asks whether an open call has happened, and reports whether that is known now.
func (r *Run) askOnce(ctx context.Context, s *step, e *effect) bool {
	inv, err := r.opt.Registry.DecodeCall(e.fn, e.args)
	if err != nil {
		return false
	}
	spec := inv.Func.Impl.Effect
	if spec.Repeatable {
		return r.notDone(ctx, s, e, false) == nil
	}
	if spec.Probe == nil {
		return false
	}
	c := r.call(ctx, inv.Func)
	c.Earlier = r.progressOf(s, e.fn, &callArgs{raw: e.args})
	result, happened, err := spec.Probe(c, inv.Recv, inv.Args, e.look)
	switch {
	case err != nil:
		return false
	case happened:
		_, err = r.effectDone(ctx, s, e, result)
		return err == nil
	}
	return r.notDone(ctx, s, e, false) == nil
}

// outOfTime ends a run whose time is used up as failed, unless something is outstanding:
// that parks it.
func (r *Run) outOfTime(ctx context.Context, used error) error {
	left := r.outstanding(ctx)
	if len(left) == 0 {
		return used
	}
	return r.park(context.WithoutCancel(ctx), "the run's time is used up, and is outstanding: "+strings.Join(left, "; "), r.redacted(used))
}

// cancelled is the outcome of a run that a person ends, whatever is left.
func (r *Run) cancelled(ctx context.Context) *Outcome {
	out := &Outcome{Status: journal.Cancelled, Reason: "cancelled"}
	if left := r.outstanding(ctx); len(left) > 0 {
		out.Reason += "; left: " + strings.Join(left, "; ")
	}
	return out
}

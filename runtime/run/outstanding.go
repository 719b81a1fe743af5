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
			switch {
			case e.state == open && !r.askOnce(ctx, s, e):
				names = append(names, strings.TrimSuffix(e.fn+" may have happened: "+r.half(e), ": "))
			case e.state == notDone && !s.final():
				if half := r.half(e); half != "" {
					names = append(names, e.fn+" is half done: "+half)
				}
			}
		}
	}
	return names
}

// half says how far a call has come that is half done, "" if it is not or may be made
// again.
func (r *Run) half(e *effect) string {
	if len(e.progress) == 0 {
		return ""
	}
	inv, err := r.opt.Registry.DecodeCall(e.fn, e.args)
	if err != nil {
		return brief(e.progress)
	}
	switch spec := inv.Func.Impl.Effect; {
	case spec.Repeatable:
		return ""
	case spec.Half != nil:
		return spec.Half(inv.Recv, inv.Args, e.progress)
	}
	return brief(e.progress)
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
		_, err = r.happened(ctx, s, e, result)
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
	return &Outcome{Status: journal.Cancelled, Reason: "cancelled", Left: r.outstanding(ctx)}
}

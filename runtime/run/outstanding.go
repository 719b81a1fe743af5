package run

import (
	"context"
	"strings"

	"moonseal/runtime/journal"
)

// outstanding asks once about each call that may have happened, and returns those that are
// still unknown, and those that are half done.
func (r *Run) outstanding(ctx context.Context) (names []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	for _, s := range r.cursor.steps {
		for _, e := range s.effects {
			if e.state == open {
				ch, err := r.decodeChange(ctx, s, e)
				if err != nil || !ch.resolveOnce() {
					names = append(names, strings.TrimSuffix(e.fn+" may have happened: "+e.half(r.opt.Registry), ": "))
					continue
				}
			}
			if e.state == notDone && !s.final() { // it may have been found out just now
				if half := e.half(r.opt.Registry); half != "" {
					names = append(names, e.fn+" is half done: "+half)
				}
			}
		}
	}
	return names
}

// outOfTime ends a run whose time is used up as failed, unless something is outstanding:
// that parks it.
func (r *Run) outOfTime(ctx context.Context, used error) error {
	left := r.outstanding(ctx)
	if len(left) == 0 {
		return used
	}
	return r.park(context.WithoutCancel(ctx), "the run's time is used up, and is outstanding: "+strings.Join(left, "; "), r.log.redacted(used))
}

// cancelled is the outcome of a run that was cancelled, with what is left.
func (r *Run) cancelled(ctx context.Context) *Outcome {
	return &Outcome{Status: journal.Cancelled, Reason: "cancelled", Left: r.outstanding(ctx)}
}

package run

import (
	"context"
	"errors"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// recorder writes the run's records, each with the run's stamp and within the bounds of
// its history.
type recorder struct {
	journal Journal
	clock   clockwork.Clock
	run     string
	epoch   int64
	quota   *journal.Quota
	work    *workTimer // nil until the body starts
}

func (c *recorder) stamp() journal.Stamp {
	return journal.Stamp{Run: c.run, Epoch: c.epoch, At: c.clock.Now().UTC(), Worked: c.work.work()}
}

// write returns when the records are synced. A journal that cannot be written ends this
// process's work: what comes after would not be known.
func (c *recorder) write(ctx context.Context, recs ...journal.Record) error {
	// A cancel must not separate a record from the work that it describes.
	return c.written(c.journal.Write(context.WithoutCancel(ctx), recs...), recs)
}

// lazy lets the records go with the next commit.
func (c *recorder) lazy(ctx context.Context, recs ...journal.Record) error {
	return c.written(c.journal.WriteLazy(context.WithoutCancel(ctx), recs...), recs)
}

func (c *recorder) written(err error, recs []journal.Record) error {
	if err != nil {
		return &control{stop: err}
	}
	c.quota.Add(recs...)
	return nil
}

const boundHint = "return from a step only what later steps need; keep large text in a file or in the log"

// exceeds returns the error of a record that breaks a bound of the journal, nil if none is
// broken; whole reports whether it is the whole history that has no room. The error names
// the call and, unless it is "", what of it is too large.
func (c *recorder) exceeds(p journal.Purpose, call, what string, rec journal.Record) (e *problem.Error, whole bool) {
	over, ok := errors.AsType[*journal.OverError](c.quota.Check(p, rec))
	if !ok {
		return nil, false
	}
	e = &problem.Error{
		Kind: problem.Usage, Code: problem.TooLarge, Call: call, Message: over.Error(), Hint: boundHint,
		Work: problem.NotDone,
	}
	if what != "" {
		e.Message = what + ": " + e.Message
	}
	return e, over.Run
}

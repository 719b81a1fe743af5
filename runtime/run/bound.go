package run

import (
	"context"
	"errors"
	"fmt"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

const boundHint = "return from a step only what later steps need; keep large text in a file or in the log"

// fits returns the error of a record that breaks a bound of the journal, nil if none is
// broken.
func (r *Run) fits(call, whose string, rec journal.Record) *problem.Error {
	purpose := journal.ToBegin
	if r.ending {
		purpose = journal.ToEnd
	}
	return r.over(call, whose, r.quota.Check(purpose, rec))
}

func (r *Run) over(call, whose string, err error) *problem.Error {
	over, ok := errors.AsType[*journal.OverError](err)
	if !ok {
		return nil
	}
	e := &problem.Error{Kind: problem.Usage, Code: problem.TooLarge, Call: call, Message: over.Error(), Hint: boundHint, Work: problem.NotDone, Place: r.reached}
	if whose != "" {
		e.Message = whose + ": " + e.Message
	}
	return e
}

// begins refuses a record that breaks a bound; isNew is whether the journal does not have
// it yet. A value that is too large is refused in each process that comes to it, known or
// not. A history that is full ends the run as failed, which no pcall catches: a later
// process, whose history is another, would not refuse the same.
func (r *Run) begins(call string, rec journal.Record, isNew bool) error {
	err := r.quota.Check(journal.ToBegin, rec)
	over, _ := errors.AsType[*journal.OverError](err)
	switch {
	case over == nil || over.Run && !isNew:
		return nil
	case over.Run:
		return &control{outcome: &Outcome{Status: journal.Failed, Error: r.over(call, "", err)}}
	}
	return r.over(call, "", err)
}

// tooLarge tells what is to be done about a call that has happened and whose result is
// not journaled: it is not made again, and a person says what it returned, in brief.
func (r *Run) tooLarge(ctx context.Context, s *step, e *effect, over *problem.Error) error {
	name := CallName(journal.Effect{Step: s.n, N: e.n})
	return r.cannotTell(ctx, s, fmt.Sprintf("%s has happened and is not made again, but %s: moonseal resume %s --as %s=done --result %s=JSON says it in brief",
		e.fn, over.Message, r.id, name, name), over)
}

// shortened returns e with its texts cut to what a log line may have.
func shortened(e *problem.Error) *problem.Error {
	if e == nil {
		return nil
	}
	out := *e
	for _, text := range []*string{&out.Message, &out.Server, &out.Hint, &out.Target, &out.Tracking, &out.Key, &out.Call} {
		*text = shorten(*text)
	}
	return &out
}

// shorten cuts a text, unless it is one that was cut.
func shorten(text string) string {
	const suffix = 64
	if len(text) <= mostLine+suffix {
		return text
	}
	return cut(text)
}

package run

import (
	"cmp"
	"context"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/duration"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

const (
	firstPoll = 100 * time.Millisecond
	lastPoll  = 15 * time.Second
)

// poll is a step that asks until the answer is yes.
type poll struct {
	run  *Run
	L    *lua.LState
	step *step
	fn   *lua.LFunction
}

// wait calls the poll's function until its first result is neither nil nor false. It asks
// again soon, then less and less often; an error that waiting can fix counts as "not yet".
// A long pause frees the process: the record of it has the reason and the round, and the
// step has its deadline.
func (p *poll) wait(ctx context.Context) (any, error) {
	r, s := p.run, p.step
	started := r.opt.Clock.Now()
	within := s.deadline.Sub(started)
	pause := firstPoll
	reason, logged := "", s.err != nil
	if logged {
		reason = s.err.Message
	}
	for {
		result, notYet, err := p.ask(ctx)
		if err != nil || notYet == nil {
			return result, err
		}
		now := r.opt.Clock.Now()
		left := within - r.opt.Clock.Since(started) // the clock may be set meanwhile
		if left <= 0 {
			return nil, p.timeout(notYet)
		}
		if !logged || notYet.Message != reason {
			reason, logged = notYet.Message, true
			r.log.script.Debug("not yet", "reason", reason)
		}
		if s.options.Every > 0 {
			pause = s.options.Every
		}
		wait := min(max(pause, notYet.RetryAfter.Sub(now)), left)
		if wait >= InProcess {
			return nil, p.suspend(ctx, notYet, now.Add(wait))
		}
		if err := r.wait(ctx, wait); err != nil {
			return nil, err
		}
		pause = min(pause*3/2, lastPoll)
	}
}

// ask asks once: the result, or why there is none yet.
func (p *poll) ask(ctx context.Context) (result any, notYet *problem.Error, err error) {
	r := p.run
	r.asking = "a poll"
	values, err := r.callFrozen(ctx, p.L, p.fn)
	r.asking = ""
	switch {
	case err != nil:
		e, end := r.stepProblem(ctx, p.step, err)
		if end != nil {
			return nil, nil, end
		}
		if !e.Kind.Retryable() || e.Park {
			return nil, nil, e
		}
		why := *e
		why.Message, why.Cause = e.Error(), e
		return nil, &why, nil
	case len(values) > 0 && lua.LVAsBool(values[0]):
		result, err = r.firstResult(p.step, values)
		return result, nil, err
	}
	return nil, &problem.Error{Kind: problem.Unavailable, Message: reasonOf(values), Work: problem.NotDone}, nil
}

// suspend frees the process until the poll's next question.
func (p *poll) suspend(ctx context.Context, notYet *problem.Error, until time.Time) error {
	r, s := p.run, p.step
	why := &problem.Error{Kind: notYet.Kind, Message: cut(notYet.Message), Step: s.label(), Work: problem.NotDone}
	reason := "poll of " + s.label()
	if why.Message != "" {
		reason += ": " + why.Message
	}
	return r.suspend(ctx, &Outcome{Status: journal.Waiting, Reason: reason, Until: until.UTC()},
		journal.StepFailed{Stamp: r.rec.stamp(), Step: s.n, Attempt: s.attempt, Error: why, NextAt: until.UTC()})
}

func (p *poll) timeout(notYet *problem.Error) *problem.Error {
	e := &problem.Error{
		Kind: problem.Timeout, Call: "ctx:poll", Target: p.step.label(), Work: problem.NotDone,
		Message: "condition not met within " + duration.Format(p.step.options.Within),
		Hint:    "see to the reason, then run again; if it only takes longer, allow it more time (within)",
	}
	if notYet.Message != "" {
		e.Message += ": " + notYet.Message
	}
	if notYet.Cause != nil {
		e.Hint, e.Cause = cmp.Or(notYet.Hint, e.Hint), notYet.Cause
	}
	return e
}

func reasonOf(values []lua.LValue) string {
	if len(values) > 1 {
		if text, ok := values[1].(lua.LString); ok {
			return string(text)
		}
	}
	return ""
}

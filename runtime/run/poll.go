package run

import (
	"cmp"
	"context"
	"strconv"
	"time"

	lua "github.com/yuin/gopher-lua"

	"moonseal/runtime/duration"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/sandbox"
)

const (
	firstPoll = 100 * time.Millisecond
	lastPoll  = 15 * time.Second
)

// callUntil calls a poll's function until its first result is neither nil nor
// false. It asks again soon, then less and less often; an error that waiting can
// mend counts as "not yet". A long pause frees the process: the record that says so has
// the reason and the round, and the step has its deadline.
func (r *Run) callUntil(ctx context.Context, L *lua.LState, s *step, fn *lua.LFunction) (any, error) {
	begun := r.opt.Clock.Now()
	within := s.deadline.Sub(begun)
	pause := firstPoll
	said, told := "", s.err != nil
	if told {
		said = s.err.Message
	}
	for {
		result, notYet, err := r.question(ctx, L, s, fn)
		if err != nil || notYet == nil {
			return result, err
		}
		now := r.opt.Clock.Now()
		left := within - r.opt.Clock.Since(begun) // the clock may be set meanwhile
		if left <= 0 {
			return nil, r.pollTimeout(s, notYet)
		}
		if !told || notYet.Message != said {
			said, told = notYet.Message, true
			r.scriptLog.Debug("not yet", "reason", said)
		}
		if s.options.Every > 0 {
			pause = s.options.Every
		}
		wait := min(max(pause, notYet.RetryAfter.Sub(now)), left)
		if wait >= InProcess {
			return nil, r.suspendPoll(ctx, s, notYet, now.Add(wait))
		}
		if err := r.wait(ctx, wait); err != nil {
			return nil, err
		}
		pause = min(pause*3/2, lastPoll)
	}
}

// question asks once: the result, or why there is none yet.
func (r *Run) question(ctx context.Context, L *lua.LState, s *step, fn *lua.LFunction) (result any, notYet *problem.Error, err error) {
	r.asking = "a poll"
	values, err := r.callFrozen(ctx, L, fn)
	r.asking = ""
	switch {
	case err != nil:
		e, end := r.stepProblem(ctx, s, err)
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
		result, err = r.firstResult(s, values)
		return result, nil, err
	}
	return nil, &problem.Error{Kind: problem.Unavailable, Message: reasonOf(values), Work: problem.NotDone}, nil
}

// suspendPoll frees the process until the poll's next question.
func (r *Run) suspendPoll(ctx context.Context, s *step, notYet *problem.Error, until time.Time) error {
	why := &problem.Error{Kind: notYet.Kind, Message: cut(notYet.Message), Step: s.label(), Work: problem.NotDone}
	reason := "poll of " + s.label()
	if why.Message != "" {
		reason += ": " + why.Message
	}
	return r.suspend(ctx, &Outcome{Status: journal.Waiting, Reason: reason, Until: until.UTC()},
		journal.StepFailed{Stamp: r.stamp(), Step: s.n, Attempt: s.attempt, Error: why, NextAt: until.UTC()})
}

func reasonOf(values []lua.LValue) string {
	if len(values) > 1 {
		if text, ok := values[1].(lua.LString); ok {
			return string(text)
		}
	}
	return ""
}

func (r *Run) pollTimeout(s *step, notYet *problem.Error) *problem.Error {
	e := &problem.Error{
		Kind: problem.Timeout, Call: "ctx:poll", Target: s.label(), Work: problem.NotDone, Message: "condition not met within " + duration.Format(s.options.Within),
		Hint: "see to the reason, then run again; where it only takes longer, allow it more time (within)",
	}
	if notYet.Message != "" {
		e.Message += ": " + notYet.Message
	}
	if notYet.Cause != nil {
		e.Hint, e.Cause = cmp.Or(notYet.Hint, e.Hint), notYet.Cause
	}
	return e
}

// sleep is ctx:sleep.
func (r *Run) sleep(L *lua.LState, d time.Duration) error {
	ctx := L.Context()
	s, err := r.enter(ctx, kindSleep, kindSleep, strconv.Itoa(r.next+1), stepOptions{Within: d})
	if err != nil {
		return err
	}
	if _, err, ok := r.settled(s); ok {
		return err
	}
	if s.attempt == 0 {
		s.attempt = 1
		rec := journal.StepStarted{Stamp: r.stamp(), Step: s.n, Kind: s.kind, Name: s.name, Key: s.key, Attempt: 1}
		s.deadline = rec.At.Add(d)
		rec.Deadline = s.deadline
		if err := r.write(ctx, rec); err != nil {
			return err
		}
	}
	left := s.deadline.Sub(r.opt.Clock.Now())
	if left >= InProcess {
		return r.suspend(ctx, &Outcome{Status: journal.Waiting, Reason: "sleep", Until: s.deadline})
	}
	if left > 0 {
		if err := r.wait(ctx, left); err != nil {
			return err
		}
	}
	_, err = r.done(ctx, s, nil)
	return err
}

// raise ends a Lua call with err.
func raise(L *lua.LState, err error) { sandbox.Raise(L, err) }

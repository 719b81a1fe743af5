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
// mend counts as "not yet".
func (r *Run) callUntil(ctx context.Context, L *lua.LState, s *step, fn *lua.LFunction) (any, error) {
	pause := firstPoll
	var why string
	var last *problem.Error
	for {
		values, err := r.state.Call(ctx, L, fn)
		switch {
		case err != nil:
			e, end := r.stepProblem(ctx, s, err)
			if end != nil {
				return nil, end
			}
			if !e.Kind.Retryable() || e.Park {
				return nil, e
			}
			last, why = e, e.Error()
		case len(values) > 0 && lua.LVAsBool(values[0]):
			return r.firstResult(s, values)
		default:
			last, why = nil, reasonOf(values)
		}
		left := s.deadline.Sub(r.opt.Clock.Now())
		if left <= 0 {
			return nil, r.pollTimeout(s, why, last)
		}
		r.logger.Debug("not yet", "reason", why)
		if s.options.Every > 0 {
			pause = s.options.Every
		}
		if err := r.wait(ctx, min(pause, left)); err != nil {
			return nil, err
		}
		pause = min(pause*3/2, lastPoll)
	}
}

func reasonOf(values []lua.LValue) string {
	if len(values) > 1 {
		if text, ok := values[1].(lua.LString); ok {
			return string(text)
		}
	}
	return ""
}

func (r *Run) pollTimeout(s *step, why string, last *problem.Error) *problem.Error {
	e := &problem.Error{
		Kind: problem.Timeout, Call: "ctx:poll", Target: s.label(), Work: problem.NotDone, Message: "not so within " + duration.Format(s.options.Within),
		Hint: "see to the reason, then run again; where it only takes longer, allow it more time (within)",
	}
	if why != "" {
		e.Message += ": " + why
	}
	if last != nil {
		e.Hint, e.Cause = cmp.Or(last.Hint, e.Hint), last
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

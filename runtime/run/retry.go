package run

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"moonseal/runtime/duration"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

const (
	// InProcess is the longest wait that stays in the process; a longer one
	// frees it.
	InProcess = 30 * time.Second
	// DefaultGiveUp is how long a run continues at a step that fails.
	DefaultGiveUp = 7 * 24 * time.Hour
)

// roundWait is the wait between rounds of attempts, after so many failed ones, and the
// last of the waits again and again: what Let's Encrypt asks for
// (https://letsencrypt.org/docs/integration-guide/, "Retrying Failures").
func roundWait(failures int) time.Duration {
	waits := []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour}
	return waits[min(failures, len(waits)-1)]
}

// attemptFailed waits for the next attempt and returns nil, or returns what the
// body ends or continues with.
func (r *Run) attemptFailed(ctx context.Context, s *step, round int, err error) error {
	e, end := r.stepProblem(ctx, s, err)
	if end != nil {
		return end
	}
	if e.Park {
		return r.park(ctx, fmt.Sprintf("step %s: %s", s.label(), e.Error()), e)
	}
	if !s.options.Retry.covers(e.Kind) || s.kind == kindPoll {
		return r.final(ctx, s, e)
	}
	now := r.opt.Clock.Now()
	if round < s.options.Retry.Count {
		wait := s.options.Retry.wait(round, r.opt.Jitter())
		if until := e.RetryAfter.Sub(now); until > wait {
			wait = until
		}
		if wait < InProcess {
			rec := journal.StepFailed{Stamp: r.stamp(), Step: s.n, Attempt: s.attempt, Error: e, NextAt: now.Add(wait).UTC()}
			if err := r.write(ctx, rec); err != nil {
				return err
			}
			s.state = journal.StepRetrying
			r.logStep(s, slog.LevelWarn, "retrying", "attempt", s.attempt, "in", wait.Round(time.Millisecond).String(), "error", e.Error())
			r.runHook(ctx, "retry", attemptEvent(s, e))
			return r.wait(ctx, wait)
		}
	}
	return r.suspendFailed(ctx, s, e)
}

// final ends a step that no waiting mends. Where a change may have been made and
// nobody can tell, a person has to look: failing would undo and start over. A
// change that turns out to have been made is worth one more attempt: nil.
func (r *Run) final(ctx context.Context, s *step, e *problem.Error) error {
	happened := false
	for open := s.open(); open != nil; open = s.open() {
		switch err := r.settleOne(ctx, s, open); {
		case err == nil:
			happened = happened || open.state == done
		case isControl(err) || ctx.Err() != nil:
			return err
		default:
			return r.park(ctx, fmt.Sprintf("step %s: nobody can tell whether %s has happened", s.label(), open.fn), e)
		}
	}
	if happened {
		return nil
	}
	return r.failedForGood(ctx, s, e)
}

// suspendFailed lets the run wait and continue at this step, until it gives up.
func (r *Run) suspendFailed(ctx context.Context, s *step, e *problem.Error) error {
	now := r.opt.Clock.Now()
	since := r.failing
	if since.IsZero() {
		since = now
	}
	if now.Sub(since) >= r.playbook.GiveUp {
		e.Message = fmt.Sprintf("given up after %s of trying: %s", duration.Format(r.playbook.GiveUp), e.Message)
		return r.final(ctx, s, e)
	}
	until := now.Add(roundWait(r.failures))
	after := e.RetryAfter
	if last := since.Add(r.playbook.GiveUp); after.After(last) {
		after = last
	}
	if after.After(until) {
		until = after
	}
	return r.suspend(ctx, &Outcome{Status: journal.Waiting, Reason: "retry of " + s.label(), Until: until.UTC(), Error: e},
		journal.StepFailed{Stamp: r.stamp(), Step: s.n, Attempt: s.attempt, Error: e, NextAt: until.UTC()})
}

// longestAsked is how long another side may ask to be left alone: it may be mistaken, or
// hostile.
const longestAsked = 24 * time.Hour

// notBefore returns the instant before which another side asks not to come again, at most
// a day from now.
func (r *Run) notBefore(asked time.Time) time.Time {
	if most := r.opt.Clock.Now().Add(longestAsked); asked.After(most) {
		return most
	}
	return asked
}

// suspend journals that the run waits, and ends the body.
func (r *Run) suspend(ctx context.Context, out *Outcome, before ...journal.Record) error {
	r.logDropped()
	out.Reason, out.Error = shorten(out.Reason), shortened(out.Error)
	rec := journal.RunWaiting{Stamp: r.stamp(), For: out.Reason, Until: out.Until, Failure: out.Error != nil, Error: out.Error}
	if err := r.write(ctx, append(before, rec)...); err != nil {
		return err
	}
	r.runHook(ctx, "wait", r.waitEvent(out))
	return &control{outcome: out}
}

// park journals that the run waits for a person, and ends the body.
func (r *Run) park(ctx context.Context, reason string, e *problem.Error) error {
	r.logDropped()
	reason, e = shorten(reason), shortened(e)
	if err := r.write(ctx, journal.RunParked{Stamp: r.stamp(), Reason: reason, Error: e}); err != nil {
		return err
	}
	return &control{outcome: &Outcome{Status: journal.Parked, Reason: reason, Error: e}}
}

// wait waits in the process; the time does not count as work. A run that drains does
// not wait to the end: the next process continues here.
func (r *Run) wait(ctx context.Context, d time.Duration) error {
	if r.ending {
		return r.waitUnless(ctx, d, nil)
	}
	return r.waitUnless(ctx, d, r.opt.Drain)
}

func (r *Run) waitUnless(ctx context.Context, d time.Duration, drain <-chan struct{}) error {
	defer r.work.pause()()
	timer := r.opt.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		return nil
	case <-drain:
		return &control{outcome: &Outcome{Status: Replaying}}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// draining reports whether the run is to stop where it can continue later.
func (r *Run) draining() bool {
	select {
	case <-r.opt.Drain:
		return true
	default:
		return false
	}
}

// Retry is how a step is attempted again within one round.
type Retry struct {
	Count   int           `lua:"count,optional" default:"3" doc:"attempts in all"`
	Backoff time.Duration `lua:"backoff,optional" default:"1s" doc:"wait after the first attempt; it doubles each time"`
	Max     time.Duration `lua:"max,optional" default:"20s" doc:"longest wait"`
	On      []string      `lua:"on,optional" doc:"kinds of errors, of those that waiting can mend; all of them by default"`
}

func (p Retry) covers(k problem.Kind) bool {
	return k.Retryable() && (len(p.On) == 0 || slices.Contains(p.On, string(k)))
}

// wait returns the wait after attempt n of a round: doubled each time, bounded,
// and spread by a fifth either way so that many runs do not come at once.
func (p Retry) wait(n int, jitter float64) time.Duration {
	d := p.Backoff
	for range n - 1 {
		if d *= 2; d >= p.Max {
			break
		}
	}
	d = min(d, p.Max)
	return time.Duration(float64(d) * (0.8 + 0.4*jitter))
}

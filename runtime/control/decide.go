package control

import (
	"context"
	"maps"
	"slices"
	"strings"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// Decision is who decides, and why.
type Decision struct {
	By     string // the user behind the socket or sudo
	Ticket string // of a change-management system
	Reason string
	Now    bool // of [Control.Cancel]: the call under way is not waited for
	// Verdicts are for [Control.Resume]: what became of the calls of which nobody can tell.
	Verdicts run.Verdicts
}

// verdict returns the verdicts as the journal has them, without results.
func (d Decision) verdict() string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(d.Verdicts)) {
		as := d.Verdicts[name].As
		if name != "" {
			as = name + "=" + as
		}
		words = append(words, as)
	}
	return strings.Join(words, " ")
}

// WaitWorker is what a run waits for that is free to continue.
const WaitWorker = "a free worker"

// Approve lets a run continue that waits for approval.
func (c *Control) Approve(ctx context.Context, id string, d Decision) (journal.Run, error) {
	return c.answer(ctx, id, true, d)
}

// Deny makes the run fail that waits for approval.
func (c *Control) Deny(ctx context.Context, id string, d Decision) (journal.Run, error) {
	return c.answer(ctx, id, false, d)
}

func (c *Control) answer(ctx context.Context, id string, approve bool, d Decision) (journal.Run, error) {
	h, err := c.unended(ctx, id)
	if err != nil {
		return journal.Run{}, err
	}
	what := journal.DecidedDeny
	if approve {
		what = journal.DecidedApprove
	}
	return c.settle(ctx, h, what, d, func(s journal.Stamp) ([]journal.Record, error) {
		a := run.Approval{By: d.By, Ticket: d.Ticket, Reason: d.Reason, At: s.At}
		rec, asked, err := run.Decide(h, s, approve, a)
		if err == nil && (!asked || h.Run.Status != journal.Waiting) {
			err = &problem.Error{
				Kind: problem.Conflict, Code: problem.NotAsked, Target: "run " + h.Run.ID, Message: "it is not waiting for approval", Work: problem.NotDone,
				Hint: "moonseal status shows what it waits for",
			}
		}
		return []journal.Record{rec}, err
	})
}

// Resume lets a parked run continue.
func (c *Control) Resume(ctx context.Context, id string, d Decision) (journal.Run, error) {
	h, err := c.unended(ctx, id)
	if err != nil {
		return journal.Run{}, err
	}
	if h.Run.Status != journal.Parked {
		return journal.Run{}, &problem.Error{
			Kind: problem.Conflict, Code: problem.NotParked, Target: "run " + h.Run.ID, Message: "it is not parked: it is " + string(h.Run.Status), Work: problem.NotDone,
			Hint: "moonseal run " + h.Run.Playbook + " makes a waiting run continue now",
		}
	}
	return c.settle(ctx, h, journal.DecidedResume, d, func(s journal.Stamp) ([]journal.Record, error) {
		return run.Settle(h, s, c.functions, d.Verdicts)
	})
}

// settle writes a decision about a run that no process works on, with what decide
// returns. From then on the run waits for a worker only: a daemon that is killed now
// continues it when it is back.
func (c *Control) settle(ctx context.Context, h *journal.History, what string, d Decision, decide func(journal.Stamp) ([]journal.Record, error)) (journal.Run, error) {
	ctx = context.WithoutCancel(ctx) // whole or not at all, whoever waits for the answer
	err := c.journal.DecideRun(ctx, h.Run, func(s journal.Stamp) ([]journal.Record, error) {
		recs, err := decide(s)
		decided := c.decided(what, h.Run.ID, d)
		decided.Stamp = s
		return append(recs, decided, journal.RunWaiting{Stamp: s, For: WaitWorker, Until: s.At}), err
	})
	if err != nil {
		return journal.Run{}, err
	}
	return c.journal.Run(ctx, h.Run.ID)
}

// Retry makes a run that waits until a moment continue now, and reports whether it
// does: one that waits for approval or for a lock is not due before that.
func (c *Control) Retry(ctx context.Context, id string, d Decision) (r journal.Run, due bool, err error) {
	h, err := c.unended(ctx, id)
	if err != nil {
		return r, false, err
	}
	r = h.Run
	if r.Status != journal.Waiting || r.WakeAt.IsZero() {
		return r, r.Status != journal.Parked && r.Status != journal.Waiting, nil
	}
	ctx = context.WithoutCancel(ctx)
	err = c.journal.DecideRun(ctx, r, func(s journal.Stamp) ([]journal.Record, error) {
		decided := c.decided(journal.DecidedRetry, r.ID, d)
		decided.Stamp = s
		return []journal.Record{decided, journal.RunWaiting{Stamp: s, For: r.WaitFor, Until: s.At, Error: r.Error}}, nil
	})
	if problem.HasCode(err, problem.StaleEpoch) { // a process has just taken it up
		return r, true, nil
	}
	if err != nil {
		return r, false, err
	}
	r, err = c.journal.Run(ctx, r.ID)
	return r, true, err
}

// Cancel asks a run to end. Its process, or the next one, undoes what it has to and
// ends it.
func (c *Control) Cancel(ctx context.Context, id string, d Decision) (journal.Run, error) {
	h, err := c.unended(ctx, id)
	if err != nil {
		return journal.Run{}, err
	}
	ctx = context.WithoutCancel(ctx)
	asked := c.decided(journal.DecidedCancel, h.Run.ID, d)
	if d.Now {
		asked.Verdict = journal.VerdictNow
	}
	if err := c.journal.AskCancel(ctx, asked); err != nil {
		return journal.Run{}, err
	}
	return c.journal.Run(ctx, h.Run.ID)
}

// Cleanup decides that what an ended run could not undo is tried again now. The caller
// does that.
func (c *Control) Cleanup(ctx context.Context, id string, d Decision) (journal.Run, error) {
	r, _, err := c.ended(ctx, id)
	if err != nil {
		return r, err
	}
	return r, c.journal.Decide(ctx, c.decided(journal.DecidedCleanup, r.ID, d))
}

// Forget abandons what an ended run could not undo, and returns what that was.
func (c *Control) Forget(ctx context.Context, id string, d Decision) ([]journal.Undo, error) {
	r, left, err := c.ended(ctx, id)
	if err != nil {
		return nil, err
	}
	return left, c.journal.Forget(context.WithoutCancel(ctx), r, c.decided(journal.DecidedForget, r.ID, d))
}

// Unlock releases the locks of a run that waits or is parked, and returns their names.
// Before its next disruptive change the run takes them again.
func (c *Control) Unlock(ctx context.Context, id string, d Decision) ([]string, error) {
	h, err := c.unended(ctx, id)
	if err != nil {
		return nil, err
	}
	return c.journal.Unlock(context.WithoutCancel(ctx), c.decided(journal.DecidedUnlock, h.Run.ID, d))
}

// ForgetPlaybook drops what is known of a playbook whose script is gone, and which has
// no unfinished run. Whether its script is gone the caller knows.
func (c *Control) ForgetPlaybook(ctx context.Context, playbook string, d Decision) error {
	rec := c.decided(journal.DecidedForget, "", d)
	rec.Playbook = playbook
	return c.journal.ForgetPlaybook(context.WithoutCancel(ctx), rec)
}

// ScriptExists is the error of a playbook that cannot be forgotten.
func ScriptExists(playbook, file string) error {
	return &problem.Error{
		Kind: problem.Conflict, Code: problem.HasScript, Target: playbook, Message: "its script exists: " + file, Work: problem.NotDone,
		Hint: "remove the script first; moonseal pause " + playbook + " keeps it from running",
	}
}

// Pause lets the playbook, or for "" every playbook, begin no runs by schedule.
func (c *Control) Pause(ctx context.Context, playbook string, d Decision) error {
	return c.setPaused(ctx, playbook, journal.DecidedPause, d)
}

// Unpause ends that. A playbook that was paused by name must be unpaused by name.
func (c *Control) Unpause(ctx context.Context, playbook string, d Decision) error {
	return c.setPaused(ctx, playbook, journal.DecidedUnpause, d)
}

func (c *Control) setPaused(ctx context.Context, playbook, what string, d Decision) error {
	rec := c.decided(what, "", d)
	rec.Playbook = playbook
	return c.journal.Pause(context.WithoutCancel(ctx), rec)
}

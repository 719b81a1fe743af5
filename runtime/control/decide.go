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

// Decision is a decision about a run or playbook: by whom, and why.
type Decision struct {
	By     string // the user behind the socket or sudo
	Ticket string // of a change-management system
	Reason string
	Now    bool // of [Control.Cancel]: do not wait for the call under way
	// Verdicts are for [Control.Resume]: the outcomes of the calls that are unknown.
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

// WaitWorker is what a run waits for if it could continue.
const WaitWorker = "a free worker"

// Approve approves a run that waits for approval, so that it continues.
func (c *Control) Approve(ctx context.Context, id string, d Decision) (journal.Run, error) {
	return c.answer(ctx, id, true, d)
}

// Deny denies a run that waits for approval, so that it fails.
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
	return c.decide(ctx, h, what, d, func(s journal.Stamp) ([]journal.Record, error) {
		a := run.Approval{By: d.By, Ticket: d.Ticket, Reason: d.Reason, At: s.At}
		rec, asked, err := run.DecideApproval(h, s, approve, a)
		if err == nil && (!asked || h.Run.Status != journal.Waiting) {
			err = &problem.Error{
				Kind: problem.Conflict, Code: problem.NotAsked, Target: "run " + h.Run.ID, Message: "it is not waiting for approval", Work: problem.NotDone,
				Hint: "moonseal status shows what it waits for",
			}
		}
		return []journal.Record{rec}, err
	})
}

// Resume resumes a parked run.
func (c *Control) Resume(ctx context.Context, id string, d Decision) (journal.Run, error) {
	h, err := c.unended(ctx, id)
	if err != nil {
		return journal.Run{}, err
	}
	if h.Run.Status != journal.Parked {
		return journal.Run{}, &problem.Error{
			Kind: problem.Conflict, Code: problem.NotParked, Target: "run " + h.Run.ID, Work: problem.NotDone,
			Message: "it is not parked: it is " + string(h.Run.Status),
			Hint:    "moonseal run " + h.Run.Playbook + " makes a waiting run continue now",
		}
	}
	return c.decide(ctx, h, journal.DecidedResume, d, func(s journal.Stamp) ([]journal.Record, error) {
		return run.DecideCalls(h, s, c.functions, d.Verdicts)
	})
}

// decide writes a decision about a run that no process works on, with the records that
// effect returns. From then on the run waits for a worker only: if the daemon is killed now
// the next one continues it.
func (c *Control) decide(
	ctx context.Context, h *journal.History, what string, d Decision, effect func(journal.Stamp) ([]journal.Record, error),
) (journal.Run, error) {
	ctx = context.WithoutCancel(ctx) // all or nothing, even if the caller goes away
	err := c.journal.DecideRun(ctx, h.Run, func(s journal.Stamp) ([]journal.Record, error) {
		recs, err := effect(s)
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
// does: one that waits for approval or for a lock does not.
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
	if problem.HasCode(err, problem.StaleEpoch) { // a process has just resumed it
		return r, true, nil
	}
	if err != nil {
		return r, false, err
	}
	r, err = c.journal.Run(ctx, r.ID)
	return r, true, err
}

// Cancel cancels a run. Its process, or the next one, runs its undos and ends it.
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

// Cleanup decides that the pending undos of an ended run are retried now. The caller
// retries them.
func (c *Control) Cleanup(ctx context.Context, id string, d Decision) (journal.Run, error) {
	r, _, err := c.ended(ctx, id)
	if err != nil {
		return r, err
	}
	return r, c.journal.Decide(ctx, c.decided(journal.DecidedCleanup, r.ID, d))
}

// Forget abandons the pending undos of an ended run, and returns them.
func (c *Control) Forget(ctx context.Context, id string, d Decision) ([]journal.Undo, error) {
	r, left, err := c.ended(ctx, id)
	if err != nil {
		return nil, err
	}
	return left, c.journal.Forget(context.WithoutCancel(ctx), r, c.decided(journal.DecidedForget, r.ID, d))
}

// Unlock releases the locks of a run that waits or is parked, and returns their names.
// Before its next disruptive change the run acquires them again.
func (c *Control) Unlock(ctx context.Context, id string, d Decision) ([]string, error) {
	h, err := c.unended(ctx, id)
	if err != nil {
		return nil, err
	}
	return c.journal.Unlock(context.WithoutCancel(ctx), c.decided(journal.DecidedUnlock, h.Run.ID, d))
}

// ForgetPlaybook forgets a playbook whose script is gone, and which has no unfinished run.
// The caller must have checked that its script is gone.
func (c *Control) ForgetPlaybook(ctx context.Context, playbook string, d Decision) error {
	rec := c.decided(journal.DecidedForget, "", d)
	rec.Playbook = playbook
	return c.journal.ForgetPlaybook(context.WithoutCancel(ctx), rec)
}

// ScriptExists returns the error of a playbook that cannot be forgotten.
func ScriptExists(playbook, file string) error {
	return &problem.Error{
		Kind: problem.Conflict, Code: problem.HasScript, Target: playbook, Message: "its script exists: " + file, Work: problem.NotDone,
		Hint: "remove the script first; moonseal pause " + playbook + " keeps it from running",
	}
}

// Pause pauses the playbook's schedule, or for "" that of every playbook.
func (c *Control) Pause(ctx context.Context, playbook string, d Decision) error {
	return c.setPaused(ctx, playbook, journal.DecidedPause, d)
}

// Unpause ends a pause. A playbook that was paused by name must be unpaused by name.
func (c *Control) Unpause(ctx context.Context, playbook string, d Decision) error {
	return c.setPaused(ctx, playbook, journal.DecidedUnpause, d)
}

func (c *Control) setPaused(ctx context.Context, playbook, what string, d Decision) error {
	rec := c.decided(what, "", d)
	rec.Playbook = playbook
	return c.journal.Pause(context.WithoutCancel(ctx), rec)
}

package cli

import (
	"context"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// runInDaemon asks the daemon for a run and follows it.
func (a *app) runInDaemon(ctx context.Context, cfg *config.Config, c *api.Client, name string, opts runOptions) (int, error) {
	if opts.now || opts.replay {
		return exitUsage, &problem.Error{
			Kind: problem.Usage, Message: "--now and --replay are for a run in the foreground, and the daemon runs",
			Hint: "the daemon keeps windows and blackouts; change those in script or config, or stop it",
		}
	}
	reply, err := c.Run(ctx, api.RunRequest{Playbook: name, Force: opts.force})
	if err != nil {
		return exitFailed, err
	}
	p := a.newProgress(opts.json, cfg.Log.Level)
	defer p.close()
	p.begin(name, reply.ID, reply.Resumed)
	if e := reply.Broken; e != nil {
		_, _ = plain.Fprintf(a.stderr, "moonseal: the script is broken, and its last good version runs: %s\n", e)
		printPlace(a.stderr, e.Place)
	}
	out, err := a.follow(ctx, c, reply.ID, opts.wait, p)
	if err != nil {
		if ctx.Err() != nil {
			p.interrupted()
			err = &problem.Error{Kind: problem.Unavailable, Message: "no longer followed; the daemon goes on with the run", Hint: "moonseal cancel " + reply.ID + " ends it"}
		}
		return exitFailed, err
	}
	p.outcome(name, reply.ID, out)
	return outcomeCode(out, opts.detailed), nil
}

// follow shows a run until it ends or stops; with wait, through its waits.
func (a *app) follow(ctx context.Context, c *api.Client, id string, wait bool, p *progress) (*run.Outcome, error) {
	var shown time.Time
	for {
		r, err := c.Follow(ctx, id, p.record)
		if err != nil {
			return nil, err
		}
		out := outcomeOf(r)
		if out.Status != journal.Waiting || !wait {
			return out, nil
		}
		if r.Updated.After(shown) { // each wait once
			shown = r.Updated
			p.waiting(out)
		}
		select {
		case <-a.clock.After(min(max(out.Until.Sub(a.clock.Now()), followPause), followMost)):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

const (
	followPause = time.Second      // between two looks at a run that waits
	followMost  = 10 * time.Second // since a person may wake it at any time
)

// outcomeOf returns a run that has ended or stopped as its process would have.
func outcomeOf(r *journal.Run) *run.Outcome {
	out := &run.Outcome{Status: r.Status, Reason: r.Reason, Error: r.Error}
	if r.Status == journal.Waiting {
		out.Reason, out.Until = r.WaitFor, r.WakeAt
	}
	return out
}

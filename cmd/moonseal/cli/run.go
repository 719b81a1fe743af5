package cli

import (
	"cmp"
	"context"
	"errors"

	"github.com/spf13/cobra"

	"moonseal/runtime/config"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/worker"
)

func (a *app) runCommand() *cobra.Command {
	var opts runOptions
	cmd := &cobra.Command{
		Use:   "run NAME",
		Short: "Run a playbook now, or go on with its unfinished run",
		Long: `Runs a playbook in the foreground. Where a run of it is unfinished (it waits for
its next attempt, or its process was killed), that run goes on; otherwise a new
one begins. Ctrl-C interrupts: the next "moonseal run NAME" goes on. Where a daemon
runs, it does the work, and this command follows it.

Exit codes: 0 done or not due, 1 failed or interrupted, 2 wrong use, 3 not due
where --detailed-exitcode asks for it, 4 parked, 5 waiting.`,
		Args:              arguments(1, 1),
		ValidArgsFunction: first(a.completePlaybooks),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.once = cmd.Flags().Changed("replay") && !opts.replay
			return a.runCommandLine(cmd.Context(), args[0], opts)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&opts.force, "force", false, "renew even if not due")
	f.BoolVar(&opts.now, "now", false, "change the appliance now, outside of the playbook's window and of blackouts too")
	f.BoolVar(&opts.json, "json", false, "print each event as a line of JSON")
	f.BoolVar(&opts.replay, "replay", false, "for rehearsals: take the run up in a new process after each step, as a lab's config does")
	f.BoolVar(&opts.wait, "wait", false, "wait until the run finishes")
	f.BoolVar(&opts.detailed, "detailed-exitcode", false, `exit with 3 where the certificate is not due`)
	return cmd
}

// runCommandLine runs a playbook through the daemon, or here.
func (a *app) runCommandLine(ctx context.Context, name string, opts runOptions) error {
	cfg, err := a.reachConfig(ctx)
	if err != nil {
		return err
	}
	if c := a.daemon(cfg); c.Alive(ctx) {
		return ended(a.runInDaemon(ctx, cfg, c, name, opts))
	}
	return ended(a.run(ctx, cfg, name, opts))
}

// ended returns a command's error for a code and an error that was not printed yet.
func ended(code int, err error) error {
	if err != nil || code == exitDone {
		return err
	}
	return exitCode(code)
}

type runOptions struct {
	force, now, json, wait, detailed bool
	replay, once                     bool // take it up anew after each step; do not

	interrupted string // hint of how to continue; moonseal run NAME unless set
}

// in says how the job is done. What the command line does not say the config does.
func (o runOptions) in(job *worker.Job) {
	switch {
	case o.replay:
		job.Mode = run.Replay
	case o.once:
		job.Mode = run.Continue
	}
}

// run runs the playbook called name and returns the exit code.
func (a *app) run(ctx context.Context, cfg *config.Config, name string, opts runOptions) (code int, err error) {
	p := a.newProgress(opts.json, cfg.Log.Level)
	defer p.close()
	j, err := a.openJournal(ctx, cfg)
	if err != nil {
		return exitFailed, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	parent, err := a.parent(cfg, j, control.New(j, a.clock), p.record)
	if err != nil {
		return exitFailed, err
	}
	out, id, err := a.takeUp(ctx, cfg, parent, name, opts, p)
	for err == nil && opts.wait && out.Status == journal.Waiting && !out.Until.IsZero() {
		p.waiting(out)
		select {
		case <-a.clock.After(out.Until.Sub(a.clock.Now())):
		case <-ctx.Done():
			p.outcome(name, id, out)
			return exitWaiting, nil
		}
		out, err = a.resume(ctx, cfg, parent, id, opts)
	}
	if err != nil {
		if ctx.Err() != nil && id != "" {
			p.interrupted()
			return exitFailed, &problem.Error{Kind: problem.Unavailable, Message: "interrupted", Hint: cmp.Or(opts.interrupted, "moonseal run "+name+" goes on from there")}
		}
		return exitFailed, err
	}
	p.outcome(name, id, out)
	return outcomeCode(out, opts.detailed), nil
}

func outcomeCode(out *run.Outcome, detailed bool) int {
	switch out.Status {
	case journal.Done:
		return exitDone
	case journal.Skipped:
		if detailed {
			return exitNotDue
		}
		return exitDone
	case journal.Parked:
		return exitParked
	case journal.Waiting:
		return exitWaiting
	default:
		return exitFailed
	}
}

// takeUp continues with the playbook's unfinished run, or begins a new one.
func (a *app) takeUp(ctx context.Context, cfg *config.Config, parent *worker.Parent, name string, opts runOptions, p *progress) (*run.Outcome, string, error) {
	unfinished, err := parent.Journal.Unfinished(ctx, name)
	if err != nil {
		return nil, "", err
	}
	if len(unfinished) > 0 {
		r := unfinished[0]
		p.begin(name, r.ID, true)
		if r.Status == journal.Parked && r.CancelAsked.IsZero() {
			return &run.Outcome{Status: journal.Parked, Reason: r.Reason, Error: r.Error}, r.ID, nil
		}
		if _, _, err := parent.Control.Retry(ctx, r.ID, control.Decision{By: a.who()}); err != nil {
			return nil, r.ID, err
		}
		out, err := a.resume(ctx, cfg, parent, r.ID, opts)
		return out, r.ID, err
	}
	work, err := job(cfg)
	if err != nil {
		return nil, "", err
	}
	playbook, err := a.findPlaybook(ctx, cfg, name)
	if err != nil {
		return nil, "", err
	}
	work.Files = playbook.Files()
	work.Playbook, work.Now = name, opts.now
	opts.in(&work)
	var id string
	out, err := parent.Begin(ctx, work, worker.Ask{Force: opts.force, By: a.who(), Shared: cfg.SharedLocks}, func(run string) {
		id = run
		p.begin(name, id, false)
	})
	return out, id, err
}

func (a *app) resume(ctx context.Context, cfg *config.Config, parent *worker.Parent, id string, opts runOptions) (*run.Outcome, error) {
	work, err := job(cfg)
	if err != nil {
		return nil, err
	}
	work.Now = opts.now
	opts.in(&work)
	// An old child, whose parent was killed a moment ago, may still be ending.
	return parent.Resume(ctx, work, id)
}

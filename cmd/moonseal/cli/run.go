package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"moonseal/runtime/journal"
	"moonseal/runtime/run"
	"moonseal/runtime/worker"
)

func (a *app) runCommand() *cobra.Command {
	var opts runOptions
	cmd := &cobra.Command{
		Use:   "run NAME",
		Short: "Run a playbook now, or continue its unfinished run",
		Long: `Runs a playbook in the foreground. If a run of it is unfinished (it waits for
its next attempt, or its process was killed), that run continues; otherwise a new
one starts. Ctrl-C interrupts: the next "moonseal run NAME" continues. If a daemon
runs, it does the work, and this command follows it.

Exit codes: 0 done or not due, 1 failed or interrupted, 2 wrong use, 3 not due
with --detailed-exitcode, 4 parked, 5 waiting.`,
		Args:              arguments(1, 1),
		ValidArgsFunction: first(a.completePlaybooks),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.once = cmd.Flags().Changed("replay") && !opts.replay
			ctx := cmd.Context()
			return a.working(ctx, opts.json, func(op operator, p *progress) error {
				return ended(op.Run(ctx, args[0], opts, p))
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&opts.force, "force", false, "renew even if not due")
	f.BoolVar(&opts.now, "now", false, "change the appliance now, outside of the playbook's window and of blackouts too")
	f.BoolVar(&opts.json, "json", false, "print each event as a line of JSON")
	f.BoolVar(&opts.replay, "replay", false, "for rehearsals: continue the run in a new process after each step, as a lab's config does")
	f.BoolVar(&opts.wait, "wait", false, "wait until the run finishes")
	f.BoolVar(&opts.detailed, "detailed-exitcode", false, `exit with 3 if the certificate is not due`)
	return cmd
}

// working calls do with the operator and what shows a run. What is shown is written out
// after the operator is closed: a reader that does not read must not keep the lock.
func (a *app) working(ctx context.Context, asJSON bool, do func(operator, *progress) error) (err error) {
	op, err := a.operator(ctx, decides)
	if err != nil {
		return err
	}
	p := a.newProgress(asJSON, op.Config().Log.Level)
	defer p.close()
	defer func() { err = errors.Join(err, op.Close()) }()
	return do(op, p)
}

// ended returns a command's error for a code and an error that was not printed yet.
func ended(code int, err error) error {
	if err != nil || code == exitDone {
		return err
	}
	return exitCode(code)
}

// failedIf ends a command that has printed what is bad, if anything is.
func failedIf(bad bool) error {
	if bad {
		return exitCode(exitFailed)
	}
	return nil
}

type runOptions struct {
	force, now, json, wait, detailed bool
	replay, once                     bool // continue it in a new process after each step; do not

	interrupted string // hint of how to continue; moonseal run NAME unless set
}

// in sets the mode of a job, if the command line has one; else it is the config's.
func (o runOptions) in(job *worker.Job) {
	switch {
	case o.replay:
		job.Mode = run.Replay
	case o.once:
		job.Mode = run.Continue
	}
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

package main

import (
	"context"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

func (a *app) cancelCommand() *cobra.Command {
	var retry bool
	var d api.Decision
	cmd := &cobra.Command{
		Use:   "cancel RUN",
		Short: "End an unfinished run, and clean up what it left",
		Long: `Ends a run: it begins nothing any more, undoes what it has to (TXT records), and is
cancelled. If a daemon runs it may be one that is being worked on; else a run that
goes on in another terminal is interrupted there first, with Ctrl-C.`,
		Args:              arguments(1, 1),
		ValidArgsFunction: first(a.completeRuns(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			var ended journal.Run
			err := a.operate(ctx, args[0], func(op operator, r journal.Run) error {
				ended = r
				return a.cancel(ctx, op, r.ID, d, retry)
			})
			if err != nil || !retry {
				return err
			}
			return a.runCommandLine(ctx, ended.Playbook, runOptions{force: ended.Force})
		},
	}
	cmd.Flags().BoolVar(&retry, "retry", false, "then begin a new run, on today's scripts")
	why(cmd, &d)
	return cmd
}

// cancel ends a run. What could not be cleaned up is an error, unless a new run is to
// begin.
func (a *app) cancel(ctx context.Context, op operator, id string, d api.Decision, retry bool) error {
	r, err := op.Cancel(ctx, id, d)
	if err != nil {
		return err
	}
	if r.Ended.IsZero() {
		return &problem.Error{
			Kind: problem.Unavailable, Target: "run " + r.ID, Message: "it is asked to end, and its process could not end it yet: " + r.Reason,
			Hint: "moonseal logs " + r.ID + " shows the whole run; moonseal cancel " + r.ID + " tries again",
		}
	}
	_, _ = plain.Fprintf(a.stdout, "run %s of %s is %s\n", r.ID, r.Playbook, r.Status)
	if retry {
		return nil
	}
	return leftOver(ctx, op.Records(), r.ID)
}

// leftOver says what of a run could not be cleaned up.
func leftOver(ctx context.Context, j api.Records, id string) error {
	undos, err := j.Undos(ctx, journal.UndoPending)
	if err != nil {
		return err
	}
	for _, u := range undos {
		if u.Run == id && u.Error != nil {
			return &problem.Error{
				Kind: u.Error.Kind, Message: "something could not be cleaned up: " + u.Error.Error(),
				Hint: "moonseal cleanup retry tries again",
			}
		}
	}
	return nil
}

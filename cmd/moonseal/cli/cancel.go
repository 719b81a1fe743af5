package cli

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
cancelled. The call that is under way may finish first, within stop_timeout; --now
does not wait for it. What may have been changed, or is half done, is named then, in
status and in the playbook's next run. If a daemon runs it may be a run that is being
worked on; else one that goes on in another terminal is interrupted there first, with
Ctrl-C.`,
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
	cmd.Flags().BoolVar(&d.Now, "now", false, "wait for no call that is under way")
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
	for _, left := range r.Left {
		_, _ = plain.Fprintf(a.stdout, "left: %s\n", left)
	}
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

package cli

import (
	"context"
	"io"

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
		Long: `Ends a run: it starts nothing more, undoes what it has to (TXT records), and is
cancelled. The call that is under way may finish first, within stop_timeout; --now
does not wait for it. What may have been changed, or is half done, is then named, also in
status and in the playbook's next run. A daemon cancels a run that is being worked on,
too; without one, interrupt a run in another terminal with Ctrl-C first.`,
		Args:              arguments(1, 1),
		ValidArgsFunction: first(a.completeRuns(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if !retry {
				return a.onRun(ctx, args[0], func(op operator, r journal.Run) error {
					if _, err := cancel(ctx, a.stdout, op, r.ID, d); err != nil {
						return err
					}
					return leftOver(ctx, op, r.ID)
				})
			}
			return a.working(ctx, false, func(op operator, p *progress) error {
				r, err := runOf(ctx, op, args[0])
				if err != nil {
					return err
				}
				if r, err = cancel(ctx, a.stdout, op, r.ID, d); err != nil {
					return err
				}
				return ended(op.Run(ctx, r.Playbook, runOptions{force: r.Force}, p))
			})
		},
	}
	cmd.Flags().BoolVar(&retry, "retry", false, "then start a new run, on today's scripts")
	cmd.Flags().BoolVar(&d.Now, "now", false, "do not wait for the call that is under way")
	why(cmd, &d)
	return cmd
}

// cancel ends a run, and returns it as it ended.
func cancel(ctx context.Context, w io.Writer, op operator, id string, d api.Decision) (journal.Run, error) {
	r, err := op.Cancel(ctx, id, d)
	if err != nil {
		return journal.Run{}, err
	}
	if r.Ended.IsZero() {
		return *r, &problem.Error{
			Kind: problem.Unavailable, Target: "run " + r.ID, Message: "cancelled, but its process could not end it yet: " + r.Reason,
			Hint: "moonseal logs " + r.ID + " shows the whole run; moonseal cancel " + r.ID + " tries again",
		}
	}
	_, _ = plain.Fprintf(w, "run %s of %s is %s\n", r.ID, r.Playbook, r.Status)
	for _, left := range r.Left {
		_, _ = plain.Fprintf(w, "left: %s\n", left)
	}
	return *r, nil
}

// leftOver returns as an error what of a run could not be cleaned up.
func leftOver(ctx context.Context, op operator, id string) error {
	u, err := pendingOf(ctx, op, id)
	if err != nil || u == nil || u.Error == nil {
		return err
	}
	return &problem.Error{
		Kind: u.Error.Kind, Message: "something could not be cleaned up: " + u.Error.Error(),
		Hint: "moonseal cleanup retry tries again",
	}
}

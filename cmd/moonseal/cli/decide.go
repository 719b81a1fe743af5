package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
)

func (a *app) approveCommand() *cobra.Command {
	return a.decideCommand("approve", "Approve a run that waits for approval", "approved", operator.Approve)
}

func (a *app) denyCommand() *cobra.Command {
	return a.decideCommand("deny", "Deny a run that waits for approval: it fails, and cleans up", "denied: it fails, and cleans up", operator.Deny)
}

func (a *app) decideCommand(verb, short, is string, decide func(operator, context.Context, string, api.Decision) (*journal.Run, error)) *cobra.Command {
	var d api.Decision
	cmd := &cobra.Command{
		Use:               verb + " RUN",
		Short:             short,
		Long:              short + ".\nWho decided, when, and the ticket are written into the run's record.",
		Args:              arguments(1, 1),
		ValidArgsFunction: first(a.completeRuns(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onRun(cmd.Context(), args[0], func(op operator, r journal.Run) error {
				now, err := decide(op, cmd.Context(), r.ID, d)
				if err != nil {
					return err
				}
				return decided(a.stdout, op, now, is)
			})
		},
	}
	why(cmd, &d)
	return cmd
}

// why adds the flags for the ticket and the reason of a decision.
func why(cmd *cobra.Command, d *api.Decision) {
	cmd.Flags().StringVar(&d.Ticket, "ticket", "", "the change-management ticket, for the record")
	cmd.Flags().StringVar(&d.Reason, "reason", "", "the reason, for the record")
}

// decided prints what became of a run, and how it continues.
func decided(w io.Writer, op operator, r *journal.Run, is string) error {
	_, err := plain.Fprintf(w, "run %s of %s is %s\n%s\n", r.ID, r.Playbook, is, op.Continues(r))
	return err
}

func (a *app) unlockCommand() *cobra.Command {
	var d api.Decision
	cmd := &cobra.Command{
		Use:   "unlock RUN",
		Short: "Release the locks of a run that waits or is parked",
		Long: `Releases the locks of a run that waits or is parked after it has changed an appliance,
so that another playbook of that appliance can run. Before its next such change the
run takes them again. First make sure that the appliance works: the run has changed
it, and is not done. "moonseal status" shows which run holds which lock.`,
		Args:              arguments(1, 1),
		ValidArgsFunction: first(a.completeRuns(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onRun(cmd.Context(), args[0], func(op operator, r journal.Run) error {
				names, err := op.Unlock(cmd.Context(), r.ID, d)
				if err != nil {
					return err
				}
				_, err = plain.Fprintf(a.stdout, "run %s of %s: released %s\n", r.ID, r.Playbook, strings.Join(names, ", "))
				return err
			})
		},
	}
	why(cmd, &d)
	return cmd
}

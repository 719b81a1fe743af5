package cli

import (
	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/plain"
)

func (a *app) forgetCommand() *cobra.Command {
	var d api.Decision
	cmd := &cobra.Command{
		Use:   "forget PLAYBOOK",
		Short: "Remove a playbook whose script is gone from the status",
		Long: `Removes a playbook whose script was removed or renamed from the status. Its runs stay in
"moonseal runs" as long as others. A playbook with an unfinished run, or whose script
exists, is refused. "moonseal cleanup forget" drops what a run could not clean up.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.with(ctx, decides, func(op operator) error {
				if err := op.ForgetPlaybook(ctx, api.ForgetRequest{Playbook: args[0], Ticket: d.Ticket, Reason: d.Reason}); err != nil {
					return err
				}
				_, err := plain.Fprintf(a.stdout, "%s is forgotten\n", args[0])
				return err
			})
		},
	}
	why(cmd, &d)
	return cmd
}

package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/plain"
)

func (a *app) forgetCommand() *cobra.Command {
	var d api.Decision
	cmd := &cobra.Command{
		Use:   "forget PLAYBOOK",
		Short: "Take a playbook off the status whose script is gone",
		Long: `Takes a playbook off the status whose script was removed or renamed. Its runs stay in
"moonseal runs" as long as others. A playbook with an unfinished run, or whose script
exists, is refused. "moonseal cleanup forget" drops what a run could not clean up.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			cfg, err := a.reachConfig(ctx)
			if err != nil {
				return err
			}
			op, err := a.operator(ctx, cfg)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, op.Close()) }()
			if err := op.ForgetPlaybook(ctx, api.ForgetRequest{Playbook: args[0], Ticket: d.Ticket, Reason: d.Reason}); err != nil {
				return err
			}
			_, err = plain.Fprintf(a.stdout, "%s is forgotten\n", args[0])
			return err
		},
	}
	why(cmd, &d)
	return cmd
}

package cli

import (
	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/daemon"
	"moonseal/runtime/plain"
)

func (a *app) alertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alert",
		Short: "Send a test alert",
		Args:  subcommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "test",
		Short: "Send a message to each service under alerts, and ask for the heartbeat's URL",
		Long: `Sends a message to each service under alerts, and asks for the heartbeat's URL. Where a
daemon runs it does that, with the config and the secrets that it has.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.reachConfig(cmd.Context())
			if err != nil {
				return err
			}
			var r *api.AlertReply
			if c := a.daemon(cfg); c.Alive(cmd.Context()) {
				r, err = c.TestAlerts(cmd.Context())
			} else {
				r, err = daemon.TestAlerts(cmd.Context(), cfg, a.alerts(cfg), a.beat(cfg))
			}
			if err != nil {
				return err
			}
			if r.Services > 0 {
				_, _ = plain.Fprintf(a.stdout, "sent to %s\n", count(r.Services, "service"))
			}
			if r.Heartbeat != "" {
				_, _ = plain.Fprintf(a.stdout, "the heartbeat's URL answers (%s)\n", r.Heartbeat)
			}
			return nil
		},
	})
	return cmd
}

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"moonseal/runtime/problem"
)

func (a *app) alertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alert",
		Short: "Try whether alerts arrive",
		Args:  subcommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "test",
		Short: "Send a message to each service under alerts, and ask for the heartbeat's URL",
		Args:  arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			send, beat := a.alerts(cfg), a.beat(cfg)
			if send == nil && beat == nil {
				return &problem.Error{
					Kind: problem.Usage, Target: cfg.Path, Message: "there are no alerts in the config",
					Hint: "alerts: { urls: [TEAMS_URL] }, where TEAMS_URL is a secret that holds a service's URL",
				}
			}
			if send != nil {
				host, _ := os.Hostname()
				if err := send(cmd.Context(), "moonseal: test", "alerts of moonseal on "+host+" arrive here"); err != nil {
					return err
				}
				_, _ = fmt.Fprintf(a.stdout, "sent to %s\n", count(len(cfg.Alerts.URLs), "service"))
			}
			if beat != nil {
				if err := beat(cmd.Context()); err != nil {
					return problem.At(err, "", "the URL of "+cfg.Alerts.Heartbeat)
				}
				_, _ = fmt.Fprintln(a.stdout, "the heartbeat's URL answers")
			}
			return nil
		},
	})
	return cmd
}

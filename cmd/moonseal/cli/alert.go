package cli

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"

	"moonseal/runtime/alert"
	"moonseal/runtime/grant"
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
		Short: "Send a message to each service under alerts, and request the heartbeat's URL",
		Long: `Sends a message to each service under alerts, and requests the heartbeat's URL. If a
daemon runs it does that, with its config and its secrets.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.with(ctx, reads, func(op operator) error {
				r, err := op.TestAlerts(ctx)
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
			})
		},
	})
	return cmd
}

// alerts returns what sends to the services whose URLs the config's secrets hold; nil if
// there are none.
func (w *wiring) alerts() alert.Send {
	if len(w.cfg.Alerts.URLs) == 0 {
		return nil
	}
	secrets := w.secrets()
	return alert.Shoutrrr(func(ctx context.Context) ([]alert.Service, error) {
		var services []alert.Service
		for _, name := range w.cfg.Alerts.URLs {
			url, err := secrets.Value(ctx, name)
			if err != nil {
				return nil, err
			}
			services = append(services, alert.Service{Name: name, URL: url})
		}
		return services, nil
	})
}

// beat returns what requests the heartbeat's URL; nil if there is none.
func (w *wiring) beat() func(context.Context) error {
	if w.cfg.Alerts.Heartbeat == "" {
		return nil
	}
	secrets := w.secrets()
	opt := w.cfg.Network()
	opt.Denied = &grant.Denials{} // a wrong password is sent once, not with each beat
	return func(ctx context.Context) error {
		network, err := grant.New(opt)
		if err != nil {
			return err
		}
		url, err := secrets.Value(ctx, w.cfg.Alerts.Heartbeat)
		if err != nil {
			return err
		}
		transport := network.Transport()
		defer transport.CloseIdleConnections()
		return alert.Heartbeat(ctx, &http.Client{Transport: transport}, url)
	}
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
)

func (a *app) pauseCommand(paused bool) *cobra.Command {
	use, short := "pause [PLAYBOOK]", "Begin no more runs, of one playbook or of all"
	long := `Lets no run begin by schedule any more, of the playbook or of all, also after a restart
of the daemon, until "moonseal unpause". Runs that are under way go on: "moonseal cancel
RUN" ends one. "moonseal run NAME" still begins one.`
	if !paused {
		use, short = "unpause [PLAYBOOK]", "Begin runs again, of one playbook or of all"
		long = "Lets runs begin by schedule again. What was due meanwhile is caught up once.\nA playbook that was paused by name wants to be unpaused by name."
	}
	return &cobra.Command{
		Use: use, Short: short, Long: long, Args: arguments(0, 1), ValidArgsFunction: first(a.completePlaybooks),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			name := strings.Join(args, "")
			if err := c.Pause(cmd.Context(), api.PauseRequest{Playbook: name, Paused: paused}); err != nil {
				return err
			}
			return a.paused(cmd.Context(), c, name, paused)
		},
	}
}

func (a *app) paused(ctx context.Context, c *api.Client, name string, paused bool) error {
	who, goesOn := cmp.Or(name, "all"), strings.TrimSpace("moonseal unpause "+name)
	if paused {
		_, err := fmt.Fprintf(a.stdout, "%s: nothing begins by schedule until %s; unfinished runs go on\n", who, goesOn)
		return err
	}
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if s.Paused && name != "" {
		_, err = fmt.Fprintf(a.stdout, "%s is not paused by itself any more, but all are: moonseal unpause\n", name)
		return err
	}
	_, _ = fmt.Fprintf(a.stdout, "%s: runs begin by schedule again\n", who)
	for _, p := range s.Playbooks {
		if p.Paused && name == "" {
			_, _ = fmt.Fprintf(a.stdout, "but for %s, which is paused by itself: moonseal unpause %s\n", p.Name, p.Name)
		}
	}
	return nil
}

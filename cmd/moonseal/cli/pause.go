package cli

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/plain"
)

func (a *app) pauseCommand(paused bool) *cobra.Command {
	use, short := "pause [PLAYBOOK]", "Pause scheduled runs, of one playbook or of all"
	long := `Lets no run begin by schedule any more, of the playbook or of all, also after a restart
of the daemon, until "moonseal unpause". Runs that are under way go on: "moonseal cancel
RUN" ends one. "moonseal run NAME" still begins one.`
	if !paused {
		use, short = "unpause [PLAYBOOK]", "Begin runs again, of one playbook or of all"
		long = "Lets runs begin by schedule again. What was due meanwhile is caught up once.\nA playbook that was paused by name must be unpaused by name."
	}
	return &cobra.Command{
		Use: use, Short: short, Long: long, Args: arguments(0, 1), ValidArgsFunction: first(a.completePlaybooks),
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
			name := strings.Join(args, "")
			if err := op.Pause(ctx, api.PauseRequest{Playbook: name, Paused: paused}); err != nil {
				return err
			}
			return a.paused(ctx, op, name, paused)
		},
	}
}

func (a *app) paused(ctx context.Context, op operator, name string, paused bool) error {
	who, next := cmp.Or(name, "all"), strings.TrimSpace("moonseal unpause "+name)
	if paused {
		_, err := plain.Fprintf(a.stdout, "%s: nothing begins by schedule until %s; unfinished runs go on\n", who, next)
		return err
	}
	now, err := op.Records().Paused(ctx)
	if err != nil {
		return err
	}
	if now.Has("") && name != "" {
		_, err = plain.Fprintf(a.stdout, "%s is not paused by itself any more, but all are: moonseal unpause\n", name)
		return err
	}
	_, _ = plain.Fprintf(a.stdout, "%s: runs begin by schedule again\n", who)
	for _, p := range slices.Sorted(maps.Keys(now)) {
		if p != "" && name == "" {
			_, _ = plain.Fprintf(a.stdout, "but for %s, which is paused by itself: moonseal unpause %s\n", p, p)
		}
	}
	return nil
}

// knownPlaybook refuses a name that no script has.
func (a *app) knownPlaybook(ctx context.Context, cfg *config.Config, name string) error {
	_, err := a.findPlaybook(ctx, cfg, name)
	return err
}

package cli

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/plain"
)

func (a *app) pauseCommand(paused bool) *cobra.Command {
	use, short := "pause [PLAYBOOK]", "Pause scheduled runs, of one playbook or of all"
	long := `Pauses the scheduled runs of the playbook, or of all, also after a restart of the daemon,
until "moonseal unpause". Runs that are under way continue: "moonseal cancel RUN" ends
one. "moonseal run NAME" still starts one.`
	if !paused {
		use, short = "unpause [PLAYBOOK]", "Resume scheduled runs, of one playbook or of all"
		long = "Resumes scheduled runs. What was due meanwhile is caught up once.\nA playbook that was paused by name must be unpaused by name."
	}
	return &cobra.Command{
		Use: use, Short: short, Long: long, Args: arguments(0, 1), ValidArgsFunction: first(a.completePlaybooks),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, name := cmd.Context(), strings.Join(args, "")
			return a.with(ctx, decides, func(op operator) error {
				if err := op.Pause(ctx, api.PauseRequest{Playbook: name, Paused: paused}); err != nil {
					return err
				}
				if paused {
					return showPaused(a.stdout, name)
				}
				return showUnpaused(ctx, a.stdout, op, name)
			})
		},
	}
}

func showPaused(w io.Writer, name string) error {
	_, err := plain.Fprintf(w, "%s: scheduled runs are paused until %s; unfinished runs continue\n", cmp.Or(name, "all"), strings.TrimSpace("moonseal unpause "+name))
	return err
}

// showUnpaused names what still pauses a playbook that was unpaused, or some of all.
func showUnpaused(ctx context.Context, w io.Writer, op operator, name string) error {
	records, err := op.Records(ctx)
	if err != nil {
		return err
	}
	now, err := records.Paused(ctx)
	if err != nil {
		return err
	}
	if now.Has("") && name != "" {
		_, err = plain.Fprintf(w, "%s is no longer paused by name, but all are paused: moonseal unpause\n", name)
		return err
	}
	_, _ = plain.Fprintf(w, "%s: scheduled runs are resumed\n", cmp.Or(name, "all"))
	for _, p := range slices.Sorted(maps.Keys(now)) {
		if p != "" && name == "" {
			_, _ = plain.Fprintf(w, "except %s, which is paused by name: moonseal unpause %s\n", p, p)
		}
	}
	return nil
}

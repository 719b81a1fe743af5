package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/plain"
)

func (a *app) reloadCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "reload", Short: "Read config and scripts again, and show what changed", Args: arguments(0, 0),
		Long: `Makes the daemon read config and scripts again, as SIGHUP does, and shows what changed.
Scripts are live when they are saved, without it. A broken config changes nothing (exit
code 2); a broken script leaves its last good version live (exit code 1). Settings that
need a restart of the daemon are named.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.with(ctx, reads, func(op operator) error {
				r, err := op.Reload(ctx)
				if err != nil {
					if _, here := a.loadConfig(); here != nil && here.Error() == err.Error() {
						return exitCode(exitUsage) // it was printed when the daemon was reached
					}
					return err
				}
				if asJSON {
					err = writeJSON(a.stdout, reloadOut(r))
				} else {
					showReload(a.stdout, r)
				}
				if err != nil {
					return err
				}
				return failedIf(len(r.Problems) > 0)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func showReload(w io.Writer, r *api.ReloadReply) {
	for _, g := range []struct {
		what  string
		names []string
	}{{"added", r.Added}, {"changed", r.Changed}, {"removed", r.Removed}, {"config", r.Config}} {
		if len(g.names) > 0 {
			_, _ = plain.Fprintf(w, "%-8s %s\n", g.what, strings.Join(g.names, " "))
		}
	}
	if len(r.Added)+len(r.Changed)+len(r.Removed)+len(r.Config)+len(r.Restart)+len(r.Problems) == 0 {
		_, _ = fmt.Fprintln(w, "nothing to change: config and scripts are live as they are on disk")
	}
	if len(r.Restart) > 0 {
		_, _ = plain.Fprintf(w, "these settings need a restart of the daemon: %s\n", strings.Join(r.Restart, " "))
	}
	for _, e := range r.Problems {
		_, _ = plain.Fprintf(w, "broken   %s\n", e)
		printPlace(w, e.Place)
	}
}

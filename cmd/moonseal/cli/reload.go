package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/plain"
)

func (a *app) reloadCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "reload", Short: "Read config and scripts again, and say what changed", Args: arguments(0, 0),
		Long: `Makes the daemon read config and scripts again, as SIGHUP does, and says what is other
than before. Scripts are live when they are saved, without it. A config that is wrong
changes nothing (exit code 2); a broken script leaves its last good version at work
(exit code 1). What cannot change while the daemon runs is named.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			r, err := c.Reload(cmd.Context())
			if err != nil {
				if _, here := a.loadConfig(); here != nil && here.Error() == err.Error() {
					return ended(exitUsage, nil) // it was said when the daemon was looked for
				}
				return err
			}
			if asJSON {
				if err := writeJSON(a.stdout, r); err != nil {
					return err
				}
				return ended(map[bool]int{true: exitFailed}[len(r.Problems) > 0], nil)
			}
			return a.showReload(r)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) showReload(r *api.ReloadReply) error {
	for _, g := range []struct {
		what  string
		names []string
	}{{"added", r.Added}, {"changed", r.Changed}, {"removed", r.Removed}, {"config", r.Config}} {
		if len(g.names) > 0 {
			_, _ = plain.Fprintf(a.stdout, "%-8s %s\n", g.what, strings.Join(g.names, " "))
		}
	}
	if len(r.Added)+len(r.Changed)+len(r.Removed)+len(r.Config)+len(r.Restart)+len(r.Problems) == 0 {
		_, _ = fmt.Fprintln(a.stdout, "nothing to change: all is live as it is in the folder")
	}
	if len(r.Restart) > 0 {
		_, _ = plain.Fprintf(a.stdout, "these settings stay as they are until the daemon is started again: %s\n", strings.Join(r.Restart, " "))
	}
	for _, e := range r.Problems {
		_, _ = plain.Fprintf(a.stdout, "broken   %s\n", e)
		printPlace(a.stdout, e.Place)
	}
	return ended(map[bool]int{true: exitFailed}[len(r.Problems) > 0], nil)
}

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"moonseal/runtime/journal"
)

// completion returns the words that a shell offers for a command's first argument.
// An error offers none: nobody asked for it.
type completion func(ctx context.Context) ([]string, error)

// first makes c what completes a command's first argument.
func first(c completion) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		words, err := c(cmd.Context())
		if err != nil {
			cobra.CompErrorln(err.Error())
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// completePlaybooks offers the playbooks that the scripts folder has.
func (a *app) completePlaybooks(ctx context.Context) ([]string, error) {
	cfg, err := a.loadConfig()
	if err != nil {
		return nil, err
	}
	var report checked
	if err := a.check(ctx, cfg, cfg.Scripts, &report); err != nil {
		return nil, err
	}
	var names []string
	for _, p := range report.Playbooks {
		names = append(names, p.Name)
	}
	return names, nil
}

// completeRuns offers the latest runs, with playbook and status.
func (a *app) completeRuns(unfinished bool) completion {
	const latest = 50
	return func(ctx context.Context) ([]string, error) {
		cfg, err := a.loadConfig()
		if err != nil {
			return nil, err
		}
		runs, _, err := a.listRuns(ctx, cfg, journal.Filter{Limit: latest})
		if err != nil {
			return nil, err
		}
		var words []string
		for _, r := range runs {
			if !unfinished || r.Ended.IsZero() {
				words = append(words, cobra.CompletionWithDesc(r.ID, r.Playbook+", "+r.status()))
			}
		}
		return words, nil
	}
}

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"moonseal/runtime/journal"
)

// completion returns the words that a shell offers for a command's first argument.
// After an error there are none.
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

// completePlaybooks offers the playbooks of the scripts directory.
func (a *app) completePlaybooks(ctx context.Context) ([]string, error) {
	var names []string
	err := a.strictly(ctx, func(op operator) error {
		report, err := op.Scripts(ctx)
		if err != nil {
			return err
		}
		for _, p := range report.Playbooks {
			names = append(names, p.Name)
		}
		return nil
	})
	return names, err
}

// completeRuns offers the latest runs, with playbook and status.
func (a *app) completeRuns(unfinished bool) completion {
	const latest = 50
	return func(ctx context.Context) ([]string, error) {
		var words []string
		err := a.strictly(ctx, func(op operator) error {
			runs, _, err := listRuns(ctx, op, journal.Filter{Limit: latest})
			for _, r := range runs {
				if !unfinished || r.Ended.IsZero() {
					words = append(words, cobra.CompletionWithDesc(r.ID, r.Playbook+", "+r.status()))
				}
			}
			return err
		})
		return words, err
	}
}

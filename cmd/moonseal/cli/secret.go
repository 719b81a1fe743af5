package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

func (a *app) secretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Show the secrets that are used, never a value",
		Args:  subcommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var asJSON bool
	listing := &cobra.Command{
		Use: "list", Short: "List the secrets that scripts and config name, and the source of each", Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.showSecrets(cmd.Context(), nil, asJSON) },
	}
	listing.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	test := &cobra.Command{
		Use: "test [NAME…]", Short: "Look up secrets, and show why one is not found", Args: arguments(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.showSecrets(cmd.Context(), args, asJSON) },
	}
	test.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(listing, test)
	return cmd
}

func (a *app) showSecrets(ctx context.Context, names []string, asJSON bool) error {
	return a.strictly(ctx, func(op operator) error {
		if len(names) == 0 {
			var err error
			if names, err = op.SecretNames(ctx); err != nil {
				return err
			}
		}
		var states []api.SecretState
		missing, notFound := false, false
		for _, name := range names {
			s := op.Secret(ctx, name)
			missing = missing || s.Error != nil
			notFound = notFound || s.Error != nil && s.Error.Kind == problem.NotFound
			states = append(states, s)
		}
		if asJSON {
			if err := writeJSON(a.stdout, secretsJSON(states)); err != nil {
				return err
			}
			return failedIf(missing)
		}
		if err := showSecretStates(a.stdout, states); err != nil {
			return err
		}
		if notFound {
			_, _ = fmt.Fprintln(a.stderr, "hint: set it in the environment, pass it to systemd with LoadCredential=NAME:FILE, or name its place under secrets in the config")
		}
		return failedIf(missing)
	})
}

func showSecretStates(out io.Writer, states []api.SecretState) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range states {
		if s.Error != nil {
			_, _ = plain.Fprintf(w, "%s\tmissing\t%s\n", s.Name, s.Error)
			continue
		}
		_, _ = plain.Fprintf(w, "%s\tok\t%s\n", s.Name, s.Where)
	}
	return w.Flush()
}

// lookUp looks a secret up in this process's surroundings, and never returns its value.
func (w *wiring) lookUp(ctx context.Context, name string) api.SecretState {
	for _, s := range w.secretSources() {
		_, err := s.source.Value(ctx, name)
		if err == nil {
			return api.SecretState{Name: name, Where: s.name}
		}
		if e := problem.From(err); e.Kind != problem.NotFound {
			return api.SecretState{Name: name, Error: e}
		}
	}
	return api.SecretState{Name: name, Error: secretNotFound()}
}

// secretNotFound is the problem of a secret that no source has.
func secretNotFound() *problem.Error {
	return &problem.Error{Kind: problem.NotFound, Message: "not found in systemd credentials, environment or config"}
}

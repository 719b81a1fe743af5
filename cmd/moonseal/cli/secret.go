package cli

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

func (a *app) secretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Show which secrets there are, never a value",
		Args:  subcommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var asJSON bool
	list := &cobra.Command{
		Use: "list", Short: "List the secrets that scripts and config name, and where each is found", Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.showSecrets(cmd.Context(), nil, asJSON) },
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	test := &cobra.Command{
		Use: "test [NAME…]", Short: "Look up secrets, and say why where one is not found", Args: arguments(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.showSecrets(cmd.Context(), args, asJSON) },
	}
	test.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(list, test)
	return cmd
}

func (a *app) showSecrets(ctx context.Context, names []string, asJSON bool) error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		if names, err = a.namedSecrets(ctx, cfg); err != nil {
			return err
		}
	}
	states := []api.SecretState{}
	missing, nowhere := false, false
	for _, name := range names {
		s := a.lookUp(ctx, cfg, name)
		missing = missing || s.Error != nil
		nowhere = nowhere || s.Error != nil && s.Error.Kind == problem.NotFound
		states = append(states, s)
	}
	if asJSON {
		if err := writeJSON(a.stdout, states); err != nil {
			return err
		}
		return ended(map[bool]int{true: exitFailed}[missing], nil)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, s := range states {
		if s.Error != nil {
			_, _ = plain.Fprintf(w, "%s\tmissing\t%s\n", s.Name, s.Error)
			continue
		}
		_, _ = plain.Fprintf(w, "%s\tok\t%s\n", s.Name, s.Where)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if nowhere {
		_, _ = fmt.Fprintln(a.stderr, "hint: set it in the environment, give it to systemd with LoadCredential=NAME:FILE, or name its place under secrets in the config")
	}
	return ended(map[bool]int{true: exitFailed}[missing], nil)
}

// lookUp looks a secret up as a run would: a daemon that is running is asked, because only
// it sees what systemd passes to it.
func (a *app) lookUp(ctx context.Context, cfg *config.Config, name string) api.SecretState {
	if c := a.daemon(cfg); c.Alive(ctx) {
		s, err := c.Secret(ctx, name)
		if err != nil {
			return api.SecretState{Name: name, Error: problem.From(err)}
		}
		return *s
	}
	return a.lookUpHere(ctx, cfg, name)
}

func (a *app) lookUpHere(ctx context.Context, cfg *config.Config, name string) api.SecretState {
	for _, s := range a.secretSources(cfg) {
		_, err := s.source.Value(ctx, name)
		if err == nil {
			return api.SecretState{Name: name, Where: s.name}
		}
		if e := problem.From(err); e.Kind != problem.NotFound {
			return api.SecretState{Name: name, Error: e}
		}
	}
	return api.SecretState{Name: name, Error: &problem.Error{Kind: problem.NotFound, Message: "it is no systemd credential, not in the environment, and not in the config"}}
}

// namedSecrets returns the secrets that the scripts name while they are loaded, and
// those of the config.
func (a *app) namedSecrets(ctx context.Context, cfg *config.Config) ([]string, error) {
	if c := a.daemon(cfg); c.Alive(ctx) {
		return c.SecretNames(ctx)
	}
	loaded, err := a.loadScripts(ctx, cfg, cfg.Scripts, nil)
	if err != nil {
		return nil, err
	}
	return loaded.secretNames(cfg), nil
}

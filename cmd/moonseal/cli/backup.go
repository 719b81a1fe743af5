package cli

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"moonseal/runtime/config"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the journal, also while the daemon runs",
		Long: `Writes a copy of the journal, as it is at one moment, to FILE (0600). The files under
accounts/ in the state folder, account keys among them, are not in it: copy them
with what you back files up with.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.reachConfig(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.backup(cmd.Context(), cfg, args[0]); err != nil {
				return err
			}
			_, _ = plain.Fprintf(a.stdout, "the journal is copied to %s\n", args[0])
			return nil
		},
	}
}

func (a *app) backup(ctx context.Context, cfg *config.Config, path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return &problem.Error{Kind: problem.Usage, Target: path, Message: "cannot write it: " + problem.Reason(err), Cause: err}
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(path) // half a copy must not look like a whole one
		}
	}()
	op, err := a.operator(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, op.Close()) }()
	return errors.Join(op.Backup(ctx, f), f.Sync())
}

func (a *app) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Restore the journal into an empty state directory",
		Long: `Puts a copy that "moonseal backup" wrote into the state folder, which must hold no
journal. Runs that were unfinished then are parked: what they have done since,
nobody can tell from the copy.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			if err := ownState(cfg); err != nil {
				return err
			}
			parked, err := control.Restore(cmd.Context(), cfg.State, args[0], journal.Options{Clock: a.clock}, control.Decision{By: a.who()})
			if err != nil {
				return err
			}
			_, _ = plain.Fprintf(a.stdout, "the journal is restored; %s parked\n", count(parked, "unfinished run"))
			return nil
		},
	}
}

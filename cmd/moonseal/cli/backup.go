package cli

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

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
accounts/ in the state directory, account keys among them, are not in it: copy them
with your usual backup of files.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.with(ctx, decides, func(op operator) error {
				if err := backup(ctx, op, args[0]); err != nil {
					return err
				}
				_, err := plain.Fprintf(a.stdout, "the journal is copied to %s\n", args[0])
				return err
			})
		},
	}
}

func backup(ctx context.Context, op operator, path string) (err error) {
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
	return errors.Join(op.Backup(ctx, f), f.Sync())
}

func (a *app) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Restore the journal into an empty state directory",
		Long: `Restores a copy that "moonseal backup" wrote into the state directory, which must hold
no journal. Runs that were unfinished then are parked: the copy cannot tell what they
have done since.`,
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

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"moonseal/runtime/config"
	"moonseal/runtime/journal"
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
			_, _ = fmt.Fprintf(a.stdout, "the journal is copied to %s\n", args[0])
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
	if c := a.daemon(cfg); c.Alive(ctx) {
		err = c.Backup(ctx, f)
	} else {
		err = a.backupHere(ctx, cfg, f)
	}
	return errors.Join(err, f.Sync())
}

func (a *app) backupHere(ctx context.Context, cfg *config.Config, w io.Writer) (err error) {
	j, err := a.openJournal(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	return j.Backup(ctx, w)
}

func (a *app) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Begin with a copy of the journal, in a state folder that has none",
		Long: `Puts a copy that "moonseal backup" wrote into the state folder, which must hold no
journal. Runs that were unfinished then are parked: what they have done since,
nobody can tell from the copy.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			parked, err := a.restore(cmd.Context(), cfg, args[0])
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(a.stdout, "the journal is restored; %s parked\n", count(parked, "unfinished run"))
			return nil
		},
	}
}

func (a *app) restore(ctx context.Context, cfg *config.Config, path string) (parked int, err error) {
	if err := journal.Restore(ctx, cfg.State, path); err != nil {
		return 0, err
	}
	// A queue that is left here knows of other runs; it is made anew from the journal.
	for _, name := range []string{"queue.db", "queue.db-wal", "queue.db-shm"} {
		if err := os.Remove(filepath.Join(cfg.State, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
	}
	j, err := a.openJournal(ctx, cfg)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	runs, err := j.Unfinished(ctx, "")
	if err != nil {
		return 0, err
	}
	for _, r := range runs {
		if r.Status == journal.Parked || r.Status == journal.Ending {
			continue
		}
		epoch, err := j.Adopt(ctx, r.ID)
		if err != nil {
			return parked, err
		}
		stamp := journal.Stamp{Run: r.ID, Epoch: epoch, At: a.clock.Now().UTC()}
		if err := j.Write(ctx, journal.RunParked{Stamp: stamp, Reason: "restored from a copy: what it has done since then is not known"}); err != nil {
			return parked, err
		}
		parked++
	}
	return parked, nil
}

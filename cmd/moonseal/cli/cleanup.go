package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"moonseal/runtime/config"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

func (a *app) cleanupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Show and retry clean-up that failed",
		Long: `What a run could not clean up, such as a TXT record whose provider was down, is
kept until it is done or a person forgets it.`,
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var asJSON bool
	list := &cobra.Command{Use: "list", Short: "List what is left to clean up", Args: arguments(0, 0), RunE: func(cmd *cobra.Command, _ []string) error {
		return a.cleanupList(cmd.Context(), asJSON)
	}}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(list,
		&cobra.Command{Use: "retry [RUN]", Short: "Try again now, for one run or for all that have ended", Args: arguments(0, 1), RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPending(cmd.Context(), args, a.cleanupRetry)
		}},
		&cobra.Command{Use: "forget RUN", Short: "Drop what is left of a run, after cleaning up by hand", Args: arguments(1, 1), RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPending(cmd.Context(), args, a.cleanupForget)
		}},
	)
	return cmd
}

func (a *app) cleanupList(ctx context.Context, asJSON bool) error {
	cfg, err := a.reachConfig(ctx)
	if err != nil {
		return err
	}
	undos, err := a.pendingUndos(ctx, cfg)
	if err != nil {
		return err
	}
	if asJSON {
		if undos == nil {
			undos = []journal.Undo{}
		}
		return writeJSON(a.stdout, undos)
	}
	if len(undos) == 0 {
		_, _ = fmt.Fprintln(a.stdout, "nothing is left to clean up")
		return nil
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "RUN\tWHAT\tATTEMPTS\tLAST ERROR")
	for _, u := range undos {
		last := "-"
		if u.Error != nil {
			last = u.Error.Error()
		}
		_, _ = plain.Fprintf(w, "%s\t%s\t%d\t%s\n", u.Run, leftWhat(u), u.Attempts, last)
	}
	return w.Flush()
}

// leftWhat names what an undo has to clean up.
func leftWhat(u journal.Undo) string {
	if len(u.Holds) > 0 {
		return strings.Join(u.Holds, ", ")
	}
	return "undo of " + u.Fn
}

// pendingUndos reads what is left; nothing where nothing has run yet.
func (a *app) pendingUndos(ctx context.Context, cfg *config.Config) ([]journal.Undo, error) {
	j, _, closeIt, err := a.records(ctx, cfg)
	if err != nil {
		return nil, orNothing(err)
	}
	defer closeIt()
	return j.Undos(ctx, journal.UndoPending)
}

// withPending calls do for each ended run that has something left to clean up: the
// named one, or all.
func (a *app) withPending(ctx context.Context, args []string, do func(context.Context, operator, journal.Run) error) (err error) {
	cfg, err := a.reachConfig(ctx)
	if err != nil {
		return err
	}
	op, err := a.operator(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, op.Close()) }()
	if len(args) > 0 {
		r, err := findRun(ctx, op.Records(), args[0])
		if err != nil {
			return err
		}
		err = do(ctx, op, r)
		if problem.HasCode(err, problem.NothingLeft) {
			_, err = plain.Fprintf(a.stdout, "nothing of run %s is left to clean up\n", r.ID)
		}
		return err
	}
	undos, err := op.Records().Undos(ctx, journal.UndoPending)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var failed error
	for _, u := range undos {
		if seen[u.Run] {
			continue
		}
		seen[u.Run] = true
		r, err := op.Records().Run(ctx, u.Run)
		if err != nil {
			return err
		}
		if !r.Ended.IsZero() { // one that continues cleans up by itself
			failed = errors.Join(failed, do(ctx, op, r))
		}
	}
	if len(seen) == 0 {
		_, _ = fmt.Fprintln(a.stdout, "nothing is left to clean up")
	}
	return failed
}

func (a *app) cleanupRetry(ctx context.Context, op operator, r journal.Run) error {
	if err := op.Cleanup(ctx, r.ID); err != nil {
		return err
	}
	undos, err := op.Records().Undos(ctx, journal.UndoPending)
	if err != nil {
		return err
	}
	for _, u := range undos {
		if u.Run == r.ID {
			e := problem.From(u.Error)
			return &problem.Error{Kind: e.Kind, Target: "run " + r.ID, Message: "still not cleaned up: " + e.Error(), Hint: e.Hint}
		}
	}
	_, _ = plain.Fprintf(a.stdout, "run %s of %s is cleaned up\n", r.ID, r.Playbook)
	return nil
}

func (a *app) cleanupForget(ctx context.Context, op operator, r journal.Run) error {
	left, err := op.Forget(ctx, r.ID)
	for _, u := range left {
		if err == nil {
			_, _ = plain.Fprintf(a.stdout, "run %s: forgot %s\n", r.ID, leftWhat(u))
		}
	}
	return err
}

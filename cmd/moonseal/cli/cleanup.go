package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

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
	list := &cobra.Command{
		Use: "list", Short: "List what is left to clean up", Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.cleanupList(cmd.Context(), asJSON) },
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	retry := &cobra.Command{
		Use: "retry [RUN]", Short: "Try again now, for one run or for all that have ended", Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.eachPending(cmd.Context(), args, cleanupRetry) },
	}
	forget := &cobra.Command{
		Use: "forget RUN", Short: "Drop what is left of a run, after cleaning up by hand", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachPending(cmd.Context(), args, cleanupForget)
		},
	}
	cmd.AddCommand(list, retry, forget)
	return cmd
}

func (a *app) cleanupList(ctx context.Context, asJSON bool) error {
	return a.with(ctx, reads, func(op operator) error {
		undos, err := pending(ctx, op)
		if err != nil && !nothingYet(err) {
			return err
		}
		if asJSON {
			return writeJSON(a.stdout, undosJSON(undos))
		}
		return showUndos(a.stdout, undos)
	})
}

func showUndos(out io.Writer, undos []journal.Undo) error {
	if len(undos) == 0 {
		_, err := fmt.Fprintln(out, "nothing is left to clean up")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
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

// pending returns what is left to clean up.
func pending(ctx context.Context, op operator) ([]journal.Undo, error) {
	records, err := op.Records(ctx)
	if err != nil {
		return nil, err
	}
	return records.Undos(ctx, journal.UndoPending)
}

// pendingOf returns the first of what is left of a run; nil if nothing is.
func pendingOf(ctx context.Context, op operator, id string) (*journal.Undo, error) {
	undos, err := pending(ctx, op)
	for _, u := range undos {
		if u.Run == id {
			return &u, nil
		}
	}
	return nil, err
}

// eachPending calls do for each ended run that has something left to clean up: the
// named one, or all.
func (a *app) eachPending(ctx context.Context, args []string, do func(context.Context, io.Writer, operator, journal.Run) error) error {
	if len(args) > 0 {
		return a.onRun(ctx, args[0], func(op operator, r journal.Run) error {
			err := do(ctx, a.stdout, op, r)
			if problem.HasCode(err, problem.NothingLeft) {
				_, err = plain.Fprintf(a.stdout, "nothing of run %s is left to clean up\n", r.ID)
			}
			return err
		})
	}
	return a.with(ctx, decides, func(op operator) error {
		undos, err := pending(ctx, op)
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
			r, err := runOf(ctx, op, u.Run)
			if err != nil {
				return err
			}
			if !r.Ended.IsZero() { // one that continues cleans up by itself
				failed = errors.Join(failed, do(ctx, a.stdout, op, r))
			}
		}
		if len(seen) == 0 {
			_, _ = fmt.Fprintln(a.stdout, "nothing is left to clean up")
		}
		return failed
	})
}

func cleanupRetry(ctx context.Context, w io.Writer, op operator, r journal.Run) error {
	if err := op.Cleanup(ctx, r.ID); err != nil {
		return err
	}
	u, err := pendingOf(ctx, op, r.ID)
	if err != nil {
		return err
	}
	if u != nil {
		e := problem.From(u.Error)
		return &problem.Error{Kind: e.Kind, Target: "run " + r.ID, Message: "still not cleaned up: " + e.Error(), Hint: e.Hint}
	}
	_, _ = plain.Fprintf(w, "run %s of %s is cleaned up\n", r.ID, r.Playbook)
	return nil
}

func cleanupForget(ctx context.Context, w io.Writer, op operator, r journal.Run) error {
	left, err := op.Forget(ctx, r.ID)
	if err != nil {
		return err
	}
	for _, u := range left {
		_, _ = plain.Fprintf(w, "run %s: forgot %s\n", r.ID, leftWhat(u))
	}
	return nil
}

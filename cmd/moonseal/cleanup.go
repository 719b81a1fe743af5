package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
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
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", u.Run, leftWhat(u), u.Attempts, last)
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

// pending is what is left to clean up, and who does it: the daemon, or this process.
type pending struct {
	api.Records

	retry, forget func(ctx context.Context, r journal.Run) error
	close         func() error
}

func (a *app) pending(ctx context.Context, cfg *config.Config) (*pending, error) {
	if c := a.daemon(cfg); c.Alive(ctx) {
		ask := func(forget bool) func(context.Context, journal.Run) error {
			return func(ctx context.Context, r journal.Run) error { return c.Cleanup(ctx, r.ID, forget) }
		}
		return &pending{c.Records(), ask(false), ask(true), func() error { return nil }}, nil
	}
	j, err := a.openJournal(ctx, cfg)
	if err != nil {
		return nil, err
	}
	retry := func(ctx context.Context, r journal.Run) error { return a.cleanUp(ctx, cfg, j, r) }
	forget := func(ctx context.Context, r journal.Run) error { return j.Forget(ctx, r.ID) }
	return &pending{j, retry, forget, j.Close}, nil
}

// withPending calls do for each ended run that has something left to clean up: the
// named one, or all.
func (a *app) withPending(ctx context.Context, args []string, do func(context.Context, *pending, journal.Run) error) (err error) {
	cfg, err := a.reachConfig(ctx)
	if err != nil {
		return err
	}
	p, err := a.pending(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	undos, err := p.Undos(ctx, journal.UndoPending)
	if err != nil {
		return err
	}
	var only string
	if len(args) > 0 {
		r, err := findRun(ctx, p, args[0])
		if err != nil {
			return err
		}
		if r.Ended.IsZero() {
			return &problem.Error{
				Kind: problem.Usage, Target: "run " + r.ID, Message: "it has not ended: it cleans up by itself",
				Hint: "moonseal run " + r.Playbook + " goes on, moonseal cancel " + r.ID + " ends it",
			}
		}
		only = r.ID
	}
	seen := map[string]bool{}
	var failed error
	for _, u := range undos {
		if seen[u.Run] || (only != "" && u.Run != only) {
			continue
		}
		seen[u.Run] = true
		r, err := p.Run(ctx, u.Run)
		if err != nil {
			return err
		}
		if r.Ended.IsZero() {
			continue
		}
		failed = errors.Join(failed, do(ctx, p, r))
	}
	if len(seen) == 0 {
		_, _ = fmt.Fprintln(a.stdout, map[bool]string{true: "nothing is left to clean up", false: "nothing of run " + only + " is left to clean up"}[only == ""])
	}
	return failed
}

func (a *app) cleanupRetry(ctx context.Context, p *pending, r journal.Run) error {
	if err := p.retry(ctx, r); err != nil {
		return err
	}
	undos, err := p.Undos(ctx, journal.UndoPending)
	if err != nil {
		return err
	}
	for _, u := range undos {
		if u.Run == r.ID {
			e := problem.From(u.Error)
			return &problem.Error{Kind: e.Kind, Target: "run " + r.ID, Message: "still not cleaned up: " + e.Error(), Hint: e.Hint}
		}
	}
	_, _ = fmt.Fprintf(a.stdout, "run %s of %s is cleaned up\n", r.ID, r.Playbook)
	return nil
}

func (a *app) cleanupForget(ctx context.Context, p *pending, r journal.Run) error {
	undos, err := p.Undos(ctx, journal.UndoPending)
	if err != nil {
		return err
	}
	if err := p.forget(ctx, r); err != nil {
		return err
	}
	for _, u := range undos {
		if u.Run == r.ID {
			_, _ = fmt.Fprintf(a.stdout, "run %s: forgot %s\n", r.ID, leftWhat(u))
		}
	}
	return nil
}

// cleanUp tries the pending undos of a run in a child of this process.
func (a *app) cleanUp(ctx context.Context, cfg *config.Config, j *journal.Journal, r journal.Run) error {
	parent, err := a.parent(cfg, j, nil)
	if err != nil {
		return err
	}
	work, err := job(cfg)
	if err != nil {
		return err
	}
	work.Mode = run.Cleanup
	_, err = parent.Resume(ctx, work, r.ID)
	return err
}

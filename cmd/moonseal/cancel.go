package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

func (a *app) cancelCommand() *cobra.Command {
	var retry bool
	cmd := &cobra.Command{
		Use:   "cancel RUN",
		Short: "End an unfinished run, and clean up what it left",
		Long: `Ends a run: it begins nothing any more, undoes what it has to (TXT records), and is
cancelled. Where a daemon runs it may be one that is being worked on; else a run that
goes on in another terminal is interrupted there first, with Ctrl-C.`,
		Args:              arguments(1, 1),
		ValidArgsFunction: first(a.completeRuns(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			cfg, err := a.reachConfig(ctx)
			if err != nil {
				return err
			}
			r, err := a.cancel(ctx, cfg, args[0], retry)
			if err != nil || !retry {
				return err
			}
			opts := runOptions{force: r.Force}
			if c := a.daemon(cfg); c.Alive(ctx) {
				return ended(a.runInDaemon(ctx, cfg, c, r.Playbook, opts))
			}
			return ended(a.run(ctx, cfg, r.Playbook, opts))
		},
	}
	cmd.Flags().BoolVar(&retry, "retry", false, "then begin a new run, on today's scripts")
	return cmd
}

// cancel ends a run. What could not be cleaned up is an error, unless the caller
// goes on.
func (a *app) cancel(ctx context.Context, cfg *config.Config, id string, goesOn bool) (r journal.Run, err error) {
	if c := a.daemon(cfg); c.Alive(ctx) {
		return a.cancelInDaemon(ctx, c, id, goesOn)
	}
	j, err := a.openJournal(ctx, cfg)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	if r, err = findRun(ctx, j, id); err != nil {
		return r, err
	}
	if !r.Ended.IsZero() {
		return r, &problem.Error{
			Kind: problem.Usage, Target: "run " + r.ID, Message: "it has ended already: " + string(r.Status),
			Hint: "moonseal run " + r.Playbook + " begins a new one",
		}
	}
	parent, err := a.parent(cfg, j, nil)
	if err != nil {
		return r, err
	}
	work, err := job(cfg)
	if err != nil {
		return r, err
	}
	work.Mode = run.Cancel
	out, err := parent.Resume(ctx, work, r.ID)
	if err != nil {
		return r, err
	}
	_, _ = fmt.Fprintf(a.stdout, "run %s of %s is %s\n", r.ID, r.Playbook, out.Status)
	if goesOn {
		return r, nil
	}
	return r, leftOver(ctx, j, r.ID)
}

// leftOver says what of a run could not be cleaned up.
func leftOver(ctx context.Context, j api.Records, id string) error {
	undos, err := j.Undos(ctx, journal.UndoPending)
	if err != nil {
		return err
	}
	for _, u := range undos {
		if u.Run == id && u.Error != nil {
			return &problem.Error{
				Kind: u.Error.Kind, Message: "something could not be cleaned up: " + u.Error.Error(),
				Hint: "moonseal cleanup retry tries again",
			}
		}
	}
	return nil
}

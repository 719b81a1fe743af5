package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

func (a *app) approveCommand() *cobra.Command {
	return a.decideCommand("approve", "Approve what a run waits for", true)
}

func (a *app) denyCommand() *cobra.Command {
	return a.decideCommand("deny", "Deny what a run waits for: it fails, and cleans up", false)
}

func (a *app) decideCommand(verb, short string, approve bool) *cobra.Command {
	var d api.Decision
	cmd := &cobra.Command{
		Use:   verb + " RUN",
		Short: short,
		Long:  short + ".\nWho decided, when, and the ticket are written into the run's record.",
		Args:  arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.reachConfig(cmd.Context())
			if err != nil {
				return err
			}
			return a.decide(cmd.Context(), cfg, args[0], approve, d)
		},
	}
	cmd.Flags().StringVar(&d.Ticket, "ticket", "", "the change-management ticket")
	cmd.Flags().StringVar(&d.Reason, "reason", "", "why")
	return cmd
}

// decide answers the approval that a run waits for: through the daemon, or where
// none runs in the journal itself.
func (a *app) decide(ctx context.Context, cfg *config.Config, id string, approve bool, d api.Decision) error {
	if c := a.daemon(cfg); c.Alive(ctx) {
		ask := c.Deny
		if approve {
			ask = c.Approve
		}
		return a.decided(id, approve, ask(ctx, id, d))
	}
	return a.settle(ctx, cfg, id, func(h *journal.History, stamp journal.Stamp) ([]journal.Record, error) {
		answer := run.Approval{By: api.Who(os.Getuid(), a.getenv("SUDO_USER")), Ticket: d.Ticket, Reason: d.Reason, At: stamp.At}
		rec, asked, err := run.Decide(h, stamp, approve, answer)
		if err == nil && (!asked || h.Run.Status != journal.Waiting) {
			err = &problem.Error{Kind: problem.Conflict, Target: "run " + h.Run.ID, Message: "it waits for no approval", Hint: "moonseal runs shows what it waits for"}
		}
		return []journal.Record{rec, answer.Logged(stamp, approve)}, err
	})
}

func (a *app) decided(id string, goesOn bool, err error) error {
	if err != nil {
		return err
	}
	what := "goes on"
	if !goesOn {
		what = "is denied: it fails, and cleans up"
	}
	_, err = fmt.Fprintf(a.stdout, "run %s %s\n", id, what)
	return err
}

// settle writes what a person has decided into the journal of a state folder that
// no daemon has.
func (a *app) settle(ctx context.Context, cfg *config.Config, id string, decide func(*journal.History, journal.Stamp) ([]journal.Record, error)) (err error) {
	j, err := a.openJournal(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	r, err := findRun(ctx, j, id)
	if err != nil {
		return err
	}
	h, err := j.History(ctx, r.ID)
	if err != nil {
		return err
	}
	epoch, err := j.Adopt(ctx, r.ID)
	if err != nil {
		return err
	}
	stamp := journal.Stamp{Run: r.ID, Epoch: epoch, At: a.clock.Now().UTC()}
	recs, err := decide(h, stamp)
	if err != nil {
		return err
	}
	// It waits for nobody any more: the next moonseal run takes it up.
	recs = append(recs, journal.RunWaiting{Stamp: stamp, For: "moonseal run", Until: stamp.At})
	if err := j.Write(ctx, recs...); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "noted; moonseal run %s goes on with run %s\n", r.Playbook, r.ID)
	return err
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

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
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			d.User = a.getenv("SUDO_USER")
			return a.decide(cmd.Context(), cfg, args[0], approve, d)
		},
	}
	cmd.Flags().StringVar(&d.Ticket, "ticket", "", "the change-management ticket")
	cmd.Flags().StringVar(&d.Reason, "reason", "", "why")
	return cmd
}

func (a *app) resumeCommand() *cobra.Command {
	var d api.Decision
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Let a parked run go on",
		Long: `Lets a parked run go on. Where nobody can tell whether a change has happened, look
at the appliance and say --as done or --as again; without it, what is known is shown
first and you are asked.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			if d.As == "" {
				if d.As, err = a.askAs(cmd.Context(), cfg, args[0]); err != nil {
					return err
				}
			}
			d.User = a.getenv("SUDO_USER")
			return a.resumeParked(cmd.Context(), cfg, args[0], d)
		},
	}
	cmd.Flags().StringVar(&d.As, "as", "", "done: it has happened; again: it has not, do it again")
	return cmd
}

// decide answers the approval that a run waits for: through the daemon, or where
// none runs in the journal itself.
func (a *app) decide(ctx context.Context, cfg *config.Config, id string, approve bool, d api.Decision) error {
	if c := api.Dial(cfg.Listen.Socket); c.Alive(ctx) {
		ask := c.Deny
		if approve {
			ask = c.Approve
		}
		return a.goesOn(id, ask(ctx, id, d))
	}
	return a.settle(ctx, cfg, id, func(h *journal.History, stamp journal.Stamp) ([]journal.Record, error) {
		rec, asked, err := run.Decide(h, stamp, approve, run.Approval{By: api.Who(os.Getuid(), d.User), Ticket: d.Ticket, Reason: d.Reason, At: stamp.At})
		if err == nil && (!asked || h.Run.Status != journal.Waiting) {
			err = &problem.Error{Kind: problem.Conflict, Target: "run " + h.Run.ID, Message: "it waits for no approval", Hint: "moonseal runs shows what it waits for"}
		}
		return []journal.Record{rec}, err
	})
}

// resumeParked lets a parked run go on.
func (a *app) resumeParked(ctx context.Context, cfg *config.Config, id string, d api.Decision) error {
	if c := api.Dial(cfg.Listen.Socket); c.Alive(ctx) {
		return a.goesOn(id, c.Resume(ctx, id, d))
	}
	return a.settle(ctx, cfg, id, func(h *journal.History, stamp journal.Stamp) ([]journal.Record, error) {
		if h.Run.Status != journal.Parked {
			return nil, &problem.Error{Kind: problem.Conflict, Target: "run " + h.Run.ID, Message: "it is not parked: it is " + string(h.Run.Status)}
		}
		recs, err := run.Settle(h, stamp, d.As)
		line := journal.Logged{Stamp: stamp, Level: "info", Message: strings.TrimSpace("resumed by " + api.Who(os.Getuid(), d.User) + " " + d.As)}
		// It waits for nobody any more: the next moonseal run takes it up.
		return append(recs, line, journal.RunWaiting{Stamp: stamp, For: "moonseal run", Until: stamp.At}), err
	})
}

func (a *app) goesOn(id string, err error) error {
	if err == nil {
		_, err = fmt.Fprintf(a.stdout, "run %s goes on\n", id)
	}
	return err
}

// settle writes what a person has decided into the journal of a state folder that
// no daemon has.
func (a *app) settle(ctx context.Context, cfg *config.Config, id string, decide func(*journal.History, journal.Stamp) ([]journal.Record, error)) (err error) {
	j, err := journal.Open(ctx, cfg.State, journal.Options{Clock: a.clock})
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
	recs, err := decide(h, journal.Stamp{Run: r.ID, Epoch: epoch, At: a.clock.Now().UTC()})
	if err != nil {
		return err
	}
	if err := j.Write(ctx, recs...); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "noted; moonseal run %s goes on with run %s\n", r.Playbook, r.ID)
	return err
}

// askAs shows what is known of a parked run and asks how its unclear calls count;
// "" where there are none.
func (a *app) askAs(ctx context.Context, cfg *config.Config, id string) (_ string, err error) {
	j, err := journal.OpenReadOnly(ctx, cfg.State)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	h, err := j.History(ctx, id)
	if err != nil {
		return "", err
	}
	unclear := run.Unclear(h)
	if h.Run.Status != journal.Parked || len(unclear) == 0 {
		return "", nil
	}
	w := a.stdout
	_, _ = fmt.Fprintf(w, "run %s of %s is parked: %s\n", h.Run.ID, h.Run.Playbook, h.Run.Reason)
	if h.Run.Error != nil {
		_, _ = fmt.Fprintf(w, "  last error   %s\n", h.Run.Error)
	}
	for _, e := range unclear {
		_, _ = fmt.Fprintf(w, "  asked for    %s at %s\n", e.Fn, when(e.Marked))
		if len(e.Progress) > 0 {
			_, _ = fmt.Fprintf(w, "  came as far  %s\n", e.Progress)
		}
	}
	_, _ = fmt.Fprint(w, "Look at the appliance. Type done where it has happened, again where it has not;\n"+
		"where you are not sure, stop here (Ctrl-C): a parked run does no harm. done or again: ")
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	switch answer = strings.TrimSpace(answer); {
	case answer == run.AsDone || answer == run.AsAgain:
		return answer, nil
	case answer == "" && err != nil:
		return "", &problem.Error{Kind: problem.Usage, Message: "nobody answers: there is no terminal", Hint: "give --as done or --as again"}
	}
	return "", &problem.Error{Kind: problem.Usage, Message: fmt.Sprintf("%q is neither done nor again; nothing is changed", answer)}
}

func (a *app) pauseCommand(paused bool) *cobra.Command {
	use, short := "pause [PLAYBOOK]", "Begin no more runs, of one playbook or of all"
	if !paused {
		use, short = "unpause [PLAYBOOK]", "Begin runs again, of one playbook or of all"
	}
	return &cobra.Command{
		Use: use, Short: short, Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return c.Pause(cmd.Context(), api.PauseRequest{Playbook: strings.Join(args, ""), Paused: paused})
		},
	}
}

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Read config and scripts again, and say what changed", Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			r, err := c.Reload(cmd.Context())
			if err != nil {
				return err
			}
			return a.showReload(r)
		},
	}
}

func (a *app) showReload(r *api.ReloadReply) error {
	for _, g := range []struct {
		what  string
		names []string
	}{{"added", r.Added}, {"changed", r.Changed}, {"removed", r.Removed}} {
		if len(g.names) > 0 {
			_, _ = fmt.Fprintf(a.stdout, "%-8s %s\n", g.what, strings.Join(g.names, " "))
		}
	}
	if len(r.Restart) > 0 {
		_, _ = fmt.Fprintf(a.stdout, "these settings change at the next start: %s\n", strings.Join(r.Restart, ", "))
	}
	for _, e := range r.Problems {
		_, _ = fmt.Fprintf(a.stdout, "broken   %s\n", e)
		printPlace(a.stdout, e.Place)
	}
	return ended(map[bool]int{true: exitFailed}[len(r.Problems) > 0], nil)
}

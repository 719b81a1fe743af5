package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"moonseal/runtime/journal"
)

func (a *app) runsCommand() *cobra.Command {
	var filter journal.Filter
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List runs, the latest first",
		Args:  arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			j, err := journal.OpenReadOnly(cmd.Context(), cfg.State)
			if err != nil {
				return err
			}
			defer func() { _ = j.Close() }()
			runs, err := j.Runs(cmd.Context(), filter)
			if err != nil {
				return err
			}
			if asJSON {
				if runs == nil {
					runs = []journal.Run{}
				}
				return writeJSON(a.stdout, runs)
			}
			return a.showRuns(runs)
		},
	}
	f := cmd.Flags()
	f.StringVar(&filter.Playbook, "playbook", "", "only runs of this playbook")
	f.IntVar(&filter.Limit, "limit", 20, "how many")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) showRuns(runs []journal.Run) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "RUN\tPLAYBOOK\tSTATUS\tBEGUN\tENDED\tWHY")
	for _, r := range runs {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Playbook, r.Status, when(r.Created), when(r.Ended), why(r))
	}
	return w.Flush()
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// why says in one line what a run waits for or ended with.
func why(r journal.Run) string {
	switch {
	case r.Status == journal.Waiting:
		return fmt.Sprintf("%s, until %s", r.WaitFor, when(r.WakeAt))
	case r.Error != nil:
		return r.Error.Error()
	default:
		return r.Reason
	}
}

package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
	"moonseal/runtime/suggest"
)

func (a *app) runsCommand() *cobra.Command {
	var filter journal.Filter
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List runs, the latest first",
		Args:  arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if filter.Limit < 1 {
				return &problem.Error{Kind: problem.Usage, Message: "--limit takes a whole number, 1 or more", Hint: "moonseal runs --help"}
			}
			if s := string(filter.Status); s != "" && !slices.Contains(statuses(), s) {
				return &problem.Error{
					Kind: problem.Usage, Message: fmt.Sprintf("there is no status %q%s", s, suggest.Phrase(s, statuses())),
					Hint: "there are " + strings.Join(statuses(), ", "),
				}
			}
			return a.with(cmd.Context(), reads, func(op operator) error {
				runs, horizon, err := listRuns(cmd.Context(), op, filter)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.stdout, each(runs, runOut))
				}
				if err := showRuns(a.stdout, runs); err != nil || len(runs) >= filter.Limit {
					return err
				}
				return showHorizon(a.stdout, horizon, op.Config().Keep)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&filter.Playbook, "playbook", "", "only runs of this playbook")
	f.StringVar((*string)(&filter.Status), "status", "", "only runs that are "+strings.Join(statuses(), ", "))
	f.IntVar(&filter.Limit, "limit", 20, "at most this many")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// statuses returns those that a run can have.
func statuses() []string {
	var out []string
	for _, s := range []journal.Status{
		journal.Created, journal.Running, journal.Waiting, journal.Parked, journal.Ending, journal.Done, journal.Skipped, journal.Failed, journal.Cancelled,
	} {
		out = append(out, string(s))
	}
	return out
}

// shownRun is a run, and whether its process is gone.
type shownRun struct {
	journal.Run

	Interrupted bool // "running", and no process works on it
}

// listRuns reads the runs; none if nothing has run yet.
func listRuns(ctx context.Context, op operator, filter journal.Filter) (out []shownRun, horizon journal.Horizon, err error) {
	records, err := op.Records(ctx)
	if nothingYet(err) {
		return nil, horizon, nil
	}
	if err != nil {
		return nil, horizon, err
	}
	runs, err := records.Runs(ctx, filter)
	if err == nil {
		horizon, err = records.Horizon(ctx)
	}
	if err != nil {
		return nil, horizon, err
	}
	for _, r := range runs {
		interrupted, err := op.Interrupted(r)
		if err != nil {
			return nil, horizon, err
		}
		out = append(out, shownRun{r, interrupted})
	}
	return out, horizon, nil
}

// nothingYet reports whether err is that of a journal that does not exist yet.
func nothingYet(err error) bool { return err != nil && problem.From(err).Kind == problem.NotFound }

// findRun returns the run that id names, or an error that names similar ones.
func findRun(ctx context.Context, j api.Records, id string) (journal.Run, error) {
	r, err := j.Run(ctx, id)
	if err == nil {
		return r, nil
	}
	if k := problem.From(err).Kind; k != problem.Usage && k != problem.NotFound {
		return r, err
	}
	const among = 200
	runs, listErr := j.Runs(ctx, journal.Filter{Limit: among})
	if listErr != nil {
		return r, listErr
	}
	e := &problem.Error{Kind: problem.Usage, Message: fmt.Sprintf("there is no run %q", id), Hint: "moonseal runs lists them"}
	var ids []string
	for _, r := range runs {
		ids = append(ids, r.ID)
		if id != "" && (strings.HasPrefix(r.ID, strings.ToLower(id)) || r.Playbook == id) {
			e.Hint = "did you mean " + r.ID + ", of " + r.Playbook + "? " + e.Hint
			return r, e
		}
	}
	if near := suggest.Closest(id, ids); near != "" {
		e.Hint = "did you mean " + near + "? " + e.Hint
		return r, e
	}
	horizon, err := j.Horizon(ctx)
	if gone := horizon.Gone(id); err == nil && gone != nil {
		return r, gone
	}
	return r, e
}

// showHorizon names what was pruned because it is old.
func showHorizon(w io.Writer, h journal.Horizon, keep config.Keeping) error {
	if h.Skipped.After(h.Runs) {
		if _, err := plain.Fprintf(w, "runs that had nothing to do and ended before %s are pruned, except the last of each playbook: keep.skipped is %s\n",
			h.Skipped.Local().Format(time.DateOnly), keep.Skipped); err != nil {
			return err
		}
	}
	if h.Runs.IsZero() {
		return nil
	}
	_, err := plain.Fprintf(w, "runs that ended before %s are pruned, except the last of each playbook: keep.runs is %s\n",
		h.Runs.Local().Format(time.DateOnly), keep.Runs)
	return err
}

func showRuns(out io.Writer, runs []shownRun) error {
	if len(runs) == 0 {
		_, err := fmt.Fprintln(out, "no runs")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "RUN\tPLAYBOOK\tSTATUS\tSTARTED\tENDED\tWHY")
	for _, r := range runs {
		_, _ = plain.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Playbook, r.status(), when(r.Created), when(r.Ended), r.why())
	}
	return w.Flush()
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

func (r shownRun) status() string {
	if r.Interrupted {
		return "interrupted"
	}
	return string(r.Status)
}

// why returns in one line what a run waits for or ended with.
func (r shownRun) why() string {
	switch {
	case r.Interrupted:
		return "moonseal run " + r.Playbook + " continues it"
	case r.Status == journal.Waiting && r.WakeAt.IsZero():
		return r.WaitFor
	case r.Status == journal.Waiting:
		return fmt.Sprintf("%s, until %s", r.WaitFor, when(r.WakeAt))
	case r.Status == journal.Parked:
		return r.Reason
	case r.Error != nil:
		return r.Error.Error()
	case r.Reason == string(r.Status):
		return ""
	default:
		return r.Reason
	}
}

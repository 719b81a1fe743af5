package cli

import (
	"context"
	"fmt"
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
				return &problem.Error{Kind: problem.Usage, Message: "--limit takes a whole number from 1 on", Hint: "moonseal runs --help"}
			}
			cfg, err := a.reachConfig(cmd.Context())
			if err != nil {
				return err
			}
			if s := string(filter.Status); s != "" && !slices.Contains(statuses(), s) {
				return &problem.Error{
					Kind: problem.Usage, Message: fmt.Sprintf("there is no status %q%s", s, suggest.Phrase(s, statuses())),
					Hint: "there are " + strings.Join(statuses(), ", "),
				}
			}
			runs, horizon, err := a.listRuns(cmd.Context(), cfg, filter)
			if err != nil {
				return err
			}
			if asJSON {
				if runs == nil {
					runs = []shownRun{}
				}
				return writeJSON(a.stdout, runs)
			}
			if err := a.showRuns(runs); err != nil || len(runs) >= filter.Limit {
				return err
			}
			return a.showHorizon(horizon, cfg.Keep)
		},
	}
	f := cmd.Flags()
	f.StringVar(&filter.Playbook, "playbook", "", "only runs of this playbook")
	f.StringVar((*string)(&filter.Status), "status", "", "only runs that are "+strings.Join(statuses(), ", "))
	f.IntVar(&filter.Limit, "limit", 20, "how many")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// statuses are those that a run can have.
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
	Interrupted bool `json:"interrupted,omitempty"` // "running", and no process works on it
}

// listRuns reads the runs; none where nothing has run yet.
func (a *app) listRuns(ctx context.Context, cfg *config.Config, filter journal.Filter) (out []shownRun, horizon journal.Horizon, err error) {
	j, byDaemon, closeIt, err := a.records(ctx, cfg)
	if err != nil {
		return nil, horizon, orNothing(err)
	}
	defer closeIt()
	runs, err := j.Runs(ctx, filter)
	if err == nil {
		horizon, err = j.Horizon(ctx)
	}
	if err != nil {
		return nil, horizon, err
	}
	for _, r := range runs {
		shown := shownRun{Run: r}
		if r.Status == journal.Running && !byDaemon { // a daemon knows at once when a process is gone
			held, err := journal.RunLocked(cfg.State, r.ID)
			if err != nil {
				return nil, horizon, err
			}
			shown.Interrupted = !held
		}
		out = append(out, shown)
	}
	return out, horizon, nil
}

// orNothing drops the error of a journal that is not there yet.
func orNothing(err error) error {
	if problem.From(err).Kind == problem.NotFound {
		return nil
	}
	return err
}

// findRun returns the run that a person named, or the error that names near ones.
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

// showHorizon says what is not there because it is old.
func (a *app) showHorizon(h journal.Horizon, keep config.Keeping) error {
	if h.Skipped.After(h.Runs) {
		if _, err := plain.Fprintf(a.stdout, "what had nothing to do and ended before %s was removed, but for the last of each playbook: keep.skipped is %s\n",
			h.Skipped.Local().Format(time.DateOnly), keep.Skipped); err != nil {
			return err
		}
	}
	if h.Runs.IsZero() {
		return nil
	}
	_, err := plain.Fprintf(a.stdout, "what ended before %s was removed, but for the last of each playbook: keep.runs is %s\n",
		h.Runs.Local().Format(time.DateOnly), keep.Runs)
	return err
}

func (a *app) showRuns(runs []shownRun) error {
	if len(runs) == 0 {
		_, err := fmt.Fprintln(a.stdout, "no runs")
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "RUN\tPLAYBOOK\tSTATUS\tBEGUN\tENDED\tWHY")
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

// why says in one line what a run waits for or ended with.
func (r shownRun) why() string {
	switch {
	case r.Interrupted:
		return "moonseal run " + r.Playbook + " goes on"
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

package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/run"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON, check bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show each playbook: what is served, what is next, what needs a person",
		Long: `Shows each playbook: when its certificate ends, and who issued it, what is next, and
below that what needs a person, with the command to type.

--check prints one line for a monitor, and exits with the monitors' codes: 0 OK; 1
warning; 2 critical: parked, the state directory cannot be written, or less than 7 days
left; 3 unknown: no daemon answers, or wrong use.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check {
				return a.checkStatus(cmd.Context(), asJSON)
			}
			ctx := cmd.Context()
			return a.with(ctx, reads, func(op operator) error {
				s, err := op.Status(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.stdout, statusOut(s))
				}
				return showStatus(a.stdout, s, a.clock.Now())
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&check, checkFlag, false, "print one line for a monitor, and exit with 0, 1, 2 or 3")
	return cmd
}

func showStatus(out io.Writer, s *api.Status, now time.Time) error {
	if e := s.State; e != nil {
		_, _ = plain.Fprintf(out, "cannot write to the state directory: %s\n", e)
		if e.Hint != "" {
			_, _ = plain.Fprintf(out, "hint: %s\n", e.Hint)
		}
	}
	if s.Paused {
		_, _ = fmt.Fprintln(out, "all playbooks are paused: moonseal unpause resumes them")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "PLAYBOOK\tSERVED UNTIL\tDAYS\tISSUER\tNEXT CHECK\tLAST RUN\tNOW")
	for _, p := range s.Playbooks {
		until, days, issuer := servedUntil(p, now)
		next := "-"
		if p.NextRun != nil {
			next = when(*p.NextRun)
		}
		_, _ = plain.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, until, days, issuer, next, lastOutcome(p.LastRun), nowDoing(p))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	showTrouble(out, s)
	return nil
}

// servedUntil returns when the first of a playbook's certificates ends, in how many days
// that is, and its issuer. A certificate that the node has signed
// itself is to be replaced, however long it lasts.
func servedUntil(p api.PlaybookStatus, now time.Time) (until, days, issuer string) {
	ends, ok := p.FirstEnd()
	if !ok {
		return "-", "-", "-"
	}
	until, days = ends.Local().Format(time.DateOnly), fmt.Sprint(api.Days(ends, now))
	for _, c := range p.Served {
		if c.SelfSigned {
			return until, "-", "self-signed"
		}
		if c.NotAfter.Equal(ends) {
			issuer = c.Issuer
		}
	}
	return until, days, cmp.Or(issuer, "-")
}

func lastOutcome(l *api.LastRun) string {
	if l == nil {
		return "-"
	}
	return fmt.Sprintf("%s %s", l.Status, when(l.Ended))
}

// nowDoing returns in a few words what a playbook is doing.
func nowDoing(p api.PlaybookStatus) string {
	var parts []string
	if r := p.Running; r != nil {
		switch {
		case r.Status == journal.Parked: // the reason is below the table
			parts = append(parts, r.ID+": parked")
		case strings.HasPrefix(r.WaitsFor, run.WaitApproval):
			parts = append(parts, r.ID+": waits for approval")
		case r.WaitsFor != "" && r.Until != nil:
			parts = append(parts, fmt.Sprintf("%s: waits for %s until %s", r.ID, r.WaitsFor, when(*r.Until)))
		case r.WaitsFor != "":
			parts = append(parts, fmt.Sprintf("%s: waits for %s", r.ID, r.WaitsFor))
		default:
			parts = append(parts, fmt.Sprintf("%s: %s since %s", r.ID, cmp.Or(r.Step, "starting"), when(r.Since)))
		}
	}
	if p.Paused {
		parts = append(parts, "paused")
	}
	for _, c := range p.Served {
		if c.Installed != "" {
			parts = append(parts, c.Subject+" serves another certificate than is installed")
		}
	}
	if p.Warning != "" {
		parts = append(parts, p.Warning)
	}
	switch {
	case p.Gone:
		parts = append(parts, "its script is gone")
	case p.Error == nil:
	case p.Bundle == "":
		parts = append(parts, "script broken, it does not run")
	default:
		parts = append(parts, "script broken, the last good one runs")
	}
	return cmp.Or(strings.Join(parts, "; "), "-")
}

// showTrouble prints below the table what needs a person, with the command to type.
func showTrouble(out io.Writer, s *api.Status) {
	line := func(format string, args ...any) { _, _ = plain.Fprintf(out, format+"\n", args...) }
	if s.Config != nil {
		line("\nthe config is wrong, and the previous one stays in force: %s\n  moonseal reload   once it is fixed", s.Config)
	}
	for _, e := range s.Scripts {
		line("\nbroken script: %s", e)
		printPlace(out, e.Place)
	}
	for _, p := range s.Playbooks {
		r := p.Running
		if r != nil && r.Lock != nil && r.Lock.Warning != "" {
			l := r.Lock
			line("\n%s waits for lock %s %s: run %s of %s holds it since %s\n  moonseal unlock %s   once the appliance works, or moonseal cancel %s",
				p.Name, l.Name, l.Warning, l.Run, l.Playbook, when(l.Since), l.Run, l.Run)
		}
		switch {
		case r != nil && r.Status == journal.Parked:
			line("\n%s is parked: %s\n  moonseal resume %s   or   moonseal cancel %s", p.Name, strings.TrimPrefix(r.WaitsFor, "a person: "), r.ID, r.ID)
		case r != nil && strings.HasPrefix(r.WaitsFor, run.WaitApproval):
			line("\n%s waits for %s\n  moonseal approve %s   or   moonseal deny %s", p.Name, r.WaitsFor, r.ID, r.ID)
		case r != nil && r.Error != nil:
			line("\n%s keeps failing: %s\n  moonseal run %s   tries again now, once it is fixed; moonseal logs %s shows the whole run", p.Name, r.Error, p.Name, r.ID)
		case r == nil && p.Gone:
			line("\n%s: its script is gone, and nothing of it runs\n  moonseal forget %s   removes it from the status", p.Name, p.Name)
		case r == nil && p.LastRun != nil && len(p.LastRun.Left) > 0:
			line("\n%s was cancelled, and left: %s\n  look at the appliance, then moonseal run %s; moonseal logs %s shows the whole run",
				p.Name, strings.Join(p.LastRun.Left, "; "), p.Name, p.LastRun.ID)
		case r == nil && p.LastRun != nil && p.LastRun.Error != nil:
			line("\n%s failed: %s\n  moonseal logs %s shows the whole run, moonseal run %s starts another", p.Name, p.LastRun.Error, p.LastRun.ID, p.Name)
		}
	}
	if s.Cleanups > 0 {
		line("\n%s could not be undone: moonseal cleanup list shows it", count(s.Cleanups, "change"))
	}
}

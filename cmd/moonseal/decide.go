package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
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

func (a *app) resumeCommand() *cobra.Command {
	var d api.Decision
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Let a parked run go on",
		Long: `Lets a parked run go on. Where nobody can tell whether a change has happened, look
at the appliance and say --as done or --as again. With --as look the run asks the
appliance itself once more, which does no harm: right where it could not be reached.
Without --as, what is known is shown first and you are asked.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.reachConfig(cmd.Context())
			if err != nil {
				return err
			}
			if d.As == "" {
				if d.As, err = a.askAs(cmd.Context(), cfg, args[0]); err != nil {
					return err
				}
			}
			return a.resumeParked(cmd.Context(), cfg, args[0], d)
		},
	}
	cmd.Flags().StringVar(&d.As, "as", "", "done: it has happened; again: it has not, do it again; look: ask once more")
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

// resumeParked lets a parked run go on.
func (a *app) resumeParked(ctx context.Context, cfg *config.Config, id string, d api.Decision) error {
	if c := a.daemon(cfg); c.Alive(ctx) {
		return a.decided(id, true, c.Resume(ctx, id, d))
	}
	return a.settle(ctx, cfg, id, func(h *journal.History, stamp journal.Stamp) ([]journal.Record, error) {
		if h.Run.Status != journal.Parked {
			return nil, &problem.Error{Kind: problem.Conflict, Target: "run " + h.Run.ID, Message: "it is not parked: it is " + string(h.Run.Status)}
		}
		recs, err := run.Settle(h, stamp, d.As)
		line := journal.Logged{Stamp: stamp, Level: "info", Message: strings.TrimSpace("resumed by " + api.Who(os.Getuid(), a.getenv("SUDO_USER")) + " " + d.As)}
		return append(recs, line), err
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

// askAs shows what is known of a parked run and asks how its unclear calls count;
// "" where there are none.
func (a *app) askAs(ctx context.Context, cfg *config.Config, id string) (_ string, err error) {
	j, _, closeIt, err := a.records(ctx, cfg)
	if err != nil {
		return "", err
	}
	defer closeIt()
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
	for _, s := range h.Steps {
		if s.State == journal.StepIsDone {
			_, _ = fmt.Fprintf(w, "  done         %s at %s\n", s.Name, when(s.Ended))
		}
	}
	for _, e := range unclear {
		_, _ = fmt.Fprintf(w, "  asked for    %s at %s\n", e.Fn, when(e.Marked))
		if text := brief(e.Args); text != "" {
			_, _ = fmt.Fprintf(w, "  with         %s\n", text)
		}
		if text := brief(e.Progress); text != "" {
			_, _ = fmt.Fprintf(w, "  came as far  %s\n", text)
		}
	}
	if e := lastError(h); e != nil {
		_, _ = fmt.Fprintf(w, "  last error   %s\n", e)
	}
	_, _ = fmt.Fprint(w, `Look at the appliance, and type
  done    it has happened
  again   it has not: do it again
  look    let moonseal ask the appliance once more: the safe choice
or stop here (Ctrl-C): a parked run does no harm. done, again or look: `)
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	switch answer = strings.TrimSpace(answer); {
	case slices.Contains([]string{run.AsDone, run.AsAgain, run.AsLook}, answer):
		return answer, nil
	case answer == "" && err != nil:
		_, _ = fmt.Fprintln(w)
		return "", &problem.Error{Kind: problem.Usage, Message: "nobody answers: there is no terminal", Hint: "give --as done, --as again or --as look"}
	}
	return "", &problem.Error{Kind: problem.Usage, Message: fmt.Sprintf("%q is none of done, again and look; nothing is changed", answer)}
}

// lastError gives what a parked run met last: its own error, or that of the step that
// has not ended.
func lastError(h *journal.History) *problem.Error {
	if h.Run.Error != nil {
		return h.Run.Error
	}
	for _, s := range slices.Backward(h.Steps) {
		if s.State != journal.StepIsDone && s.Error != nil {
			return s.Error
		}
	}
	return nil
}

// brief gives what a call noted of how far it came in one short line: without
// whole certificates.
func brief(raw json.RawMessage) string {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return ""
	}
	text, err := json.Marshal(withoutTexts(v))
	if err != nil {
		return ""
	}
	const most = 400
	if runes := []rune(string(text)); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return string(text)
}

// withoutTexts drops strings of more than one line, and lists of such.
func withoutTexts(v any) any {
	long := func(e any) bool {
		text, ok := e.(string)
		return ok && strings.Contains(text, "\n")
	}
	switch v := v.(type) {
	case map[string]any:
		for key, e := range v {
			if list, ok := e.([]any); long(e) || ok && slices.ContainsFunc(list, long) {
				delete(v, key)
				continue
			}
			v[key] = withoutTexts(e)
		}
	case []any:
		for i, e := range v {
			v[i] = withoutTexts(e)
		}
	}
	return v
}

func (a *app) pauseCommand(paused bool) *cobra.Command {
	use, short := "pause [PLAYBOOK]", "Begin no more runs, of one playbook or of all"
	long := `Lets no run begin by schedule any more, of the playbook or of all, also after a restart
of the daemon, until "moonseal unpause". Runs that are under way go on: "moonseal cancel
RUN" ends one. "moonseal run NAME" still begins one.`
	if !paused {
		use, short = "unpause [PLAYBOOK]", "Begin runs again, of one playbook or of all"
		long = "Lets runs begin by schedule again. What was due meanwhile is caught up once.\nA playbook that was paused by name wants to be unpaused by name."
	}
	return &cobra.Command{
		Use: use, Short: short, Long: long, Args: arguments(0, 1), ValidArgsFunction: first(a.completePlaybooks),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			name := strings.Join(args, "")
			if err := c.Pause(cmd.Context(), api.PauseRequest{Playbook: name, Paused: paused}); err != nil {
				return err
			}
			return a.paused(cmd.Context(), c, name, paused)
		},
	}
}

func (a *app) paused(ctx context.Context, c *api.Client, name string, paused bool) error {
	who, goesOn := cmp.Or(name, "all"), strings.TrimSpace("moonseal unpause "+name)
	if paused {
		_, err := fmt.Fprintf(a.stdout, "%s: nothing begins by schedule until %s; unfinished runs go on\n", who, goesOn)
		return err
	}
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if s.Paused && name != "" {
		_, err = fmt.Fprintf(a.stdout, "%s is not paused by itself any more, but all are: moonseal unpause\n", name)
		return err
	}
	_, _ = fmt.Fprintf(a.stdout, "%s: runs begin by schedule again\n", who)
	for _, p := range s.Playbooks {
		if p.Paused && name == "" {
			_, _ = fmt.Fprintf(a.stdout, "but for %s, which is paused by itself: moonseal unpause %s\n", p.Name, p.Name)
		}
	}
	return nil
}

func (a *app) reloadCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "reload", Short: "Read config and scripts again, and say what changed", Args: arguments(0, 0),
		Long: `Makes the daemon read config and scripts again, as SIGHUP does, and says what is other
than before. Scripts are live when they are saved, without it. A config that is wrong
changes nothing (exit code 2); a broken script leaves its last good version at work
(exit code 1). What cannot change while the daemon runs is named.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			r, err := c.Reload(cmd.Context())
			if err != nil {
				if _, here := a.loadConfig(); here != nil && here.Error() == err.Error() {
					return ended(exitUsage, nil) // it was said when the daemon was looked for
				}
				return err
			}
			if asJSON {
				if err := writeJSON(a.stdout, r); err != nil {
					return err
				}
				return ended(map[bool]int{true: exitFailed}[len(r.Problems) > 0], nil)
			}
			return a.showReload(r)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) showReload(r *api.ReloadReply) error {
	for _, g := range []struct {
		what  string
		names []string
	}{{"added", r.Added}, {"changed", r.Changed}, {"removed", r.Removed}, {"config", r.Config}} {
		if len(g.names) > 0 {
			_, _ = fmt.Fprintf(a.stdout, "%-8s %s\n", g.what, strings.Join(g.names, " "))
		}
	}
	if len(r.Added)+len(r.Changed)+len(r.Removed)+len(r.Config)+len(r.Restart)+len(r.Problems) == 0 {
		_, _ = fmt.Fprintln(a.stdout, "nothing to change: all is live as it is in the folder")
	}
	if len(r.Restart) > 0 {
		_, _ = fmt.Fprintf(a.stdout, "these settings stay as they are until the daemon is started again: %s\n", strings.Join(r.Restart, " "))
	}
	for _, e := range r.Problems {
		_, _ = fmt.Fprintf(a.stdout, "broken   %s\n", e)
		printPlace(a.stdout, e.Place)
	}
	return ended(map[bool]int{true: exitFailed}[len(r.Problems) > 0], nil)
}

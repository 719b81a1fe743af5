package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"moonseal/modules"
	"moonseal/runtime/api"
	"moonseal/runtime/bind"
	"moonseal/runtime/config"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

func (a *app) resumeCommand() *cobra.Command {
	var d api.Decision
	var result string
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Let a parked run go on",
		Long: `Lets a parked run go on. Where nobody can tell whether a change has happened, look
at the appliance and say --as done or --as again. With --as look the run asks the
appliance itself once more, which does no harm: right where it could not be reached.
What a call returned that has happened, the run asks the appliance; if it cannot, it
parks again, and --result says it as JSON. Without --as, what is known is shown first and you are asked.`,
		Args:              arguments(1, 1),
		ValidArgsFunction: first(a.completeRuns(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if d.As == "" || result != "" {
				cfg, err := a.reachConfig(ctx)
				if err != nil {
					return err
				}
				if d.As == "" {
					d.As, err = a.askAs(ctx, cfg, args[0])
				}
				if err == nil && result != "" {
					d.Result, err = a.resultOf(ctx, cfg, args[0], result)
				}
				if err != nil {
					return err
				}
			}
			return a.operate(ctx, args[0], func(op operator, r journal.Run) error {
				now, err := op.Resume(ctx, r.ID, d)
				if err != nil {
					return err
				}
				return a.decided(op, now, "resumed")
			})
		},
	}
	cmd.Flags().StringVar(&d.As, "as", "", "done: it has happened; again: it has not, do it again; look: ask once more")
	cmd.Flags().StringVar(&result, "result", "", "with --as done: what the call returned, as JSON")
	why(cmd, &d)
	return cmd
}

// resultOf reads what a person says that the run's one unclear call has returned, as the
// journal has it.
func (a *app) resultOf(ctx context.Context, cfg *config.Config, id, result string) (json.RawMessage, error) {
	j, _, closeIt, err := a.records(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer closeIt()
	h, err := j.History(ctx, id)
	if err != nil {
		return nil, err
	}
	unclear := run.Unclear(h)
	if len(unclear) != 1 {
		return nil, &problem.Error{
			Kind: problem.Usage, Message: fmt.Sprintf("--result is of one call, and run %s has %d that are unclear", h.Run.ID, len(unclear)), Work: problem.NotDone,
		}
	}
	reg, err := bind.NewRegistry(modules.All()...)
	if err != nil {
		return nil, err
	}
	raw, err := reg.GivenResult(unclear[0].Fn, json.RawMessage(result))
	if err != nil {
		return nil, &problem.Error{
			Kind: problem.Usage, Message: "--result: " + err.Error(), Work: problem.NotDone,
			Hint: "it is what " + unclear[0].Fn + " returns, as JSON: moonseal stubs writes down its fields",
		}
	}
	return raw, nil
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
	_, _ = plain.Fprintf(w, "run %s of %s is parked: %s\n", h.Run.ID, h.Run.Playbook, h.Run.Reason)
	for _, s := range h.Steps {
		if s.State == journal.StepIsDone {
			_, _ = plain.Fprintf(w, "  done         %s at %s\n", s.Name, when(s.Ended))
		}
	}
	for _, e := range unclear {
		_, _ = plain.Fprintf(w, "  asked for    %s at %s\n", e.Fn, when(e.Marked))
		if text := brief(e.Args); text != "" {
			_, _ = plain.Fprintf(w, "  with         %s\n", text)
		}
		if text := brief(e.Progress); text != "" {
			_, _ = plain.Fprintf(w, "  came as far  %s\n", text)
		}
	}
	if e := lastError(h); e != nil {
		_, _ = plain.Fprintf(w, "  last error   %s\n", e)
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

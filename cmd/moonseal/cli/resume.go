package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

func (a *app) resumeCommand() *cobra.Command {
	var d api.Decision
	var as, results []string
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Resume a parked run",
		Long: `Resumes a parked run. If it is not known whether a change has happened, look at the
appliance, and use --as done or --as again. With --as look the run asks the appliance
itself once more, which does no harm: right if it could not be reached. If several
calls are unclear, name each: --as 3.1=done --as 3.2=again. The run asks the appliance
what a call that has happened returned; if it cannot, it parks again, and needs
--result JSON, or --result 3.1=JSON. Without --as, you are shown what is known, and
asked.`,
		Args:              arguments(1, 1),
		ValidArgsFunction: first(a.completeRuns(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if len(as) == 0 {
				answers, err := a.askAs(ctx, args[0]) // which needs no lock while a person thinks
				if err != nil {
					return err
				}
				as = answers
			}
			if err := verdicts(&d, as, results); err != nil {
				return err
			}
			return a.onRun(ctx, args[0], func(op operator, r journal.Run) error {
				now, err := op.Resume(ctx, r.ID, d)
				if err != nil {
					return err
				}
				return decided(a.stdout, op, now, "resumed")
			})
		},
	}
	cmd.Flags().StringArrayVar(&as, "as", nil, "done: it has happened; again: it has not, so do it again; look: ask the appliance once more; CALL=… if several are unclear")
	cmd.Flags().StringArrayVar(&results, "result", nil, "with --as done: what the call returned, as JSON; CALL=JSON if several are unclear")
	why(cmd, &d)
	return cmd
}

// verdicts puts the verdicts on calls, with the call's name before each or without, into a
// decision.
func verdicts(d *api.Decision, as, results []string) error {
	d.Calls = map[string]api.Verdict{}
	set := func(flag, text string, put func(*api.Verdict, string) (again bool)) error {
		name, value := callAndRest(text)
		v := d.Calls[name]
		if put(&v, value) {
			return &problem.Error{Kind: problem.Usage, Message: fmt.Sprintf("--%s %s: given twice for one call", flag, text), Work: problem.NotDone}
		}
		d.Calls[name] = v
		return nil
	}
	for _, text := range as {
		err := set("as", text, func(v *api.Verdict, value string) bool {
			again := v.As != ""
			v.As = value
			return again
		})
		if err != nil {
			return err
		}
	}
	for _, text := range results {
		err := set("result", text, func(v *api.Verdict, value string) bool {
			again := len(v.Result) > 0
			v.Result = json.RawMessage(value)
			return again
		})
		if err != nil {
			return err
		}
	}
	for name, v := range d.Calls {
		if len(v.Result) > 0 && !json.Valid(v.Result) { // which could not be sent
			return &problem.Error{
				Kind: problem.Usage, Message: strings.TrimSpace("--result "+name) + ": not valid JSON", Work: problem.NotDone,
				Hint: `quote it for the shell: --result '{"id": 1}'`,
			}
		}
	}
	d.As, d.Result = d.Calls[""].As, d.Calls[""].Result
	delete(d.Calls, "")
	return nil
}

// callAndRest splits "3.1=done"; what has no name before it is all rest.
func callAndRest(text string) (name, rest string) {
	name, rest, named := strings.Cut(text, "=")
	if _, err := strconv.ParseFloat(name, 64); !named || err != nil {
		return "", text
	}
	return name, rest
}

// askAs shows what is known of a parked run and asks how its unclear calls count, for
// the flag --as; nothing if there are none.
func (a *app) askAs(ctx context.Context, id string) (answers []string, err error) {
	err = a.with(ctx, reads, func(op operator) error {
		j, err := op.Records(ctx)
		if err != nil {
			return err
		}
		h, err := j.History(ctx, id)
		if err != nil {
			return err
		}
		unclear := run.Unclear(h)
		if h.Run.Status != journal.Parked || len(unclear) == 0 {
			return nil
		}
		showUnclear(a.stdout, h, unclear)
		answers, err = verdictDialogue{bufio.NewReader(a.stdin), a.stdout}.ask(unclear)
		return err
	})
	return answers, err
}

// showUnclear shows what is known of a run with calls that are unclear.
func showUnclear(w io.Writer, h *journal.History, unclear []journal.Effect) {
	_, _ = plain.Fprintf(w, "run %s of %s is parked: %s\n", h.Run.ID, h.Run.Playbook, h.Run.Reason)
	for _, s := range h.Steps {
		if s.State == journal.StepIsDone {
			_, _ = plain.Fprintf(w, "  done         %s at %s\n", s.Name, when(s.Ended))
		}
	}
	for _, e := range unclear {
		_, _ = plain.Fprintf(w, "  unclear      %s at %s (call %s)\n", e.Fn, when(e.Marked), run.CallName(e))
		if text := brief(e.Args); text != "" {
			_, _ = plain.Fprintf(w, "  arguments    %s\n", text)
		}
		if text := brief(e.Progress); text != "" {
			_, _ = plain.Fprintf(w, "  progress     %s\n", text)
		}
	}
	if e := lastError(h); e != nil {
		_, _ = plain.Fprintf(w, "  last error   %s\n", e)
	}
	_, _ = fmt.Fprint(w, `Look at the appliance, and type
  done    it has happened
  again   it has not: do it again
  look    let moonseal ask the appliance once more: the safe choice
or stop here (Ctrl-C): a parked run does no harm. `)
}

// verdictDialogue asks the person at the terminal how unclear calls count.
type verdictDialogue struct {
	in  *bufio.Reader
	out io.Writer
}

// ask returns the answers for the flag --as: of several calls each with its name.
func (d verdictDialogue) ask(unclear []journal.Effect) ([]string, error) {
	if len(unclear) == 1 {
		answer, err := d.askOne("")
		return []string{answer}, err
	}
	var answers []string
	for _, e := range unclear {
		name := run.CallName(e)
		answer, err := d.askOne(name + " " + e.Fn + ": ")
		if err != nil {
			return nil, err
		}
		answers = append(answers, name+"="+answer)
	}
	return answers, nil
}

func (d verdictDialogue) askOne(what string) (string, error) {
	_, _ = plain.Fprintf(d.out, "%sdone, again or look: ", what)
	answer, err := d.in.ReadString('\n')
	switch answer = strings.TrimSpace(answer); {
	case slices.Contains([]string{run.AsDone, run.AsAgain, run.AsLook}, answer):
		return answer, nil
	case answer == "" && err != nil:
		_, _ = fmt.Fprintln(d.out)
		return "", &problem.Error{Kind: problem.Usage, Message: "stdin is not a terminal, and --as is missing", Hint: "use --as done, --as again or --as look"}
	}
	return "", &problem.Error{Kind: problem.Usage, Message: fmt.Sprintf("expected done, again or look, got %q; nothing is changed", answer)}
}

// lastError returns a parked run's last error: its own, or that of the step that has not
// ended.
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

// brief returns a call's arguments or progress in one short line: without whole
// certificates.
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

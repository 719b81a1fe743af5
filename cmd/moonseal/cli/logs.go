package cli

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
)

// logPage is how many lines are read at once.
const logPage = 500

func (a *app) logsCommand() *cobra.Command {
	var asJSON, debug, follow bool
	cmd := &cobra.Command{
		Use:               "logs RUN",
		Short:             "Show a run's log",
		Long:              "Shows a run's log; with -f also the lines to come, until the run has ended.",
		Args:              arguments(1, 1),
		ValidArgsFunction: first(a.completeRuns(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			show := logLines{a.stdout, asJSON, debug}
			return a.with(ctx, reads, func(op operator) error {
				records, err := op.Records(ctx)
				if err != nil {
					return err
				}
				run, err := findRun(ctx, records, args[0])
				if err != nil {
					return err
				}
				lines, err := a.showLog(ctx, records, run.ID, follow, show)
				if err != nil || lines > 0 || run.Ended.IsZero() {
					return err
				}
				horizon, err := records.Horizon(ctx)
				if err == nil && run.Ended.Before(horizon.Logs) {
					_, err = plain.Fprintf(a.stderr, "moonseal: the log of run %s is pruned: keep.logs is %s, and the run ended %s\n",
						run.ID, op.Config().Keep.Logs, when(run.Ended))
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "follow the log until the run has ended")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each line as JSON")
	cmd.Flags().BoolVar(&debug, "debug", false, "show debug lines too")
	return cmd
}

// logPause is how often a log that is followed is read again.
const logPause = 500 * time.Millisecond

// showLog shows the lines of a run's log, and with follow those to come. It returns how many there were.
func (a *app) showLog(ctx context.Context, j api.Records, id string, follow bool, show logLines) (n int, err error) {
	var after int64
	for {
		run, err := j.Run(ctx, id) // before its lines: all are there once it has ended
		if err != nil {
			return n, err
		}
		for more := true; more; {
			lines, err := j.Logs(ctx, id, after, logPage)
			if err != nil {
				return n, err
			}
			for _, l := range lines {
				after = l.Seq
				n++
				if err := show.line(l); err != nil {
					return n, err
				}
			}
			more = len(lines) == logPage
		}
		if !follow || !run.Ended.IsZero() {
			return n, nil
		}
		select {
		case <-a.clock.After(logPause):
		case <-ctx.Done():
			return n, nil // Ctrl-C ends the following
		}
	}
}

// logLines writes log lines.
type logLines struct {
	w             io.Writer
	asJSON, debug bool
}

func (s logLines) line(l journal.Log) error {
	if l.Level == "debug" && !s.debug {
		return nil
	}
	if s.asJSON {
		return writeJSON(s.w, logJSON{thisContract(), l})
	}
	step := ""
	if l.Step != "" {
		step = l.Step + ": "
	}
	_, err := plain.Fprintf(s.w, "%s %-5s %s%s%s\n", l.At.Local().Format(time.DateTime), l.Level, step, l.Message, fieldText(l.Fields))
	return err
}

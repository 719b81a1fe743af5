package cli

import (
	"context"
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
		Long:              "Shows a run's log; with -f also what comes yet, until the run has ended.",
		Args:              arguments(1, 1),
		ValidArgsFunction: first(a.completeRuns(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.reachConfig(cmd.Context())
			if err != nil {
				return err
			}
			j, _, closeIt, err := a.records(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			defer closeIt()
			run, err := findRun(cmd.Context(), j, args[0])
			if err != nil {
				return err
			}
			lines := 0
			show := func(l journal.Log) error {
				lines++
				return a.showLine(l, asJSON, debug)
			}
			err = a.showLog(cmd.Context(), j, run.ID, follow, show)
			if err != nil || lines > 0 || run.Ended.IsZero() {
				return err
			}
			horizon, err := j.Horizon(cmd.Context())
			if err == nil && run.Ended.Before(horizon.Logs) {
				_, err = plain.Fprintf(a.stderr, "moonseal: the log of run %s was removed: keep.logs is %s, and it ended %s\n", run.ID, cfg.Keep.Logs, when(run.Ended))
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run has ended")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each")
	cmd.Flags().BoolVar(&debug, "debug", false, "debug lines too")
	return cmd
}

// logPause is how often a log that is followed is looked at.
const logPause = 500 * time.Millisecond

// showLog shows the lines of a run's log, and with follow those to come.
func (a *app) showLog(ctx context.Context, j api.Records, id string, follow bool, show func(journal.Log) error) error {
	var after int64
	for {
		run, err := j.Run(ctx, id) // before its lines: all are there once it has ended
		if err != nil {
			return err
		}
		for more := true; more; {
			lines, err := j.Logs(ctx, id, after, logPage)
			if err != nil {
				return err
			}
			for _, l := range lines {
				after = l.Seq
				if err := show(l); err != nil {
					return err
				}
			}
			more = len(lines) == logPage
		}
		if !follow || !run.Ended.IsZero() {
			return nil
		}
		select {
		case <-a.clock.After(logPause):
		case <-ctx.Done():
			return nil // Ctrl-C is how one stops to look
		}
	}
}

func (a *app) showLine(l journal.Log, asJSON, debug bool) error {
	if l.Level == "debug" && !debug {
		return nil
	}
	if asJSON {
		return writeJSON(a.stdout, l)
	}
	step := ""
	if l.Step != "" {
		step = l.Step + ": "
	}
	_, err := plain.Fprintf(a.stdout, "%s %-5s %s%s%s\n", l.At.Local().Format(time.DateTime), l.Level, step, l.Message, fieldText(l.Fields))
	return err
}

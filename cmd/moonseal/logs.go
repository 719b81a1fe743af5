package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"moonseal/runtime/journal"
)

// logPage is how many lines are read at once.
const logPage = 500

func (a *app) logsCommand() *cobra.Command {
	var asJSON, debug bool
	cmd := &cobra.Command{
		Use:               "logs RUN",
		Short:             "Show a run's log",
		Args:              arguments(1, 1),
		ValidArgsFunction: first(a.completeRuns(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.loadConfig()
			if err != nil {
				return err
			}
			j, err := journal.OpenReadOnly(cmd.Context(), cfg.State)
			if err != nil {
				return err
			}
			defer func() { _ = j.Close() }()
			run, err := findRun(cmd.Context(), j, args[0])
			if err != nil {
				return err
			}
			var after int64
			for {
				lines, err := j.Logs(cmd.Context(), run.ID, after, logPage)
				if err != nil || len(lines) == 0 {
					return err
				}
				for _, l := range lines {
					after = l.Seq
					if err := a.showLine(l, asJSON, debug); err != nil {
						return err
					}
				}
			}
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each")
	cmd.Flags().BoolVar(&debug, "debug", false, "debug lines too")
	return cmd
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
	_, err := fmt.Fprintf(a.stdout, "%s %-5s %s%s%s\n", l.At.Local().Format(time.DateTime), l.Level, step, l.Message, fieldText(l.Fields))
	return err
}

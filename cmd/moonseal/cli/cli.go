// Package cli is moonseal's command line: one file for each command, which parses its
// flags, calls the operator, and shows the result. What a person can do is the operator's:
// see operator.go.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jonboulle/clockwork"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/suggest"
)

// Exit codes.
const (
	exitDone    = 0 // done, or there was nothing to do
	exitFailed  = 1
	exitUsage   = 2
	exitNotDue  = 3 // with --detailed-exitcode
	exitParked  = 4
	exitWaiting = 5
)

// Main runs the program with the process's arguments and streams, and returns its exit
// code.
func Main() int {
	a := &app{args: os.Args[1:], stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, clock: clockwork.NewRealClock(), build: thisBuild()}
	return a.main()
}

// app is the program and its surroundings.
type app struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	clock          clockwork.Clock
	trace          func(run.Point, string) // for tests; nil
	childEnv       []string                // added to the environment of children; for tests
	build          string                  // see thisBuild

	config string // --config
}

// main runs the program and returns its exit code.
func (a *app) main() int {
	if len(a.args) > 0 && a.args[0] == workerCommand {
		return a.worker() // before all else: it has 20 ms to its first step
	}
	a.stdout, a.stderr = plain.NewWriter(a.stdout), plain.NewWriter(a.stderr)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := a.root()
	root.SetArgs(a.args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &code):
		return int(code)
	}
	if a.checks() {
		return a.unknown(err)
	}
	printError(a.stderr, err)
	if e := problem.From(err); e.Kind == problem.Usage && e.Place == nil { // a script that is wrong has failed
		return exitUsage
	}
	return exitFailed
}

// exitCode ends the program when everything is printed already.
type exitCode int //nolint:errname // it carries a code, and no message

func (exitCode) Error() string { return "" }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "moonseal",
		Short: "Renews TLS certificates on appliances that cannot run an ACME client",
		Long: `moonseal renews TLS certificates on appliances that cannot run an ACME client:
Cisco Unified Communications Manager clusters first of all. What a renewal does
is a playbook: a Lua script in the scripts directory.

  moonseal demo           watch one, with everything simulated
  moonseal check          find errors in the scripts
  moonseal run NAME       renew now, or continue what was interrupted
  moonseal serve          the daemon: runs each when it is due
  moonseal status         what is served, what is next, what needs a person

Exit codes: 0 done, or nothing to do; 1 failed, or something is wrong; 2 wrong use;
3 not due, with --detailed-exitcode; 4 parked: a person must look; 5 waiting: it
continues later.`,
		SilenceErrors: true, SilenceUsage: true,
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVar(&a.config, "config", "", "config `file` (default: moonseal.yaml, then /etc/moonseal/moonseal.yaml)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		message := err.Error()
		if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok { // its own message is that of strconv
			what := map[string]string{"int": "a whole number", "duration": "a duration such as 30s", "bool": "true or false"}[bad.GetFlag().Value.Type()]
			message = fmt.Sprintf("--%s takes %s, not %q", bad.GetFlag().Name, what, bad.GetValue())
		}
		return &problem.Error{Kind: problem.Usage, Message: message, Hint: cmd.CommandPath() + " --help"}
	})
	a.addCommands(root)
	return root
}

// addCommands adds the commands, grouped by when they are needed.
func (a *app) addCommands(root *cobra.Command) {
	for _, g := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"look", "Inspect:", []*cobra.Command{a.statusCommand(), a.runsCommand(), a.logsCommand(), a.doctorCommand(), a.checkCommand()}},
		{"act", "Operate:", []*cobra.Command{
			a.runCommand(), a.approveCommand(), a.denyCommand(), a.resumeCommand(), a.cancelCommand(), a.unlockCommand(), a.cleanupCommand(), a.forgetCommand(),
			a.pauseCommand(true), a.pauseCommand(false), a.reloadCommand(),
		}},
		{"set", "Set up and maintain:", []*cobra.Command{
			a.initCommand(), a.secretCommand(), a.trustCommand(), a.alertCommand(), a.serveCommand(), a.backupCommand(), a.restoreCommand(),
		}},
		{"try", "Rehearse, and write playbooks:", []*cobra.Command{a.demoCommand(), a.labCommand(), a.stubsCommand()}},
	} {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	root.AddCommand(a.versionCommand())
}

// arguments checks a command's arguments against their names in its use line, of
// which the first least must be there: cobra's own errors name no hint.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		e := &problem.Error{Kind: problem.Usage, Hint: "usage: " + cmd.UseLine()}
		switch {
		case len(args) < least:
			e.Message = "missing argument " + strings.Fields(cmd.Use)[1+len(args)]
		case most >= 0 && len(args) > most:
			e.Message = fmt.Sprintf("unexpected argument %q", args[most])
		default:
			return nil
		}
		return e
	}
}

// subcommand refuses what is not a command below cmd.
func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	e := &problem.Error{Kind: problem.Usage, Message: fmt.Sprintf("there is no command %q", args[0]), Hint: cmd.CommandPath() + " --help lists them"}
	if near := suggest.Closest(args[0], names); near != "" {
		e.Hint = "did you mean " + cmd.CommandPath() + " " + near + "?"
	}
	return e
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"moonseal/modules/lab"
	"moonseal/runtime/config"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
	"moonseal/scripts"
)

// demoPlaybook is what the demo runs, and demoNode the node that it renews.
const (
	demoPlaybook = "cucm-tomcat"
	demoNode     = "cucm01-pub." + lab.Domain
)

func (a *app) demoCommand() *cobra.Command {
	var dir string
	var outage time.Duration
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch a whole renewal, with everything simulated",
		Long: `Starts a lab in this process, an ACME CA, DNS servers and a CUCM cluster on the
loopback address, and runs the playbook cucm-tomcat against it: the script,
CA protocol, DNS, REST API and SSH prompt of a real renewal.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context(), dir, outage) },
	}
	cmd.Flags().StringVar(&dir, "dir", "", "keep config, scripts, state and logs in this directory")
	cmd.Flags().DurationVar(&outage, "outage", 3*time.Second, "how long the simulated restart takes")
	return cmd
}

func (a *app) demo(ctx context.Context, dir string, outage time.Duration) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "moonseal-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	opts := lab.Options{Dir: dir, Scripts: scripts.Playbooks(), Clock: a.clock}
	opts.Behavior.RestartOutage = outage
	world, err := lab.Start(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, world.Close()) }()
	before, err := world.Ledger(ctx)
	if err != nil {
		return err
	}
	cfg, err := config.Load(world.ConfigPath(), a.getenv)
	if err != nil {
		return err
	}
	_, _ = plain.Fprintf(a.stdout, "An ACME CA, DNS for %s and a CUCM cluster are up; %s runs against them.\n\n", lab.Domain, filepath.Base(demoPlaybook+".lua"))
	demo := *a
	demo.getenv = func(name string) string { return cmp.Or(world.Env(name), a.getenv(name)) }
	if err := demo.renew(ctx, cfg); err != nil {
		return err
	}
	after, err := world.Ledger(ctx)
	if err != nil {
		return err
	}
	return demoResult(a.stdout, before, after)
}

// renew runs the demo's playbook here, whatever daemon this machine has.
func (a *app) renew(ctx context.Context, cfg *config.Config) (err error) {
	p := a.newProgress(false, cfg.Log.Level)
	defer p.close()
	l := a.local(cfg)
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return ended(l.Run(ctx, demoPlaybook, runOptions{force: true, interrupted: "moonseal demo starts over"}, p))
}

// demoResult shows the result as the lab's ledger has it.
func demoResult(w io.Writer, before, after *lab.Ledger) error {
	_, _ = plain.Fprintf(w, "\n%s served before  %s\n", demoNode, before.Served[demoNode])
	_, _ = plain.Fprintf(w, "%s serves now     %s\n", demoNode, after.Served[demoNode])
	_, _ = plain.Fprintf(w, "TXT records left: %d\n", len(after.TXT.Present))
	switch {
	case after.Served[demoNode] == before.Served[demoNode]:
		return &problem.Error{Kind: problem.Internal, Message: "the node still serves the old certificate"}
	case len(after.TXT.Present) > 0:
		return &problem.Error{Kind: problem.Internal, Message: "a TXT record is left"}
	}
	return nil
}

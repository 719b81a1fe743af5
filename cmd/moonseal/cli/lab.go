package cli

import (
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"moonseal/modules/cucm/cucmtest"
	"moonseal/modules/lab"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
	"moonseal/scripts"
)

func (a *app) labCommand() *cobra.Command {
	var opts lab.Options
	var hosts []string
	var outage time.Duration
	var verbose bool
	cmd := &cobra.Command{
		Use:   "lab --dir DIR",
		Short: "Run a simulated CA, DNS and CUCM cluster to rehearse with",
		Long: `Runs an ACME CA, authoritative DNS servers with the APIs of Cloudflare,
DigitalOcean and Route 53, and a CUCM cluster with REST and SSH, on free ports of
the loopback address, until Ctrl-C or SIGTERM. DIR gets moonseal.yaml, lab.env (the
secrets), ca.pem, control.url and a scripts directory; then, in another terminal:

  set -a; . DIR/lab.env; moonseal run cucm-tomcat --config DIR/moonseal.yaml --force

A playbook needs no change: the config's hosts map real names to the lab.
GET CONTROL/ledger returns what happened; POST CONTROL/faults makes things fail.

With --dns the CA validates through another DNS server, such as a BIND or Knot of your
own that serves automate.builders; moonseal uses it as its resolver, and the names
ns1.automate.builders and ns2.automate.builders resolve to it. The playbook's zone then
has provider = "rfc2136", or propagation.mode selects which servers are queried.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if opts.Dir == "" {
				return &problem.Error{Kind: problem.Usage, Message: "--dir is missing", Hint: "moonseal lab --dir DIR"}
			}
			opts.Scripts, opts.Behavior.RestartOutage, opts.Clock = scripts.Playbooks(), outage, a.clock
			opts.SpareKeys = len(hosts)
			for _, host := range hosts {
				opts.Nodes = append(opts.Nodes, cucmtest.NodeOptions{Host: host})
			}
			if verbose {
				opts.Log = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
			}
			ctx := cmd.Context()
			world, err := lab.Start(ctx, opts)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, world.Close()) }()
			_, _ = plain.Fprintf(a.stdout, "config   %s\ncontrol  %s\nlab ready\n", world.ConfigPath(), world.ControlURL())
			<-ctx.Done()
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Dir, "dir", "", "directory for config, secrets and scripts")
	f.StringSliceVar(&hosts, "nodes", nil, "host names of the cluster's nodes, the publisher first (default cucm01-pub,cucm02-sub,imp01)")
	f.StringVar(&opts.DNS, "dns", "", "another DNS server that the CA validates through, host or host:port")
	f.DurationVar(&outage, "outage", 3*time.Second, "how long a restart of Cisco Tomcat takes")
	f.BoolVar(&verbose, "verbose", false, "log the requests to the lab, on stderr")
	return cmd
}

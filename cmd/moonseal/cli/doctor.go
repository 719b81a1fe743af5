package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"moonseal/runtime/bind"
	"moonseal/runtime/config"
	"moonseal/runtime/grant"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

func (a *app) doctorCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check config, secrets, scripts, clock, CA, hosts and file modes, and show how to fix each",
		Long: `Checks everything that a renewal needs, and changes nothing: the config, the scripts,
the secrets that they name, the modes of files, the journal and the daemon; and what the
playbooks name: each node's REST API and SSH prompt, each DNS zone, each CA's directory,
and this machine's clock against the CA's. Each node is logged in to, with one attempt:
a wrong password is not tried again. What a playbook names only in its run function is
known once a run of it has changed something. If a daemon runs, it makes these checks,
since it may have secrets that no other process has. Exit code 1 if something is wrong.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// examination collects findings.
type examination struct {
	op       operator
	cfg      *config.Config
	network  *grant.Network
	apart    bool            // the state directory is not readable, and a daemon runs
	unread   error           // why the scripts could not be read
	reported map[string]bool // what was checked for the playbooks, by tenant
	findings []bind.Finding
}

func (e *examination) add(what, note string, err error) { e.addFor("", what, note, err) }

func (e *examination) addFor(tenant, what, note string, err error) {
	f := bind.Finding{What: what, Tenant: tenant, Note: note}
	if err != nil {
		f.Error, f.Note = problem.From(err), ""
	}
	e.findings = append(e.findings, hinted(f))
}

// hinted adds how to fix it to a finding that has no hint of its own.
func hinted(f bind.Finding) bind.Finding {
	if f.Error == nil || f.Error.Hint != "" || f.Error.Place != nil { // a script's line shows it
		return f
	}
	p := *f.Error
	switch p.Kind {
	case problem.Unavailable, problem.Timeout:
		p.Hint = "check whether it is up, whether this machine resolves its name, and whether a firewall lets this machine through"
	case problem.Auth:
		p.Hint = "correct the secret, then run doctor again"
	case problem.Untrusted:
		p.Hint = "check what answers there in its place, and whether this machine's clock is right"
	default: // the error itself is enough
	}
	f.Error = &p
	return f
}

func (a *app) doctor(ctx context.Context, asJSON bool) error {
	e := &examination{}
	var err error
	if e.cfg, err = a.loadConfig(); err != nil {
		e.add("config", "", err)
		return showFindings(a.stdout, e.findings, asJSON)
	}
	e.network, err = grant.New(e.cfg.Network())
	e.add("config", cmp.Or(e.cfg.Path, "no file, defaults"), err)
	op, err := a.choose(ctx, e.cfg, reads)
	return using(op, err, func(op operator) error {
		e.op = op
		e.scripts(ctx)
		e.state(ctx)
		e.named(ctx)
		if e.network != nil && !e.apart {
			e.hosts(ctx)
		}
		return showFindings(a.stdout, e.findings, asJSON)
	})
}

// scripts checks the scripts and the secrets that they name.
func (e *examination) scripts(ctx context.Context) {
	report, err := e.op.Scripts(ctx)
	if err != nil {
		e.unread = err
		e.add("scripts "+e.cfg.Scripts, "", err)
		return
	}
	e.add("scripts "+e.cfg.Scripts, count(len(report.Playbooks), "playbook"), nil)
	for _, p := range report.Problems {
		file := "?"
		if p.Place != nil {
			file = fmt.Sprintf("%s:%d", p.Place.File, p.Place.Line)
		}
		e.add("script "+file, "", p)
	}
	names, err := e.op.SecretNames(ctx)
	if err != nil {
		e.add("secrets", "", err)
		return
	}
	for _, name := range names {
		switch s := e.op.Secret(ctx, name); {
		case s.Error == nil:
			e.add("secret "+name, s.Where, nil)
		case s.Error.Kind == problem.NotFound:
			missing := secretNotFound()
			missing.Hint = "set " + name + " in the environment, pass it to systemd with LoadCredential=" + name + ":FILE, or name its place under secrets in the config"
			e.add("secret "+name, "", missing)
		default:
			e.add("secret "+name, "", s.Error)
		}
	}
}

// named checks what the playbooks name.
func (e *examination) named(ctx context.Context) {
	findings, err := e.op.Examine(ctx)
	if err != nil && errors.Is(err, e.unread) {
		return // it is among the findings already
	}
	if err != nil {
		e.add("what playbooks name", "", err)
		return
	}
	e.reported = map[string]bool{}
	for _, f := range findings {
		e.reported[f.Tenant+"\x00"+f.What] = true
		e.findings = append(e.findings, hinted(f))
	}
}

func showFindings(w io.Writer, findings []bind.Finding, asJSON bool) error {
	bad := slices.ContainsFunc(findings, func(f bind.Finding) bool { return f.Error != nil })
	if asJSON {
		if err := writeJSON(w, findingsJSON(findings)); err != nil {
			return err
		}
		return failedIf(bad)
	}
	for _, f := range findings {
		if f.Tenant != "" {
			f.What += " (tenant " + f.Tenant + ")"
		}
		if f.Error == nil {
			_, _ = plain.Fprintf(w, "ok   %s  %s\n", f.What, f.Note)
			continue
		}
		_, _ = plain.Fprintf(w, "bad  %s: %s\n", f.What, f.Error)
		printPlace(w, f.Error.Place)
		if f.Error.Hint != "" {
			_, _ = plain.Fprintf(w, "     hint: %s\n", f.Error.Hint)
		}
	}
	return failedIf(bad)
}

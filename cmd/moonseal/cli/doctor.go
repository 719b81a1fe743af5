package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"moonseal/runtime/api"
	"moonseal/runtime/bind"
	"moonseal/runtime/config"
	"moonseal/runtime/daemon"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

func (a *app) doctorCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check config, secrets, scripts, clock, CA, hosts and file modes, and say how to mend each",
		Long: `Looks at everything that a renewal needs, and changes nothing: the config, the
scripts, the secrets that they name, the modes of files, the journal and the daemon;
and what the playbooks name: each node's REST API and SSH prompt, each DNS zone, each
CA's directory, and this machine's clock against the CA's. Each node is logged in to,
with one attempt: a wrong password is not tried again. What a playbook names in its
run function only is known once a run of it has changed something. Where a daemon
runs it does the looking, since it may have secrets that nobody else has. Exit code 1
where something is wrong.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// examination collects findings.
type examination struct {
	app      *app
	cfg      *config.Config
	network  *grant.Network
	apart    bool            // the state folder cannot be looked into, and a daemon runs
	loaded   *loadedScripts  // nil: they cannot be read here
	said     map[string]bool // what was looked at for the playbooks, by tenant
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

// hinted says how to mend what names no way by itself.
func hinted(f bind.Finding) bind.Finding {
	if f.Error == nil || f.Error.Hint != "" || f.Error.Place != nil { // a script's line says it
		return f
	}
	p := *f.Error
	switch p.Kind {
	case problem.Unavailable, problem.Timeout:
		p.Hint = "look whether it is up, whether this machine resolves its name, and whether a firewall lets this machine through"
	case problem.Auth:
		p.Hint = "correct the secret, then run doctor again"
	case problem.Untrusted:
		p.Hint = "look who answers there in place of it, and whether this machine's clock is right"
	default: // it says by itself what is wrong
	}
	f.Error = &p
	return f
}

func (a *app) doctor(ctx context.Context, asJSON bool) error {
	e := &examination{app: a}
	var err error
	if e.cfg, err = a.loadConfig(); err != nil {
		e.add("config", "", err)
		return a.showFindings(e.findings, asJSON)
	}
	e.network, err = grant.New(e.cfg.Network())
	e.add("config", cmp.Or(e.cfg.Path, "no file, defaults"), err)
	e.scripts(ctx)
	e.state(ctx)
	e.named(ctx)
	if e.network != nil && !e.apart {
		e.hosts(ctx)
	}
	return a.showFindings(e.findings, asJSON)
}

// scripts looks at the scripts and the secrets that they name.
func (e *examination) scripts(ctx context.Context) {
	playbooks, problems, err := e.live(ctx)
	if err != nil {
		e.add("scripts "+e.cfg.Scripts, "", err)
		return
	}
	e.add("scripts "+e.cfg.Scripts, count(playbooks, "playbook"), nil)
	for _, p := range problems {
		file := "?"
		if p.Place != nil {
			file = fmt.Sprintf("%s:%d", p.Place.File, p.Place.Line)
		}
		e.add("script "+file, "", p)
	}
	names, err := e.secretNames(ctx)
	if err != nil {
		e.add("secrets", "", err)
		return
	}
	for _, name := range names {
		s := e.app.lookUp(ctx, e.cfg, name)
		if s.Error != nil && s.Error.Kind == problem.NotFound {
			e.add("secret "+name, "", secretNotFound(name))
			continue
		}
		if s.Error != nil {
			e.add("secret "+name, "", s.Error)
			continue
		}
		e.add("secret "+name, s.Where, nil)
	}
}

// live counts the playbooks that are in order, and returns what is wrong with scripts:
// as the folder is, or, where only the daemon may read it, as the daemon has it.
func (e *examination) live(ctx context.Context) (playbooks int, problems []*problem.Error, err error) {
	e.loaded, err = e.app.loadScripts(ctx, e.cfg, e.cfg.Scripts, nil)
	if err == nil {
		return len(e.loaded.Playbooks), e.loaded.Problems, nil
	}
	c := e.app.daemon(e.cfg)
	if !errors.Is(err, fs.ErrPermission) || !c.Alive(ctx) {
		return 0, nil, err
	}
	s, err := c.Status(ctx)
	if err != nil {
		return 0, nil, err
	}
	for _, p := range s.Playbooks {
		if p.Bundle != "" {
			playbooks++
		}
	}
	return playbooks, s.Scripts, nil
}

func (e *examination) secretNames(ctx context.Context) ([]string, error) {
	if c := e.app.daemon(e.cfg); c.Alive(ctx) || e.loaded == nil {
		return e.app.namedSecrets(ctx, e.cfg)
	}
	return e.loaded.secretNames(e.cfg), nil
}

// named looks at what the playbooks name: by the daemon where one runs.
func (e *examination) named(ctx context.Context) {
	findings, err := e.examine(ctx)
	if err != nil {
		e.add("what playbooks name", "", err)
		return
	}
	e.said = map[string]bool{}
	for _, f := range findings {
		e.said[f.Tenant+"\x00"+f.What] = true
		e.findings = append(e.findings, hinted(f))
	}
}

func (e *examination) examine(ctx context.Context) ([]bind.Finding, error) {
	if c := e.app.daemon(e.cfg); c.Alive(ctx) {
		return c.Examine(ctx)
	}
	work, err := job(e.cfg)
	if err != nil {
		return nil, err
	}
	if e.loaded == nil {
		return nil, nil // why is among the findings already
	}
	parent, err := e.app.parent(e.cfg, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	var records api.Records
	if j, err := journal.OpenReadOnly(ctx, e.cfg.State); err == nil {
		defer func() { _ = j.Close() }()
		records = j
	}
	return daemon.Examine(ctx, parent, work, e.loaded.files(), records)
}

func (a *app) showFindings(findings []bind.Finding, asJSON bool) error {
	bad := 0
	for _, f := range findings {
		if f.Error != nil {
			bad++
		}
		if asJSON {
			continue
		}
		if f.Tenant != "" {
			f.What += " (tenant " + f.Tenant + ")"
		}
		if f.Error == nil {
			_, _ = plain.Fprintf(a.stdout, "ok   %s  %s\n", f.What, f.Note)
			continue
		}
		_, _ = plain.Fprintf(a.stdout, "bad  %s: %s\n", f.What, f.Error)
		printPlace(a.stdout, f.Error.Place)
		if f.Error.Hint != "" {
			_, _ = plain.Fprintf(a.stdout, "     hint: %s\n", f.Error.Hint)
		}
	}
	if asJSON {
		if err := writeJSON(a.stdout, findings); err != nil {
			return err
		}
	}
	return ended(map[bool]int{true: exitFailed}[bad > 0], nil)
}

// secretNotFound is the problem of a secret that no source has.
func secretNotFound(name string) error {
	return &problem.Error{
		Kind: problem.NotFound, Message: "not found in systemd credentials, environment or config",
		Hint: "set " + name + " in the environment, give it to systemd with LoadCredential=" + name + ":FILE, or name its place under secrets in the config",
	}
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"moonseal/modules/ssh"
	"moonseal/runtime/account"
	"moonseal/runtime/api"
	"moonseal/runtime/bind"
	"moonseal/runtime/config"
	"moonseal/runtime/daemon"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
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
	said     map[string]bool // what was looked at for the playbooks
	findings []bind.Finding
}

func (e *examination) add(what, note string, err error) {
	f := bind.Finding{What: what, Note: note}
	if err != nil {
		f.Error, f.Note = problem.From(err), ""
	}
	e.findings = append(e.findings, hinted(f))
}

// hinted says how to mend what names no way by itself.
func hinted(f bind.Finding) bind.Finding {
	if f.Error == nil || f.Error.Hint != "" {
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
	names, err := e.app.namedSecrets(ctx, e.cfg)
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

// live counts the playbooks that are in order, and gives what is wrong with scripts:
// as the folder is, or, where only the daemon may read it, as the daemon has it.
func (e *examination) live(ctx context.Context) (playbooks int, problems []*problem.Error, err error) {
	loaded, err := e.app.loadScripts(ctx, e.cfg, e.cfg.Scripts)
	if err == nil {
		return len(loaded.Playbooks), loaded.Problems, nil
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
	return playbooks, s.Problems, nil
}

// state looks at the state folder: the daemon, the journal, and the modes of files.
func (e *examination) state(ctx context.Context) {
	c := e.app.daemon(e.cfg)
	runs := c.Alive(ctx)
	if runs {
		_, err := c.Status(ctx)
		e.add("daemon", "listens on "+e.cfg.Listen.Socket, err)
	} else {
		e.add("daemon", "none runs", nil)
	}
	if _, err := os.ReadDir(e.cfg.State); runs && errors.Is(err, fs.ErrPermission) {
		_, err := c.Records().Runs(ctx, journal.Filter{Limit: 1})
		e.add("journal", "the daemon reads it", err)
		e.add("modes of files", "not looked at: the state folder is the daemon's user's alone, and only that one sees into it", nil)
		e.apart = true
		return
	}
	switch j, err := journal.OpenReadOnly(ctx, e.cfg.State); {
	case err != nil && problem.From(err).Kind == problem.NotFound:
		e.add("journal", "none yet in "+e.cfg.State, nil)
	case err != nil:
		e.add("journal", "", err)
	default:
		_, err := j.Runs(ctx, journal.Filter{Limit: 1})
		e.add("journal", e.cfg.State, errors.Join(err, j.Close()))
	}
	e.add("modes of files", "nobody else can use them", e.modes())
	e.add("socket", "for "+cmp.Or(e.cfg.Listen.Group, "its owner"), e.socket())
}

// socket refuses one that the group which is to use it cannot reach.
func (e *examination) socket() error {
	l := e.cfg.Listen
	if rel, err := filepath.Rel(e.cfg.State, l.Socket); l.Group == "" || err != nil || strings.HasPrefix(rel, "..") {
		return nil //nolint:nilerr // it is elsewhere
	}
	return &problem.Error{
		Kind: problem.Usage, Target: l.Socket, Message: "group " + l.Group + " cannot reach it: the state folder is its owner's alone",
		Hint: "listen: { socket: /run/moonseal/moonseal.sock, group: " + l.Group + " }",
	}
}

// modes refuses what others can read or write below the state folder, and what is
// not its owner's.
func (e *examination) modes() error {
	var open, strange []string
	owner := -1
	err := filepath.WalkDir(e.cfg.State, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if path == e.cfg.State {
			owner = uidOf(info)
		}
		if uidOf(info) != owner {
			strange = append(strange, path)
		}
		others := fs.FileMode(0o077)
		if d.IsDir() {
			others = 0o022
		}
		if d.Type()&(fs.ModeSymlink|fs.ModeSocket) == 0 && info.Mode().Perm()&others != 0 {
			open = append(open, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(strange) > 0 {
		return &problem.Error{
			Kind: problem.Usage, Target: strange[0], Message: fmt.Sprintf("it is not %s's, as the state folder is, and %d more", userName(owner), len(strange)-1),
			Hint: fmt.Sprintf("chown -R %s: %s", userName(owner), e.cfg.State),
		}
	}
	if len(open) > 0 {
		return &problem.Error{
			Kind: problem.Usage, Target: open[0], Message: fmt.Sprintf("others can use it, and %d more", len(open)-1),
			Hint: "chmod -R go-rwx " + e.cfg.State,
		}
	}
	return nil
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
		e.said[f.What] = true
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
	if err := readScripts(&work, e.cfg, e.cfg.Scripts); err != nil {
		return nil, nil // it is among the findings already
	}
	parent, err := e.app.parent(e.cfg, nil, nil)
	if err != nil {
		return nil, err
	}
	var records api.Records
	if j, err := journal.OpenReadOnly(ctx, e.cfg.State); err == nil {
		defer func() { _ = j.Close() }()
		records = j
	}
	return daemon.Examine(ctx, parent, work, work.Files, records)
}

// hosts compares with its pins what each further host shows that is trusted.
func (e *examination) hosts(ctx context.Context) {
	accounts := filepath.Join(e.cfg.State, "accounts")
	var files []string
	for _, pattern := range []string{"*/pins.json", "*/*/pins.json"} { // a host's, a tenant's host's
		found, err := filepath.Glob(filepath.Join(accounts, pattern))
		if err != nil {
			e.add("hosts", "", err)
			return
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		e.add("hosts", "none is trusted yet: moonseal trust HOST pins what one shows", nil)
	}
	for _, file := range files {
		host, tenant := filepath.Base(filepath.Dir(file)), ""
		if above := filepath.Dir(filepath.Dir(file)); above != accounts {
			tenant = filepath.Base(above)
		}
		store := account.Open(e.cfg.State, tenant)
		pins, err := store.Pins(host)
		if err != nil {
			e.add("host "+host, "", err)
			continue
		}
		if len(pins.TLS) > 0 && !e.said["node "+host+" REST"] {
			e.add("host "+host+" REST", "shows the pinned certificate", e.shown(ctx, host, pins))
		}
		if len(pins.SSH) > 0 && !e.said["node "+host+" SSH"] {
			e.add("host "+host+" SSH", "shows the pinned key", e.key(ctx, host, pins))
		}
	}
}

func (e *examination) shown(ctx context.Context, host string, pins account.Pins) error {
	ctx, cancel := context.WithTimeout(ctx, trustTimeout)
	defer cancel()
	addr := host + ":443"
	leaf, err := shownBy(ctx, e.network, host, addr)
	if err != nil {
		return err
	}
	if got := fingerprint(leaf); !slices.Contains(pins.TLS, got) {
		return &problem.Error{
			Kind: problem.Untrusted, Target: addr, Message: "it shows another certificate than the pinned one: " + got,
			Hint: "moonseal trust " + host + " shows it and asks",
		}
	}
	return nil
}

func (e *examination) key(ctx context.Context, host string, pins account.Pins) error {
	addr := host + ":22"
	key, err := ssh.HostKey(ctx, addr, e.network.Dial)
	if err != nil {
		return problem.At(err, "", addr)
	}
	if !slices.Contains(pins.SSH, key) {
		return &problem.Error{
			Kind: problem.Untrusted, Target: addr, Message: "it shows another host key than the pinned one: " + key,
			Hint: "moonseal trust " + host + " shows it and asks",
		}
	}
	return nil
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
		if f.Error == nil {
			_, _ = fmt.Fprintf(a.stdout, "ok   %s  %s\n", f.What, f.Note)
			continue
		}
		_, _ = fmt.Fprintf(a.stdout, "bad  %s: %s\n", f.What, f.Error)
		printPlace(a.stdout, f.Error.Place)
		if f.Error.Hint != "" {
			_, _ = fmt.Fprintf(a.stdout, "     hint: %s\n", f.Error.Hint)
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
		Kind: problem.NotFound, Message: "it is nowhere to be found",
		Hint: "set " + name + " in the environment, give it to systemd with LoadCredential=" + name + ":FILE, or name its place under secrets in the config",
	}
}

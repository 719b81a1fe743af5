package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"moonseal/modules/acme"
	"moonseal/modules/ssh"
	"moonseal/runtime/account"
	"moonseal/runtime/api"
	"moonseal/runtime/config"
	"moonseal/runtime/grant"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

func (a *app) doctorCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check config, secrets, scripts, clock, CA, hosts and file modes, and say how to mend each",
		Long: `Looks at everything that a renewal needs, changes nothing, and logs in nowhere: the
config, the secrets that scripts name, the scripts, this machine's clock against the
CA's, each CA's directory, the certificate and SSH key of each host that
"moonseal trust" pinned, the modes of files, the journal, and the daemon.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// finding is one thing that doctor looked at.
type finding struct {
	What  string         `json:"what"`
	Note  string         `json:"note,omitempty"`
	Error *problem.Error `json:"error,omitempty"`
}

// examination collects findings.
type examination struct {
	app      *app
	cfg      *config.Config
	network  *grant.Network
	findings []finding
}

func (e *examination) add(what, note string, err error) {
	f := finding{What: what, Note: note}
	if err != nil {
		f.Error, f.Note = problem.From(err), ""
	}
	e.findings = append(e.findings, f)
}

func (a *app) doctor(ctx context.Context, asJSON bool) error {
	e := &examination{app: a}
	var err error
	if e.cfg, err = a.loadConfig(); err == nil {
		e.network, err = grant.New(e.cfg.Network())
	}
	if err != nil {
		e.add("config", "", err)
		return a.showFindings(e.findings, asJSON)
	}
	path := e.cfg.Path
	if path == "" {
		path = "no file, defaults"
	}
	e.add("config", path, nil)
	e.scripts(ctx)
	e.state(ctx)
	e.directories(ctx)
	e.hosts(ctx)
	return a.showFindings(e.findings, asJSON)
}

// scripts looks at the scripts and the secrets that they name.
func (e *examination) scripts(ctx context.Context) {
	loaded, err := e.app.loadScripts(ctx, e.cfg, e.cfg.Scripts)
	if err != nil {
		e.add("scripts "+e.cfg.Scripts, "", err)
		return
	}
	e.add("scripts "+e.cfg.Scripts, count(len(loaded.Playbooks), "playbook"), nil)
	for _, p := range loaded.Problems {
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

// state looks at the state folder: the daemon, the journal, and the modes of files.
func (e *examination) state(ctx context.Context) {
	if c := api.Dial(e.cfg.Listen.Socket); c.Alive(ctx) {
		_, err := c.Status(ctx)
		e.add("daemon", "listens on "+e.cfg.Listen.Socket, err)
	} else {
		e.add("daemon", "none runs", nil)
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

// maxSkew is how far this machine's clock may be from a CA's.
const maxSkew = time.Minute

// directories looks at each CA that accounts were made at, and at Let's Encrypt
// where there is none yet, and compares clocks.
func (e *examination) directories(ctx context.Context) {
	known := acme.Directories()
	used := map[string]string{}
	for name, url := range known {
		host, _, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/")
		if _, err := os.Stat(filepath.Join(e.cfg.State, "accounts", "_acme", host)); err == nil {
			used[name] = url
		}
	}
	if len(used) == 0 {
		used["letsencrypt"] = known["letsencrypt"]
	}
	transport := e.network.Transport()
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: trustTimeout}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		skew, err := directory(ctx, client, used[name])
		e.add("CA "+name, used[name], err)
		if err != nil {
			continue
		}
		if skew.Abs() > maxSkew {
			err = &problem.Error{
				Kind: problem.Usage, Message: fmt.Sprintf("it is %s off from the clock of %s", skew.Round(time.Second), name),
				Hint: "set it, and let NTP keep it: timedatectl set-ntp true",
			}
		}
		e.add("clock", "within "+maxSkew.String()+" of the CA's", err)
	}
}

// directory asks for a CA's directory, and gives how far its clock is ahead.
func directory(ctx context.Context, client *http.Client, url string) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, problem.At(problem.Network(err), "", url)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode >= http.StatusBadRequest {
		return 0, problem.At(problem.Status(res.StatusCode, nil, "", time.Time{}), "", url)
	}
	at, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return 0, nil // a server need not have a clock (RFC 9110 section 6.6.1)
	}
	return time.Until(at), nil //nolint:forbidigo // this machine's clock is in question
}

// hosts compares what each pinned host shows with its pins.
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
		if len(pins.TLS) > 0 {
			e.add("host "+host+" REST", "shows the pinned certificate", e.shown(ctx, host, pins))
		}
		if len(pins.SSH) > 0 {
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

func (a *app) showFindings(findings []finding, asJSON bool) error {
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

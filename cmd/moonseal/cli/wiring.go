package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"
	"gopkg.in/yaml.v3"

	"moonseal/modules"
	"moonseal/runtime/config"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/schedule"
	"moonseal/runtime/secret"
	"moonseal/runtime/suggest"
	"moonseal/runtime/worker"
	"moonseal/scripts"
)

// workerCommand makes the program a run's child.
const workerCommand = "worker"

// worker is the child of a run: it talks to its parent over the pair.
func (a *app) worker() int {
	pair, err := worker.Inherited(a.trace != nil)
	if err != nil {
		printError(a.stderr, &problem.Error{
			Kind: problem.Usage, Message: "this command is for moonseal itself",
			Hint: "if a daemon of another version started it: systemctl restart moonseal",
		})
		return exitUsage
	}
	setup := worker.Setup{
		Modules: modules.All, Embedded: scripts.Embedded(), Build: a.build, Clock: a.clock, Trace: a.trace,
		Gone: func() { os.Exit(exitFailed) },
		OnHang: func(call string) {
			_, _ = plain.Fprintf(a.stderr, "%s did not return when its time was up\n", call)
			os.Exit(exitFailed)
		},
	}
	if err := worker.Serve(context.Background(), pair, setup); err != nil {
		printError(a.stderr, err)
		return exitFailed
	}
	return exitDone
}

// wiring makes what runs, scripts and the log need, out of a config and what surrounds
// the process.
type wiring struct {
	cfg      *config.Config
	getenv   func(string) string
	clock    clockwork.Clock
	stderr   io.Writer
	build    string
	childEnv []string
	traced   bool // children report each point that they pass; see app.trace
}

// wire returns the wiring for a config.
func (a *app) wire(cfg *config.Config) *wiring {
	return &wiring{cfg: cfg, getenv: a.getenv, clock: a.clock, stderr: a.stderr, build: a.build, childEnv: a.childEnv, traced: a.trace != nil}
}

// loadConfig reads the config and checks the settings of the modules.
func (a *app) loadConfig() (*config.Config, error) {
	cfg, err := config.Load(a.config, a.getenv)
	if err != nil {
		return nil, err
	}
	if _, err := schedule.ParseBlackouts(cfg.Blackouts); err != nil {
		return nil, problem.At(err, "", cmp.Or(cfg.Path, "config"))
	}
	var names []string
	settings := map[string]any{}
	for _, m := range modules.All() {
		names = append(names, m.Name)
		settings[m.Name] = m.Settings
	}
	for name, node := range cfg.Modules {
		into, ok := settings[name]
		if !ok || into == nil {
			return nil, &problem.Error{
				Kind: problem.Usage, Target: fmt.Sprintf("%s:%d", cfg.Path, node.Line),
				Message: "unknown module " + name + suggest.Phrase(name, names),
			}
		}
		if err := config.DecodeNode(&node, into, cfg.Path); err != nil {
			return nil, err
		}
	}
	return cfg, knownModules(cfg, names)
}

// knownModules refuses a grant of a module that does not exist.
func knownModules(cfg *config.Config, names []string) error {
	for playbook, g := range cfg.Grants {
		for _, name := range g.Modules {
			if !strings.ContainsAny(name, "*?[") && !slices.Contains(names, name) {
				return &problem.Error{
					Kind: problem.Usage, Target: cfg.Path, Message: fmt.Sprintf("grants.%s: there is no module %q%s", playbook, name, suggest.Phrase(name, names)),
				}
			}
		}
	}
	return nil
}

// job returns a job with everything that the config sets.
func job(cfg *config.Config) (worker.Job, error) {
	j := worker.Job{
		Network: cfg.Network(), State: cfg.State, Grants: cfg.Grants, Settings: map[string]string{}, Blackouts: cfg.Blackouts,
		Grace: time.Duration(cfg.StopTimeout),
	}
	if cfg.Replay {
		j.Mode = run.Replay
	}
	for name, node := range cfg.Modules {
		text, err := yaml.Marshal(&node)
		if err != nil {
			return j, err
		}
		j.Settings[name] = string(text)
	}
	return j, nil
}

// parent returns the parent of children with the config's limits and secrets. j and c
// may be nil, for loads.
func (w *wiring) parent(j *journal.Journal, c *control.Control, observe func(journal.Record)) (*worker.Parent, error) {
	accounts := filepath.Join(w.cfg.State, "accounts")
	if j != nil { // the children cannot make it themselves
		if err := os.MkdirAll(accounts, 0o700); err != nil {
			return nil, &problem.Error{Kind: problem.Usage, Target: accounts, Message: "cannot make the directory: " + problem.Reason(err), Cause: err}
		}
	}
	log := slog.New(w.logHandler())
	redactor := &secret.Redactor{}
	redactor.LearnPair(w.cfg.Network().ProxyUser())
	return &worker.Parent{
		Journal: j, Control: c, Clock: w.clock, Observe: observe, Embedded: scripts.Embedded(),
		Redactor: redactor, Secrets: w.secrets(), Build: w.build,
		Spawner: worker.Exec{
			Path: worker.Self, Name: "moonseal", Args: []string{workerCommand}, Env: w.environment(), Log: log, Groups: worker.OpenGroups(log),
			Limits: w.limits(), Jail: w.jail(),
		},
	}, nil
}

func (w *wiring) limits() worker.Limits {
	return worker.Limits{Memory: int64(w.cfg.Limits.Memory), Files: w.cfg.Limits.Files, CPU: float64(w.cfg.Limits.CPU)}
}

func (w *wiring) jail() *worker.Jail {
	return &worker.Jail{Write: []string{filepath.Join(w.cfg.State, "accounts")}, Read: []string{w.cfg.CABundle}, Signals: w.traced}
}

// environment is what a child inherits: nothing that could be a secret.
func (w *wiring) environment() []string {
	env := append([]string(nil), w.childEnv...)
	for _, name := range []string{"PATH", "TZ", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v := w.getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// secrets looks in systemd's credentials, then in the environment, then in the config.
func (w *wiring) secrets() secret.Source {
	var chain secret.Chain
	for _, s := range w.secretSources() {
		chain = append(chain, s.source)
	}
	return chain
}

// secretSource is a source of secrets, and its name for users.
type secretSource struct {
	name   string
	source secret.Source
}

func (w *wiring) secretSources() []secretSource {
	environment := secret.Environment(func(name string) (string, bool) { v := w.getenv(name); return v, v != "" })
	return []secretSource{
		{"systemd credential", secret.Directory(w.getenv("CREDENTIALS_DIRECTORY"))},
		{"environment", environment},
		{"config", configured{w.cfg.Secrets, environment}},
	}
}

// configured is the secrets section of the config.
type configured struct {
	secrets     map[string]config.Secret
	environment secret.Source
}

func (c configured) Value(ctx context.Context, name string) (string, error) {
	s, ok := c.secrets[name]
	switch {
	case !ok:
		return "", secret.NotFound(name)
	case s.Env != "":
		value, err := c.environment.Value(ctx, s.Env)
		if err != nil {
			err = &problem.Error{Kind: problem.Usage, Target: "secret " + name, Message: "the variable " + s.Env + ", which the config names, is not set"}
		}
		return value, err
	case len(s.Exec) > 0:
		return secret.Exec(ctx, s.Exec, name)
	default:
		return secret.ReadFile(s.File, name)
	}
}

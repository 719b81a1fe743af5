package cli

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

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

// worker is the child of a run: it speaks with its parent over the pair.
func (a *app) worker() int {
	pair, err := worker.Inherited(a.trace != nil)
	if err != nil {
		a.printError(&problem.Error{Kind: problem.Usage, Message: "this command is for moonseal itself", Hint: "if a daemon of another version started it: systemctl restart moonseal"})
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
		a.printError(err)
		return exitFailed
	}
	return exitDone
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
				Message: "there are no settings for a module " + name + suggest.Phrase(name, names),
			}
		}
		if err := config.DecodeNode(&node, into, cfg.Path); err != nil {
			return nil, err
		}
	}
	return cfg, knownModules(cfg, names)
}

// knownModules refuses a grant of a module that there is not.
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

// job returns a job with everything that the config says.
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
func (a *app) parent(cfg *config.Config, j *journal.Journal, c *control.Control, observe func(journal.Record)) (*worker.Parent, error) {
	accounts := filepath.Join(cfg.State, "accounts")
	if j != nil { // the children cannot make it themselves
		if err := os.MkdirAll(accounts, 0o700); err != nil {
			return nil, &problem.Error{Kind: problem.Usage, Target: accounts, Message: "cannot make the folder: " + problem.Reason(err), Cause: err}
		}
	}
	log := slog.New(a.logHandler(cfg))
	redactor := &secret.Redactor{}
	redactor.LearnPair(cfg.Network().ProxyUser())
	return &worker.Parent{
		Journal: j, Control: c, Clock: a.clock, Observe: observe, Embedded: scripts.Embedded(),
		Redactor: redactor, Secrets: a.secrets(cfg), Build: a.build,
		Spawner: worker.Exec{
			Path: worker.Self, Name: "moonseal", Args: []string{workerCommand}, Env: a.environment(), Log: log, Groups: worker.OpenGroups(log),
			Limits: limits(cfg), Jail: a.jail(cfg),
		},
	}, nil
}

func limits(cfg *config.Config) worker.Limits {
	return worker.Limits{Memory: int64(cfg.Limits.Memory), Files: cfg.Limits.Files, CPU: float64(cfg.Limits.CPU)}
}

func (a *app) jail(cfg *config.Config) *worker.Jail {
	return &worker.Jail{Write: []string{filepath.Join(cfg.State, "accounts")}, Read: []string{cfg.CABundle}, Signals: a.trace != nil}
}

// environment is what a child inherits: nothing that could be a secret.
func (a *app) environment() []string {
	env := append([]string(nil), a.childEnv...)
	for _, name := range []string{"PATH", "TZ", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v := a.getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// secrets looks in systemd's credentials, then in the environment, then where
// the config says.
func (a *app) secrets(cfg *config.Config) secret.Source {
	var chain secret.Chain
	for _, s := range a.secretSources(cfg) {
		chain = append(chain, s.source)
	}
	return chain
}

// secretSource is a place where secrets are, and what people call it.
type secretSource struct {
	name   string
	source secret.Source
}

func (a *app) secretSources(cfg *config.Config) []secretSource {
	environment := secret.Environment(func(name string) (string, bool) { v := a.getenv(name); return v, v != "" })
	return []secretSource{
		{"systemd credential", secret.Directory(a.getenv("CREDENTIALS_DIRECTORY"))},
		{"environment", environment},
		{"config", configured{cfg.Secrets, environment}},
	}
}

// configured is where the config says that secrets are.
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

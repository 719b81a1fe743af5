// Package config reads moonseal.yaml, strictly: an unknown key is an error with its line
// and the nearest known key, if there is one.
//
//	scripts: /etc/moonseal/scripts   # relative paths start at the config file
//	state: /var/lib/moonseal
//	ca_bundle: /etc/moonseal/ca.pem
//	hosts: { "cucm01.example.com:443": "10.0.0.5:443" }
//	secrets:
//	  CUCM_PASSWORD: { file: /etc/moonseal/cucm.password }
//	limits: { memory: 256MiB, cpu: 50%, files: 256 }
//	grants:                          # none: every playbook may reach all
//	  dfw: { secrets: ["CUCM_*"], hosts: ["*.example.com", "10.0.0.0/8:22"], modules: [cucm, acme, dns, log] }
//	log: { level: info }
//	modules:
//	  acme: { directories: { letsencrypt: "https://ca.example.com/directory" } }
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"moonseal/runtime/duration"
	"moonseal/runtime/grant"
	"moonseal/runtime/problem"
)

// Config is moonseal.yaml.
type Config struct {
	Scripts  string               `yaml:"scripts"`   // the folder of the playbooks
	Hooks    string               `yaml:"hooks"`     // the folder of the scripts that see all runs; "" is hooks/ in the scripts folder
	State    string               `yaml:"state"`     // the folder of journal, accounts and certificates
	CABundle string               `yaml:"ca_bundle"` // PEM file of roots that are trusted beside the system's
	Proxy    string               `yaml:"proxy"`     // URL of an HTTP proxy for the HTTP APIs
	NoProxy  []string             `yaml:"no_proxy"`  // hosts that are reached directly though there is a proxy
	Hosts    map[string]string    `yaml:"hosts"`     // "host:port" -> "address:port" to connect to in its place
	Secrets  map[string]Secret    `yaml:"secrets"`   // where a secret is, if it is neither a systemd credential nor a variable
	Limits   Limits               `yaml:"limits"`    //
	Grants   grant.Rules          `yaml:"grants"`    // what playbooks may reach, by name or pattern
	Log      Log                  `yaml:"log"`       //
	Replay   bool                 `yaml:"replay"`    // for rehearsals: a run resumes in a new process after each step
	Modules  map[string]yaml.Node `yaml:"modules"`   // settings of modules, by name

	// Of the daemon.
	Listen      Listen   `yaml:"listen"`       //
	Concurrency int      `yaml:"concurrency"`  // runs that are worked on at once; 8 unless set
	StopTimeout Duration `yaml:"stop_timeout"` // how long running steps have at a stop; 30s unless set
	Blackouts   []string `yaml:"blackouts"`    // when no appliance is changed, such as "2026-12-20..2027-01-06"
	Alerts      Alerts   `yaml:"alerts"`       //
	Keep        Keeping  `yaml:"keep"`         // how long what has ended is kept

	SharedLocks  []string `yaml:"shared_locks"`  // lock names that all tenants share; any other is its tenant's
	LockPatience Duration `yaml:"lock_patience"` // how long a run may hold up another by a lock before an alert; 4h unless set

	Path string `yaml:"-"` // the file that it came from, "" if there was none
}

// Listen says where the daemon listens.
type Listen struct {
	Socket string `yaml:"socket"` // a unix socket; moonseal.sock in the state directory unless set
	Group  string `yaml:"group"`  // the group that may use it beside its owner
}

// Alerts say where alerts are sent, and when.
type Alerts struct {
	URLs      []string `yaml:"urls"`      // names of secrets, each a URL of a service (https://shoutrrr.nickfedor.com)
	Expiring  Duration `yaml:"expiring"`  // alert of a served certificate with less than this left; 14d unless set
	Waiting   Duration `yaml:"waiting"`   // alert of a run that fails for longer than this; 24h unless set
	Heartbeat string   `yaml:"heartbeat"` // name of a secret: a URL that is requested every 5 minutes while the daemon is healthy
}

// Duration is a time span, written as "30s", "10m" or "7d".
type Duration time.Duration

// UnmarshalYAML implements [yaml.Unmarshaler].
func (d *Duration) UnmarshalYAML(node *yaml.Node) error {
	v, err := duration.Parse(node.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", node.Line, err)
	}
	*d = Duration(v)
	return nil
}

// Secret says where a secret's value is.
type Secret struct {
	File string   `yaml:"file"` // a file that holds the value and nothing else
	Env  string   `yaml:"env"`  // another name of an environment variable
	Exec []string `yaml:"exec"` // a program and its arguments that print the value: Vault and the like
}

// Log says what is logged, and how.
type Log struct {
	Level  slog.Level `yaml:"level"`  // debug, info, warn or error
	Format string     `yaml:"format"` // text or json, of the daemon's log; text unless set
}

// UnmarshalYAML implements [yaml.Unmarshaler]: slog's own error names no line.
func (l *Log) UnmarshalYAML(node *yaml.Node) error {
	var keys struct {
		Level  yaml.Node `yaml:"level"`
		Format yaml.Node `yaml:"format"`
	}
	if err := node.Decode(&keys); err != nil {
		return err
	}
	if err := l.Level.UnmarshalText([]byte(keys.Level.Value)); err != nil && !keys.Level.IsZero() {
		return fmt.Errorf("line %d: level must be debug, info, warn or error, not %q", keys.Level.Line, keys.Level.Value)
	}
	switch l.Format = keys.Format.Value; l.Format {
	case "", LogText, LogJSON:
		return nil
	}
	return fmt.Errorf("line %d: format must be text or json, not %q", keys.Format.Line, l.Format)
}

// Formats of the daemon's log.
const (
	LogText = "text"
	LogJSON = "json"
)

const (
	defaultConcurrency = 8
	maxConcurrency     = 1000
	defaultStop        = 30 * time.Second
	defaultExpiring    = 14 * 24 * time.Hour
	defaultWaiting     = 24 * time.Hour
	defaultPatience    = 4 * time.Hour
)

// Load reads path. With path "" it reads ./moonseal.yaml, else
// /etc/moonseal/moonseal.yaml; without either, the defaults apply: ./scripts and a state
// directory of the user's. A ./moonseal.yaml that cannot be read counts as absent; one that
// other users can change is refused, because a config may name programs to run.
func Load(path string, getenv func(string) string) (*Config, error) {
	return load(path, getenv, Decode)
}

// Where reads only where a config's daemon is, whatever else is wrong with the file: the
// daemon may run with an earlier version of it.
func Where(path string, getenv func(string) string) (*Config, error) {
	return load(path, getenv, func(data []byte, into any, source string) error {
		var keys struct {
			State  string    `yaml:"state"`
			Listen Listen    `yaml:"listen"`
			Keep   yaml.Node `yaml:"keep"`
		}
		err := yaml.Unmarshal(data, &keys)
		if _, partly := errors.AsType[*yaml.TypeError](err); err != nil && !partly {
			return explain(source, err, data)
		}
		c, _ := into.(*Config)
		c.State, c.Listen = keys.State, keys.Listen
		_ = keys.Keep.Decode(&c.Keep) // else its defaults
		return nil
	})
}

func (c *Config) defaults(base string, getenv func(string) string) error {
	if c.Scripts == "" {
		c.Scripts = "scripts"
	}
	if c.State == "" {
		c.State = defaultState(getenv)
	}
	if err := c.Limits.defaults(); err != nil {
		return &problem.Error{Kind: problem.Usage, Target: c.Path, Message: err.Error()}
	}
	if err := c.Grants.Check(); err != nil {
		return &problem.Error{Kind: problem.Usage, Target: c.Path, Message: err.Error()}
	}
	if c.Concurrency == 0 {
		c.Concurrency = defaultConcurrency
	}
	if c.Concurrency < 1 || c.Concurrency > maxConcurrency {
		return &problem.Error{Kind: problem.Usage, Target: c.Path, Message: fmt.Sprintf("concurrency must be from 1 to %d, not %d", maxConcurrency, c.Concurrency)}
	}
	if c.Alerts.Expiring == 0 {
		c.Alerts.Expiring = Duration(defaultExpiring)
	}
	if c.Alerts.Waiting == 0 {
		c.Alerts.Waiting = Duration(defaultWaiting)
	}
	if c.LockPatience == 0 {
		c.LockPatience = Duration(defaultPatience)
	}
	c.Keep.defaults()
	if c.StopTimeout == 0 {
		c.StopTimeout = Duration(defaultStop)
	}
	for _, p := range []*string{&c.Scripts, &c.Hooks, &c.State, &c.CABundle, &c.Listen.Socket} {
		if *p != "" && !filepath.IsAbs(*p) {
			abs, err := filepath.Abs(filepath.Join(base, *p))
			if err != nil {
				return explain(*p, err, nil)
			}
			*p = abs
		}
	}
	if err := c.hooksOutside(); err != nil {
		return err
	}
	if c.Listen.Socket == "" {
		c.Listen.Socket = filepath.Join(c.State, "moonseal.sock")
	}
	for name, s := range c.Secrets {
		if err := s.check(name, c.Path); err != nil {
			return err
		}
		if s.File != "" && !filepath.IsAbs(s.File) {
			s.File = filepath.Join(base, s.File)
			c.Secrets[name] = s
		}
	}
	return nil
}

// hooksOutside refuses hooks that would be read as playbooks too. Those that the
// scripts folder has by itself need no setting.
func (c *Config) hooksOutside() error {
	if c.Hooks == filepath.Join(c.Scripts, "hooks") {
		c.Hooks = ""
	}
	if c.Hooks != c.Scripts && !strings.HasPrefix(c.Hooks, c.Scripts+string(filepath.Separator)) {
		return nil
	}
	return &problem.Error{
		Kind: problem.Usage, Target: c.Path, Message: "hooks is a folder among the scripts: " + c.Hooks,
		Hint: "leave it out, and move the hooks to " + filepath.Join(c.Scripts, "hooks") + "; or name a folder outside",
	}
}

func (s Secret) check(name, path string) error {
	ways := 0
	for _, set := range []bool{s.File != "", s.Env != "", len(s.Exec) > 0} {
		if set {
			ways++
		}
	}
	if ways == 1 {
		return nil
	}
	message := "secret " + name + " must name one of file, env and exec"
	if ways > 1 {
		message = "secret " + name + " must name only one of file, env and exec"
	}
	return &problem.Error{Kind: problem.Usage, Target: path, Message: message, Hint: name + ": { file: /etc/moonseal/" + strings.ToLower(name) + " }"}
}

func defaultState(getenv func(string) string) string {
	switch {
	case getenv("STATE_DIRECTORY") != "": // systemd.exec(5)
		return getenv("STATE_DIRECTORY")
	case os.Geteuid() == 0:
		return "/var/lib/moonseal"
	case getenv("XDG_STATE_HOME") != "":
		return filepath.Join(getenv("XDG_STATE_HOME"), "moonseal")
	default:
		return filepath.Join(getenv("HOME"), ".local", "state", "moonseal")
	}
}

// SecretNames returns the secrets that the config itself names, each once.
func (c *Config) SecretNames() []string {
	names := map[string]bool{}
	for name := range c.Secrets {
		names[name] = true
	}
	for _, name := range append(slices.Clone(c.Alerts.URLs), c.Alerts.Heartbeat) {
		names[name] = true
	}
	delete(names, "")
	return slices.Sorted(maps.Keys(names))
}

// Network returns the options of the network.
func (c *Config) Network() grant.Options {
	return grant.Options{Hosts: c.Hosts, CABundle: c.CABundle, Proxy: c.Proxy, NoProxy: c.NoProxy}
}

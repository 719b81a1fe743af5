package cli

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"moonseal/runtime/bundle"
	"moonseal/runtime/config"
	"moonseal/runtime/daemon"
	"moonseal/runtime/problem"
	"moonseal/runtime/reload"
)

// loadedScripts is a scripts directory as a daemon would have it live.
type loadedScripts struct {
	*reload.Snapshot

	secrets map[string]bool // that scripts name while they are loaded
}

// loadScripts loads a scripts directory in children, and checks what is in it as the
// daemon does. A script that ends its child is one of the problems, and costs no
// other. only, if it is not nil, selects the scripts to load.
func (w *wiring) loadScripts(ctx context.Context, dir string, only func(file string) bool) (*loadedScripts, error) {
	work, err := job(w.cfg)
	if err != nil {
		return nil, err
	}
	parent, err := w.parent(nil, nil, nil)
	if err != nil {
		return nil, err
	}
	out := &loadedScripts{secrets: map[string]bool{}}
	load := func(ctx context.Context, files map[string]string) (*reload.Loaded, error) {
		work.Files = files
		loaded, err := parent.Load(ctx, work)
		if err == nil {
			err = daemon.Check(loaded, files, w.cfg.Blackouts, w.clock.Now())
		}
		if err != nil {
			return nil, err
		}
		for _, name := range loaded.Secrets {
			out.secrets[name] = true
		}
		return &reload.Loaded{Playbooks: loaded.Playbooks, Problems: loaded.Problems}, nil
	}
	o := reload.Options{Dir: dir, Hooks: hooksFor(w.cfg, dir), Clock: w.clock, Log: slog.New(slog.DiscardHandler), Load: load}
	if out.Snapshot, err = reload.Once(ctx, o, only); err != nil {
		return nil, err
	}
	return out, nil
}

// hooksFor returns the config's directory of hooks if dir is the config's scripts directory.
func hooksFor(cfg *config.Config, dir string) string {
	if dir == cfg.Scripts {
		return cfg.Hooks
	}
	return ""
}

// playbooks returns those that are in order.
func (l *loadedScripts) playbooks() []*bundle.Playbook {
	var out []*bundle.Playbook
	for _, p := range l.Playbooks {
		out = append(out, &p.Playbook)
	}
	return out
}

// files returns the sources of the playbooks that are in order.
func (l *loadedScripts) files() map[string]string {
	out := map[string]string{}
	for _, p := range l.Playbooks {
		maps.Copy(out, p.Files())
	}
	return out
}

// secretNames returns the secrets that scripts and config name, each once.
func (l *loadedScripts) secretNames(cfg *config.Config) []string {
	names := slices.AppendSeq(cfg.SecretNames(), maps.Keys(l.secrets))
	slices.Sort(names)
	return slices.Compact(names)
}

// findPlaybook returns the playbook called name. Its script is looked for by its
// name first, so that the scripts beside it cost nothing; one that is called
// otherwise is looked for in all.
func (w *wiring) findPlaybook(ctx context.Context, name string) (*reload.Playbook, error) {
	var problems []*problem.Error
	var names []string
	for _, only := range []func(string) bool{func(file string) bool { return bundle.ScriptName(file) == name }, nil} {
		loaded, err := w.loadScripts(ctx, w.cfg.Scripts, only)
		if err != nil {
			return nil, err
		}
		if p := loaded.Find(name); p != nil {
			return p, nil
		}
		problems, names = loaded.Problems, nil
		for _, p := range loaded.Playbooks {
			names = append(names, p.Name)
		}
	}
	return nil, bundle.NoPlaybook(name, slices.Compact(names), problems)
}

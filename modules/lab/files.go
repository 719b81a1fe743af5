package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"gopkg.in/yaml.v3"

	"moonseal/runtime/account"
	"moonseal/runtime/atomicfile"
	"moonseal/runtime/problem"
)

// The files of a lab's folder.
const (
	configFile  = "moonseal.yaml"
	envFile     = "lab.env"
	caFile      = "ca.pem"
	controlFile = "control.url"
	lockFile    = "lab.lock"
	scriptsDir  = "scripts"
	stateDir    = "state"
)

// takeFolder makes dir and locks it, so that no two labs write into one; the
// kernel frees the lock with its process.
func takeFolder(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(&problem.Error{
			Kind: problem.Conflict, Target: dir, Message: "a lab is running in this folder", Cause: err,
			Hint: "stop it first, or choose another folder",
		}, f.Close())
	}
	return f.Close, nil
}

// writeFiles writes all of the folder. control.url is the last: once it is there, so is
// the rest.
func (w *World) writeFiles() error {
	if err := w.dropControlURL(); err != nil {
		return err
	}
	if err := w.writeScripts(); err != nil {
		return err
	}
	if err := w.writePins(); err != nil {
		return err
	}
	config, err := w.config()
	if err != nil {
		return err
	}
	for _, f := range []struct{ name, text string }{
		{caFile, w.CA.CAPEM() + w.DNS.CA() + strings.Join(w.CA.RootPEMs(), "") + w.opt.Roots},
		{envFile, strings.Join(w.Environ(), "\n") + "\n"},
		{configFile, config},
		{controlFile, w.ControlURL() + "\n"},
	} {
		if err := atomicfile.WriteFile(filepath.Join(w.opt.Dir, f.name), []byte(f.text)); err != nil {
			return err
		}
	}
	return nil
}

func (w *World) dropControlURL() error {
	err := os.Remove(filepath.Join(w.opt.Dir, controlFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (w *World) config() (string, error) {
	out, err := yaml.Marshal(map[string]any{
		"scripts": scriptsDir, "state": stateDir, "ca_bundle": caFile, "hosts": w.Hosts(),
		"modules": w.settings(),
		"replay":  true, // what a script keeps beside its steps shows at once
	})
	return "# Written by moonseal lab at each start.\n" + string(out), err
}

// settings of modules: what they need to find the world, and to be as quick as it is.
func (w *World) settings() map[string]map[string]any {
	all := map[string]map[string]any{
		"dns":  {"resolvers": []string{w.Resolver()}},
		"cucm": {"settle": "2s", "replication": "5s", "prompt_settle": "20ms", "poll": "100ms"}, // a node here is down as soon as its restart is requested
	}
	for module, more := range w.opt.Settings {
		if all[module] == nil {
			all[module] = map[string]any{}
		}
		maps.Copy(all[module], more)
	}
	return all
}

func (w *World) writePins() error {
	store := account.Open(filepath.Join(w.opt.Dir, stateDir), "")
	for _, n := range w.Cluster.Nodes() {
		hostKey, err := n.HostKeyFingerprint()
		if err != nil {
			return err
		}
		if err := store.SavePins(n.FQDN(), account.Pins{TLS: []string{n.ServedSHA256()}, SSH: []string{hostKey}}); err != nil {
			return err
		}
	}
	return nil
}

// writeScripts fills the scripts folder unless it is there. It appears whole.
func (w *World) writeScripts() error {
	to := filepath.Join(w.opt.Dir, scriptsDir)
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh, err := os.MkdirTemp(w.opt.Dir, ".scripts-*") // 0700
	if err != nil {
		return err
	}
	if w.opt.Scripts != nil {
		err = copyFiles(w.opt.Scripts, fresh)
	}
	if err == nil {
		err = os.Rename(fresh, to)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("lab: %w", err), os.RemoveAll(fresh))
	}
	return nil
}

// copyFiles copies regular files, 0600 in folders of 0700.
func copyFiles(from fs.FS, to string) error {
	return fs.WalkDir(from, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		return atomicfile.WriteFile(filepath.Join(to, filepath.FromSlash(path)), data)
	})
}

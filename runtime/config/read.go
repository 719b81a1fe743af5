package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"moonseal/runtime/problem"
	"moonseal/runtime/safefile"
)

// maxFile bounds the config file, in bytes.
const maxFile = 1 << 20

// Where a config is searched for if none is named.
const (
	localFile  = "moonseal.yaml"
	systemFile = "/etc/moonseal/moonseal.yaml"
)

type decoder func(data []byte, into any, source string) error

func load(path string, getenv func(string) string, decode decoder) (*Config, error) {
	if path != "" {
		return read(path, getenv, decode)
	}
	path, err := find(systemFile)
	if err != nil {
		return nil, err
	}
	if path != "" {
		return read(path, getenv, decode)
	}
	c := &Config{}
	return c, c.defaults(".", getenv)
}

// find returns the config that is used if none is named, "" if there is none. One in
// the current folder may be another user's: root would run the programs that it names.
func find(system string) (string, error) {
	unreadable := readable(localFile)
	if unreadable == nil {
		return localFile, trusted(localFile)
	}
	switch _, err := os.Stat(system); {
	case err == nil:
		return system, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", unusable(system, err)
	case errors.Is(unreadable, fs.ErrNotExist):
		return "", nil
	}
	e := unusable(localFile, unreadable)
	e.Hint = "name the config with --config, or change to another folder"
	return "", e
}

// readable returns why the file at path counts as absent; nil if it does not.
func readable(path string) error {
	f, err := safefile.Open(path)
	if err == nil {
		return f.Close()
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil // reading it returns the error
}

// trusted refuses a config that other users than root and the current one could have put
// into the current folder.
func trusted(path string) error {
	err := safefile.Policy{User: os.Geteuid()}.Check(path)
	if err == nil {
		return nil
	}
	e := *problem.From(err)
	e.Kind = problem.Usage
	e.Message = path + " is not used, because others can change it: " + e.Message
	named := path
	if abs, err := filepath.Abs(path); err == nil {
		named = abs
	}
	e.Hint = "if it is the right one: --config " + named
	return &e
}

func unusable(path string, err error) *problem.Error {
	return &problem.Error{Kind: problem.Usage, Target: path, Message: "cannot read the config: " + problem.Reason(err), Cause: err}
}

func read(path string, getenv func(string) string, decode decoder) (*Config, error) {
	data, info, err := safefile.Read(path, maxFile)
	switch {
	case info != nil && safefile.OthersWrite(info) && !safefile.ReadOnly(path):
		return nil, &problem.Error{
			Kind: problem.Usage, Target: path, Message: fmt.Sprintf("others can write the config (mode %04o)", info.Mode().Perm()),
			Hint: "chmod go-w " + path,
		}
	case errors.Is(err, safefile.ErrTooLarge):
		return nil, &problem.Error{Kind: problem.Usage, Target: path, Message: "the config is over 1 MiB"}
	case err != nil:
		return nil, unusable(path, err)
	}
	c := &Config{}
	if err := decode(data, c, path); err != nil {
		return nil, err
	}
	c.Path = path
	return c, c.defaults(filepath.Dir(path), getenv)
}

package secret

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"moonseal/runtime/problem"
	"moonseal/runtime/safefile"
)

// Source looks up values by name.
type Source interface {
	// Value returns the value of the named secret, or a problem of kind
	// not_found. A value is never empty.
	Value(ctx context.Context, name string) (string, error)
}

type shown struct{}

// Shown returns a context in which a value that is looked up is not masked, because
// it is the name of a user.
func Shown(ctx context.Context) context.Context { return context.WithValue(ctx, shown{}, true) }

// IsShown reports whether ctx is one that [Shown] returned.
func IsShown(ctx context.Context) bool { return ctx.Value(shown{}) != nil }

// Chain asks each source in turn; the first that has the name answers.
type Chain []Source

// Value implements [Source].
func (c Chain) Value(ctx context.Context, name string) (string, error) {
	for _, s := range c {
		v, err := s.Value(ctx, name)
		if err == nil || !isNotFound(err) {
			return v, err
		}
	}
	return "", NotFound(name)
}

// NotFound returns the problem of a secret that no source has.
func NotFound(name string) error {
	return &problem.Error{
		Kind: problem.NotFound, Target: "secret " + name, Message: "not found in systemd credentials, environment or config",
		Hint: "set " + name + " in the environment, name its file in the config (secrets: { " + name + ": { file: … } }), or pass it by systemd: LoadCredential=" + name + ":FILE",
	}
}

func isNotFound(err error) bool { return problem.From(err).Kind == problem.NotFound }

// Directory reads a secret from the file of its name: systemd's
// $CREDENTIALS_DIRECTORY (systemd.exec(5), "Credentials"). One trailing newline
// is dropped. An empty Directory has none.
type Directory string

// maxValue bounds a secret, in bytes; systemd allows 1 MiB for all of a unit's.
const maxValue = 64 << 10

// Value implements [Source].
func (d Directory) Value(_ context.Context, name string) (string, error) {
	if d == "" {
		return "", NotFound(name)
	}
	if _, err := Named(name); err != nil {
		return "", NotFound(name)
	}
	value, err := ReadFile(filepath.Join(string(d), name), name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", NotFound(name)
	}
	return value, err
}

// ReadFile reads the secret called name from a file, which must exist. A file that other
// users can write or replace is refused: they could choose the password.
func ReadFile(path, name string) (string, error) {
	data, _, err := safefile.Read(path, maxValue)
	if errors.Is(err, safefile.ErrTooLarge) {
		return "", &problem.Error{Kind: problem.Usage, Target: path, Message: "secret " + name + " is over 64 KiB"}
	}
	if err == nil {
		err = safefile.Policy{AnyOwner: true}.Check(path)
	}
	if refused, ok := errors.AsType[*problem.Error](err); ok {
		return "", &problem.Error{Kind: problem.Usage, Target: refused.Target, Message: "secret " + name + " is refused: " + refused.Message, Hint: refused.Hint}
	}
	if err != nil {
		return "", &problem.Error{Kind: problem.Usage, Target: path, Message: "cannot read secret " + name + ": " + problem.Reason(err), Cause: err}
	}
	value := strings.TrimSuffix(string(data), "\n")
	if value == "" {
		return "", &problem.Error{Kind: problem.Usage, Target: path, Message: "secret " + name + " is empty"}
	}
	return value, nil
}

// Environment reads secrets from environment variables of their names.
type Environment func(name string) (string, bool)

// Value implements [Source].
func (e Environment) Value(_ context.Context, name string) (string, error) {
	if v, ok := e(name); ok && v != "" {
		return v, nil
	}
	return "", NotFound(name)
}

// Map holds secrets in memory, for tests and the lab.
type Map map[string]string

// Value implements [Source].
func (m Map) Value(_ context.Context, name string) (string, error) {
	if v := m[name]; v != "" {
		return v, nil
	}
	return "", NotFound(name)
}

// execTimeout bounds a program that prints a secret.
const execTimeout = 30 * time.Second

// Exec runs a program that prints the secret called name, and nothing else, on
// its standard output. One trailing newline is dropped.
func Exec(ctx context.Context, argv []string, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	var out limited
	cmd.Stdout = &out
	var stderr limited
	cmd.Stderr = &stderr
	err := cmd.Run()
	value := strings.TrimSuffix(string(out), "\n")
	if err == nil && value != "" && len(out) < maxValue {
		return value, nil
	}
	e := &problem.Error{
		Kind: problem.Unavailable, Target: argv[0], Message: "it does not print the secret " + name, Server: strings.TrimSpace(string(stderr)),
		Work: problem.NotDone, Cause: err,
	}
	if err != nil {
		e.Message += ": " + problem.Reason(err)
	}
	return "", e
}

// limited keeps the first maxValue bytes that are written to it.
type limited []byte

func (l *limited) Write(b []byte) (int, error) {
	*l = append(*l, b[:min(len(b), maxValue-len(*l))]...)
	return len(b), nil
}

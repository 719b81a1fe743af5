// Package secret keeps secrets out of scripts, journals and logs.
//
// A script holds a [Handle], which is a name. The value is looked up when it is needed, and
// a [Redactor] learns it, which masks it wherever it appears.
package secret

import (
	"fmt"
	"log/slog"
	"regexp"
)

// Handle names a secret. It prints as secret(NAME), in every format and
// encoding; the value is never part of it.
type Handle struct {
	Name string
}

// nameForm has no bound of its own: a regexp that counts to 128 takes longer to compile
// than everything else that a process does before its main.
var nameForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`)

const longestName = 128

// Named returns the handle of the secret called name: a letter, then letters,
// digits, "_", "." or "-", 128 characters at most.
func Named(name string) (Handle, error) {
	if len(name) > longestName || !nameForm.MatchString(name) {
		return Handle{}, fmt.Errorf("%q is not a valid name of a secret: it must be a letter, then letters, digits, _ . or -", name)
	}
	return Handle{Name: name}, nil
}

// IsZero reports whether no secret is named.
func (h Handle) IsZero() bool { return h.Name == "" }

func (h Handle) String() string { return "secret(" + h.Name + ")" }

// GoString keeps %#v as quiet as %v.
func (h Handle) GoString() string { return h.String() }

// LogValue implements [slog.LogValuer].
func (h Handle) LogValue() slog.Value { return slog.StringValue(h.String()) }

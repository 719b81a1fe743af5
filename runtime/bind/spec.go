package bind

import (
	"context"
	"encoding/json"
	"log/slog"
	"reflect"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/account"
	"moonseal/runtime/grant"
	"moonseal/runtime/secret"
)

// Module is what require(Name) returns.
type Module struct {
	Name      string  // the name that require takes
	Doc       string  // first paragraph of its reference page
	Functions []*Func // called as name.function
	Types     []*Type // handles that its functions return
	Plain     []*Type // plain tables that its functions take or return, for stub and reference
	Settings  any     // pointer to the struct that modules.<name> of the config decodes into (yaml tags); nil: none
}

// Type describes a Go struct that reaches Lua: a read-only handle, or a plain table.
type Type struct {
	Name    string // such as "cucm.Node": the class in stub and reference
	Doc     string
	Version int     // of a handle's data in the journal
	Methods []*Func // called as handle:method
	Go      reflect.Type
	Upgrade func(version int, data map[string]any) error // mends data of an older version; nil: there is none

	// InTurn keeps together from calling methods side by side, of whichever handles: they log
	// in to one account, and a password that was refused must not be sent again.
	InTurn bool

	// Of what can be looked at; see [Examined].
	Key  func(v any) string
	Look func(c *Call, v any, names []string) []Finding
}

// Handle describes T as a read-only handle: a userdata with T's fields and the
// methods, journaled as its fields under name and version.
func Handle[T any](name string, version int, doc string, methods ...*Func) *Type {
	return &Type{Name: name, Version: version, Doc: doc, Methods: methods, Go: reflect.TypeFor[T]()}
}

// Table describes T as a plain table.
func Table[T any](name, doc string) *Type {
	return &Type{Name: name, Doc: doc, Go: reflect.TypeFor[T]()}
}

// Func is the spec of one function or method.
type Func struct {
	Name    string
	Doc     string // what it does, units, source; Markdown
	Returns string // what the result is; "" when there is none
	Example string // Lua, run by a test within a step of a lab run
	Table   bool   // takes one table, whose keys are the fields of the argument struct
	Impl    Impl

	full   string // "cucm.Node:upload", set by NewRegistry
	turn   string // the type whose methods are called in turn, "" if this is none of one; set by NewRegistry
	params []field
}

// Full is the function's whole name, such as "dns.zone" or "cucm.Node:upload".
func (f *Func) Full() string { return f.full }

// Turn returns the name of the type whose methods are called in turn, see [Type]; "" if
// this is not one of them.
func (f *Func) Turn() string { return f.turn }

// Call is what an implementation gets: its run's world.
type Call struct {
	Context  context.Context //nolint:containedctx // it lives as long as one call
	Clock    clockwork.Clock
	Log      *slog.Logger // tagged with run and step, redacted
	Network  *grant.Network
	Account  *account.Store
	Secrets  secret.Source // asks for a value; what is not granted is refused
	Redactor *secret.Redactor
	Run      string // the run's id
	Force    bool   // the run is to renew now, due or not
	Function string // the function's whole name

	// PollBegan is when the poll began that asks, in this process or an earlier one; zero
	// outside of a poll. A wait that is counted from it survives a crash.
	PollBegan time.Time

	// LogHost says which host the run works on: its log lines, from the run's
	// first, are written into that host's renewal.log too.
	LogHost func(host string)
	// Progress journals, synced, how far a change has come; Earlier is what an
	// earlier process journaled last, nil if nothing. Effects only.
	Progress func(v any) error
	Earlier  json.RawMessage
	// HeldElsewhere tells which of these values another unfinished run still needs, and
	// which run that is. Undo only.
	HeldElsewhere func(values []string) (map[string]string, error)
}

// Secret returns a function that looks h up when it is called, and makes the
// value known to the redactor.
func (c *Call) Secret(h secret.Handle) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		v, err := c.Secrets.Value(ctx, h.Name)
		if err == nil {
			c.Redactor.Learn(v)
		}
		return v, err
	}
}

// UserName is Secret for the name of a user, which is no secret: a redactor that knew
// "admin" would mask a part of every message that has the word.
func (c *Call) UserName(h secret.Handle) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		return c.Secrets.Value(secret.Shown(ctx), h.Name)
	}
}

// Verdict is the result of a question that is asked again until the answer is
// yes: true or Value, else false and the reason.
type Verdict struct {
	OK     bool
	Value  any    // given to the script in place of true
	Reason string // why not yet
}

// Host runs functions for Lua: the engine implements it. One that has a method
// SecretNamed(name string) is told of each secret that a script names.
type Host interface {
	// Invoke runs one call. Its result is encoded and decoded again, so that a
	// script sees what it would see after a crash.
	Invoke(inv *Invocation) (any, error)
}

// Parallel is a [Host] that runs calls side by side, and returns the result and the error
// of each; any other host runs them one after the other. It refuses what does more than
// look.
type Parallel interface {
	InvokeTogether(invs []*Invocation) ([]any, []error)
}

// Invocation is one checked call from Lua.
type Invocation struct {
	Context context.Context //nolint:containedctx // the calling script's; nil when read back from the journal
	Func    *Func
	Recv    any // pointer to the handle's struct; nil for a function
	Args    any // pointer to the argument struct
}

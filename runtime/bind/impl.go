package bind

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// Phase is the part of a script's life in which a function may be called.
type Phase int

// The phases.
const (
	Anywhere Phase = iota // while loading too
	InRun                 // in a run's body and in steps
	InStep                // in a step's function
)

// Impl is a function's implementation with its types erased. Build one with
// [Pure], [Free], [Read] or [Effectful].
type Impl struct {
	Phase              Phase
	Recv, Args, Result reflect.Type               // Recv is nil for a function; Result may be an interface
	Check              func(recv, args any) error // of arguments, before the call; nil: none
	Run                func(c *Call, recv, args any) (any, error)
	Effect             *ErasedEffect // nil unless the function changes the outside world
}

// ErasedEffect is an [Effect] with its types erased; what Look saw travels as JSON.
type ErasedEffect struct {
	Look        func(c *Call, recv, args any) (look json.RawMessage, result any, done bool, err error)
	Do          func(c *Call, recv, args any, look json.RawMessage) (any, error)
	Probe       func(c *Call, recv, args any, look json.RawMessage) (any, bool, error) // nil: none
	Undo        func(c *Call, recv, args, result any) error                            // nil: nothing to clean up; result is nil when unknown
	UndoKeys    func(recv, args any) []string
	Half        func(recv, args any, progress json.RawMessage) string // nil: progress speaks for itself
	Repeatable  bool
	WindowBound bool
	Disruptive  bool
}

// Pure is a function that only computes.
func Pure[A, R any](run func(*A) (R, error)) Impl {
	return Impl{
		Phase: Anywhere, Args: reflect.TypeFor[A](), Result: reflect.TypeFor[R](),
		Run: func(_ *Call, _, args any) (any, error) { return run(args.(*A)) },
	}
}

// Free is a function that a run may call anywhere, and that changes nothing.
func Free[A any](run func(*Call, *A) error) Impl {
	return Impl{
		Phase: InRun, Args: reflect.TypeFor[A](), Result: nil,
		Run: func(c *Call, _, args any) (any, error) { return nil, run(c, args.(*A)) },
	}
}

// Read is a method of T that looks at the outside world and changes nothing.
func Read[T, A, R any](run func(*Call, *T, *A) (R, error)) Impl {
	return Impl{
		Phase: InStep, Recv: reflect.TypeFor[T](), Args: reflect.TypeFor[A](), Result: reflect.TypeFor[R](),
		Run: func(c *Call, recv, args any) (any, error) { return run(c, recv.(*T), args.(*A)) },
	}
}

// Effect is a method of T, with arguments A and result R, that changes the
// outside world. L is what Look saw, kept in the journal as JSON.
type Effect[T, A, L, R any] struct {
	// Check refuses arguments that can be told to be wrong without looking: before
	// the call, and where a script has them checked while it is loaded. May be nil.
	Check func(recv *T, args *A) error
	// Look reads only. It checks all that can be checked before the first byte
	// that changes something; a result that is not nil says that the work is
	// done already. May be nil.
	Look func(c *Call, recv *T, args *A) (look L, done *R, err error)
	// Do makes the change.
	Do func(c *Call, recv *T, args *A, look L) (R, error)
	// Probe asks whether a call whose answer was lost has happened; false is
	// surely not, an error is "cannot tell". May be nil.
	Probe func(c *Call, recv *T, args *A, look L) (R, bool, error)
	// Undo cleans up, idempotently; result is nil when the answer was lost. May be nil.
	Undo func(c *Call, recv *T, args *A, result *R) error
	// UndoKeys names what the undo would take away, so that one run does not take
	// from another. May be nil.
	UndoKeys func(recv *T, args *A) []string
	// Half says in a few words how far a call has come that is half done, from what it
	// reported last. May be nil.
	Half func(recv *T, args *A, progress json.RawMessage) string
	// Repeatable says that doing it twice does no harm.
	Repeatable bool
	// WindowBound says that it changes the appliance itself: only within the
	// playbook's window.
	WindowBound bool
	// Disruptive says that users of the appliance may notice it: the run needs all
	// locks of its playbook from the first such call to its end.
	Disruptive bool
}

// Effectful erases the types of an effect.
func Effectful[T, A, L, R any](e Effect[T, A, L, R]) Impl {
	erased := &ErasedEffect{Repeatable: e.Repeatable, WindowBound: e.WindowBound, Disruptive: e.Disruptive}
	erased.Look = func(c *Call, recv, args any) (json.RawMessage, any, bool, error) {
		if e.Look == nil {
			return nil, nil, false, nil
		}
		look, done, err := e.Look(c, recv.(*T), args.(*A))
		if err != nil {
			return nil, nil, false, err
		}
		if done != nil {
			return nil, *done, true, nil
		}
		raw, err := json.Marshal(look)
		return raw, nil, false, err
	}
	erased.Do = func(c *Call, recv, args any, raw json.RawMessage) (any, error) {
		look, err := unmarshalLook[L](c, raw)
		if err != nil {
			return nil, err
		}
		return e.Do(c, recv.(*T), args.(*A), look)
	}
	if e.Probe != nil {
		erased.Probe = func(c *Call, recv, args any, raw json.RawMessage) (any, bool, error) {
			look, err := unmarshalLook[L](c, raw)
			if err != nil {
				return nil, false, err
			}
			return e.Probe(c, recv.(*T), args.(*A), look)
		}
	}
	if e.Undo != nil {
		erased.Undo = func(c *Call, recv, args, result any) error {
			if result == nil {
				return e.Undo(c, recv.(*T), args.(*A), nil)
			}
			r := result.(R)
			return e.Undo(c, recv.(*T), args.(*A), &r)
		}
	}
	if e.UndoKeys != nil {
		erased.UndoKeys = func(recv, args any) []string { return e.UndoKeys(recv.(*T), args.(*A)) }
	}
	if e.Half != nil {
		erased.Half = func(recv, args any, progress json.RawMessage) string { return e.Half(recv.(*T), args.(*A), progress) }
	}
	impl := Impl{
		Phase: InStep, Recv: reflect.TypeFor[T](), Args: reflect.TypeFor[A](), Result: reflect.TypeFor[R](), Effect: erased,
	}
	if e.Check != nil {
		impl.Check = func(recv, args any) error { return e.Check(recv.(*T), args.(*A)) }
	}
	return impl
}

func unmarshalLook[L any](c *Call, raw json.RawMessage) (L, error) {
	var look L
	if len(raw) == 0 {
		return look, nil
	}
	if err := json.Unmarshal(raw, &look); err != nil {
		return look, fmt.Errorf("%s: what was seen before the call cannot be read back: %w", c.Function, err)
	}
	return look, nil
}

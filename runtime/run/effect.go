package run

import (
	"bytes"
	"encoding/json"
	"slices"

	"moonseal/runtime/bind"
	"moonseal/runtime/journal"
)

// effectState is what is known of a marked call.
type effectState int

const (
	open    effectState = iota // it may have happened
	notDone                    // it has not, that is certain
	done                       // it has, and its result is known
)

// effect is one marked call of a step.
type effect struct {
	n        int
	fn       string
	args     json.RawMessage
	look     json.RawMessage
	progress json.RawMessage
	result   json.RawMessage
	state    effectState
	met      bool // the current attempt has its result

	canonical string // what this version would have journaled as args; see same
}

// same reports whether e is the call of fn with args, whichever version of moonseal
// has journaled either.
func (e *effect) same(reg *bind.Registry, fn string, args *callArgs) bool {
	if e.fn != fn {
		return false
	}
	if bytes.Equal(e.args, args.raw) {
		return true
	}
	if e.canonical == "" {
		e.canonical = canonicalCall(reg, fn, e.args)
	}
	if args.canonical == "" {
		args.canonical = canonicalCall(reg, fn, args.raw)
	}
	return e.canonical == args.canonical
}

// half returns how far a call has come that is half done, "" if it is not or may be made
// again.
func (e *effect) half(reg *bind.Registry) string {
	if len(e.progress) == 0 {
		return ""
	}
	inv, err := reg.DecodeCall(e.fn, e.args)
	if err != nil {
		return brief(e.progress)
	}
	switch spec := inv.Func.Impl.Effect; {
	case spec.Repeatable:
		return ""
	case spec.Half != nil:
		return spec.Half(inv.Recv, inv.Args, e.progress)
	}
	return brief(e.progress)
}

// callArgs are the encoded arguments of a call that the script makes now.
type callArgs struct {
	raw       json.RawMessage
	canonical string
}

// canonicalCall returns the raw arguments if this version cannot read them.
func canonicalCall(reg *bind.Registry, fn string, raw json.RawMessage) string {
	canonical, err := reg.CanonicalCall(fn, raw)
	if err != nil {
		return string(raw)
	}
	return string(canonical)
}

// open returns a call of the step of which it is unknown whether it happened.
func (s *step) open() *effect {
	for _, e := range s.effects {
		if e.state == open {
			return e
		}
	}
	return nil
}

// find returns the step's effect of this call whose result the attempt does not have yet.
func (s *step) find(reg *bind.Registry, fn string, args *callArgs) *effect {
	for _, e := range s.effects {
		if !e.met && e.state != notDone && e.same(reg, fn, args) {
			return e
		}
	}
	return nil
}

// progressOf returns how far the attempts at the call have come. The latest need not have
// come to anything; one that was done does not count for the same call made once more.
func (s *step) progressOf(reg *bind.Registry, fn string, args *callArgs) json.RawMessage {
	for _, old := range slices.Backward(s.effects) {
		switch {
		case !old.same(reg, fn, args):
		case old.state == done && old.met:
			return nil
		case len(old.progress) > 0:
			return old.progress
		}
	}
	return nil
}

// newEffect is a call that is not marked yet.
func (s *step) newEffect(fn string, args json.RawMessage) *effect {
	return &effect{n: len(s.effects), fn: fn, args: args, state: notDone}
}

// callName names the effect within its run; see [CallName].
func (e *effect) callName(s *step) string { return CallName(journal.Effect{Step: s.n, N: e.n}) }

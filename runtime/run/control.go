package run

import (
	"errors"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// ErrCancelled is the cause of the context of a run that was cancelled: it ends, and
// undoes. Any other cause only interrupts it.
var ErrCancelled = errors.New("cancelled")

// CancelledError is ErrCancelled together with what was decided about the run.
type CancelledError struct{ Decisions []journal.Decided }

func (*CancelledError) Error() string { return ErrCancelled.Error() }

// Unwrap makes it an ErrCancelled.
func (*CancelledError) Unwrap() error { return ErrCancelled }

// control ends the body and cannot be caught by a script.
type control struct {
	outcome *Outcome
	stop    error // why this process cannot continue; no outcome then
}

func (c *control) Control() {}

func (c *control) Error() string {
	if c.stop != nil {
		return c.stop.Error()
	}
	return "the run is " + string(c.outcome.Status) + ": " + c.outcome.Reason
}

func (c *control) Unwrap() error { return c.stop }

func isControl(err error) bool {
	var c *control
	return errors.As(err, &c)
}

// skipped ends the run: there is nothing to do.
func skipped(reason string) *control {
	return &control{outcome: &Outcome{Status: journal.Skipped, Reason: reason}}
}

func misuse(call, message, hint string) *problem.Error {
	return &problem.Error{Kind: problem.Usage, Call: call, Message: message, Hint: hint}
}

package queue

import (
	"errors"
	"fmt"

	"moonseal/runtime/problem"
)

// Causes of the end of Work's context, to be found with context.Cause.
var (
	ErrCancelled = errors.New("the run was cancelled") // by [Queue.Cancel]
	ErrStopped   = errors.New("the queue stops")       // [Queue.Stop] waited long enough
)

// ErrClosed is the cause of each error that a stopped queue returns.
var ErrClosed = errors.New("the queue has stopped")

func closed() error {
	return &problem.Error{Kind: problem.Unavailable, Call: "queue", Message: ErrClosed.Error(), Work: problem.NotDone, Cause: ErrClosed}
}

func misuse(format string, a ...any) error {
	return &problem.Error{Kind: problem.Usage, Call: "queue", Message: fmt.Sprintf(format, a...), Work: problem.NotDone}
}

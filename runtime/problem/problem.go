// Package problem is moonseal's error: what happened, on what, in the other
// side's own words, what to do about it, and the two things that the engine must
// know before it may retry: can waiting fix it, and was the work done?
package problem

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Kind says what sort of error it is. Scripts read it as err.kind.
type Kind string

// The kinds. See [Kind.Retryable] for those that waiting can fix.
const (
	Auth        Kind = "auth"         // wrong credentials or too few rights; never retried: appliances lock accounts
	Refused     Kind = "refused"      // the other side refused the request for its contents
	Mismatch    Kind = "mismatch"     // a check of ours found that two things do not belong together
	NotFound    Kind = "not_found"    // what was asked for does not exist
	Conflict    Kind = "conflict"     // other work is in the way
	OrderGone   Kind = "order_gone"   // the ACME order expired or became invalid
	Untrusted   Kind = "untrusted"    // the peer's certificate or host key is not the one that is expected
	Usage       Kind = "usage"        // a script or config asks for what cannot be
	Script      Kind = "script"       // a script raised an error of its own
	Unavailable Kind = "unavailable"  // the other side cannot answer now: 5xx, connection refused or cut
	Timeout     Kind = "timeout"      // no answer, or no success, in time
	RateLimited Kind = "rate_limited" // the other side asks to come again later
	Internal    Kind = "internal"     // a bug in moonseal
)

// Retryable reports whether a retry can succeed after an error of kind k.
func (k Kind) Retryable() bool {
	return k == Unavailable || k == Timeout || k == RateLimited
}

// Work says whether a call's work was done on the other side.
type Work string

// The states of work.
const (
	NotDone Work = "no"      // certainly not: refused, never connected, a plain 4xx
	Unknown Work = "unknown" // cannot tell: timeout, reset, 5xx
)

// Error is an error with everything that users and the engine need to know.
// The zero Work of a Retryable kind counts as Unknown, else as NotDone.
type Error struct {
	Kind       Kind      `json:"kind"`
	Code       Code      `json:"code,omitempty"`       // which error it is, for programs
	Call       string    `json:"call,omitempty"`       // the function, such as "cucm.upload"
	Key        string    `json:"key,omitempty"`        // the argument's key that is wrong, such as "csr.alt_names[2]"
	Target     string    `json:"target,omitempty"`     // what it was about: a host, a URL, a zone
	Message    string    `json:"message"`              // what happened: lowercase, no full stop
	Server     string    `json:"server,omitempty"`     // the other side's own words
	Status     int       `json:"status,omitempty"`     // the HTTP status, if there was one
	Tracking   string    `json:"tracking,omitempty"`   // the other side's tracking id
	Hint       string    `json:"hint,omitempty"`       // what to do
	Work       Work      `json:"work,omitempty"`       // was it done?
	Park       bool      `json:"park,omitempty"`       // continuing without a check of the outside world could do harm: the run parks
	RetryAfter time.Time `json:"retry_after,omitzero"` // not before
	Step       string    `json:"step,omitempty"`       // the step that failed
	Place      *Place    `json:"place,omitempty"`      // where in the script
	Cause      error     `json:"-"`                    // the error below, for errors.Is
}

// Error returns one line: call, target, message, the server's words, tracking id.
func (e *Error) Error() string {
	var b strings.Builder
	for _, part := range []string{e.Call, e.Target} {
		if part != "" {
			b.WriteString(part + ": ")
		}
	}
	b.WriteString(e.Message)
	if e.Server != "" {
		b.WriteString(": " + quoteServer(e.Server))
	}
	if e.Tracking != "" {
		b.WriteString(" (tracking id " + e.Tracking + ")")
	}
	return b.String()
}

// quoteServer bounds and flattens the other side's words.
func quoteServer(s string) string {
	const most = 600
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return `"` + s + `"`
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Happened returns whether the work may have been done.
func (e *Error) Happened() Work {
	switch {
	case e.Work != "":
		return e.Work
	case e.Kind.Retryable() && e.Kind != RateLimited:
		return Unknown
	default:
		return NotDone
	}
}

// From returns err as an *Error: itself if it is one, else a Timeout for a context's
// deadline, else Internal with err as cause. From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{Kind: Timeout, Message: "no answer in time", Cause: err}
	}
	return &Error{Kind: Internal, Message: err.Error(), Cause: err}
}

// Invalid returns the Usage error of the argument at key; text says what it must be.
func Invalid(key, text string) *Error {
	return &Error{Kind: Usage, Key: key, Message: key + " " + text, Work: NotDone}
}

// At returns a copy of err, as an *Error, with call and target filled in if they are
// empty. At(nil) is nil.
func At(err error, call, target string) error {
	if err == nil {
		return nil
	}
	e := *From(err)
	if e.Call == "" {
		e.Call = call
	}
	if e.Target == "" {
		e.Target = target
	}
	return &e
}

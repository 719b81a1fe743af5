// Package faults makes a test double misbehave on demand.
//
// Every double (acmetest, dnstest, cucmtest) takes a *Set and asks it at each
// call that it serves. A fault is named by its call, a dotted name such as
// "cucm.upload" or "acme.new-order"; a pattern such as "cucm.*" (path.Match)
// names several. A nil *Set never faults.
//
// HTTP doubles wrap their handler in [Set.Handler]; the others call [Set.Do].
package faults

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"
)

// Kind is what goes wrong.
type Kind string

// The kinds. "Before" kinds leave the work undone, "after" kinds do it first.
const (
	Status     Kind = "status"      // answer Code with Body; the work is not done
	Reset      Kind = "reset"       // cut the connection; the work is not done
	Timeout    Kind = "timeout"     // never answer, until the client goes away; the work is not done
	Delay      Kind = "delay"       // wait Wait, then continue as usual
	Lost       Kind = "lost"        // do the work, then cut the connection without an answer
	Truncate   Kind = "truncate"    // do the work, send half of the answer, cut the connection
	HoldBefore Kind = "hold-before" // stop before the work until released; dropped when the client goes away
	HoldAfter  Kind = "hold-after"  // do the work, then stop until released; the answer is dropped when the client goes away
)

//nolint:gochecknoglobals // never changed
var kinds = map[Kind]bool{Status: true, Reset: true, Timeout: true, Delay: true, Lost: true, Truncate: true, HoldBefore: true, HoldAfter: true}

// Fault is one entry of a Set.
type Fault struct {
	ID     int               `json:"id"`
	Call   string            `json:"call"`             // a call's name, or a path.Match pattern
	Kind   Kind              `json:"kind"`             //
	Code   int               `json:"code,omitempty"`   // HTTP status of a Status fault; 503 when 0
	Body   string            `json:"body,omitempty"`   // body of a Status fault
	Header map[string]string `json:"header,omitempty"` // headers of a Status fault, such as Retry-After
	Skip   int               `json:"skip,omitempty"`   // calls that pass before the first that is hit
	Times  int               `json:"times,omitempty"`  // calls that are hit; 1 when 0, all when negative
	Wait   time.Duration     `json:"wait,omitempty"`   // length of a Delay, in nanoseconds

	Hits int  `json:"hits"` // calls hit so far
	Held bool `json:"held"` // a call is held right now

	seen    int
	release chan struct{}
}

// ErrCut makes a double cut the client's connection without an answer.
var ErrCut = errors.New("fault: connection cut")

// StatusError makes an HTTP-like double answer with a status.
type StatusError struct {
	Code   int
	Body   string
	Header map[string]string
}

func (e *StatusError) Error() string { return fmt.Sprintf("fault: status %d", e.Code) }

// Set is a double's list of faults. It is safe for concurrent use.
type Set struct {
	mu     sync.Mutex
	next   int
	faults []*Fault
	change chan struct{} // closed and replaced at each change of a Held flag and when faults go
}

// New returns an empty Set.
func New() *Set { return &Set{change: make(chan struct{})} }

// Add puts f into the set and returns its id.
func (s *Set) Add(f Fault) (int, error) {
	if !kinds[f.Kind] {
		return 0, fmt.Errorf("unknown kind of fault %q", f.Kind)
	}
	if _, err := path.Match(f.Call, ""); err != nil || f.Call == "" {
		return 0, fmt.Errorf("fault names no call: %q", f.Call)
	}
	if f.Times == 0 {
		f.Times = 1
	}
	if f.Kind == Status && f.Code == 0 {
		f.Code = 503
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	f.ID, f.release = s.next, make(chan struct{})
	s.faults = append(s.faults, &f)
	return f.ID, nil
}

// List returns a copy of the faults, oldest first.
func (s *Set) List() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Fault, 0, len(s.faults))
	for _, f := range s.faults {
		out = append(out, *f)
	}
	return out
}

// Clear removes all faults and releases what they hold.
func (s *Set) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		f.free()
	}
	s.faults = nil
	s.changed()
}

// Release lets go of what fault id holds, now and later.
func (s *Set) Release(id int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.ID == id {
			f.free()
			return nil
		}
	}
	return fmt.Errorf("no fault %d", id)
}

func (f *Fault) free() {
	select {
	case <-f.release:
	default:
		close(f.release)
	}
}

// WaitHeld waits until fault id holds a call; a fault that is not there is an error.
func (s *Set) WaitHeld(ctx context.Context, id int) error {
	for {
		s.mu.Lock()
		var found, held bool
		for _, f := range s.faults {
			if f.ID == id {
				found, held = true, f.Held
			}
		}
		change := s.change
		s.mu.Unlock()
		if !found {
			return fmt.Errorf("no fault %d", id)
		}
		if held {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Set) hit(call string) *Fault {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if ok, _ := path.Match(f.Call, call); !ok && f.Call != call {
			continue
		}
		f.seen++
		if f.seen <= f.Skip || (f.Times > 0 && f.Hits >= f.Times) {
			continue
		}
		f.Hits++
		return f
	}
	return nil
}

func (s *Set) hold(ctx context.Context, f *Fault) error {
	s.setHeld(f, true)
	defer s.setHeld(f, false)
	select {
	case <-f.release:
		return nil
	case <-ctx.Done():
		return ErrCut
	}
}

func (s *Set) setHeld(f *Fault, held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.Held = held
	s.changed()
}

// changed wakes what waits. The caller holds s.mu.
func (s *Set) changed() {
	close(s.change)
	s.change = make(chan struct{})
}

// Do serves one call: it runs work unless a fault prevents it, and returns
// work's error, [ErrCut], or a *[StatusError]. ctx must end when the client
// goes away. A Truncate fault is ErrTruncate after the work.
func (s *Set) Do(ctx context.Context, call string, work func() error) error {
	f := s.hit(call)
	if f == nil {
		return work()
	}
	switch f.Kind {
	case Status:
		return &StatusError{Code: f.Code, Body: f.Body, Header: f.Header}
	case Reset:
		return ErrCut
	case Timeout:
		<-ctx.Done()
		return ErrCut
	case Delay:
		t := time.NewTimer(f.Wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ErrCut
		}
		return work()
	case HoldBefore:
		if err := s.hold(ctx, f); err != nil {
			return err
		}
		return work()
	default: // the others come after the work
	}
	if err := work(); err != nil {
		return err
	}
	switch f.Kind {
	case HoldAfter:
		return s.hold(ctx, f)
	case Truncate:
		return ErrTruncate
	default:
		return ErrCut
	}
}

// ErrTruncate makes a double send half of its answer and cut the connection.
var ErrTruncate = errors.New("fault: answer truncated")

package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// Status is the overview that an operator needs first.
type Status struct {
	Version   string               `json:"version"`
	Since     time.Time            `json:"since"`              // the daemon's start
	Paused    bool                 `json:"paused,omitempty"`   // scheduled runs of all playbooks are paused
	Config    *problem.Error       `json:"config,omitempty"`   // why the config's file was refused; the previous one is in force
	Playbooks List[PlaybookStatus] `json:"playbooks"`          // by name
	Scripts   List[*problem.Error] `json:"scripts"`            // why scripts are broken, by file
	Problems  List[Problem]        `json:"problems"`           // what needs attention, the most urgent first
	Cleanups  int                  `json:"cleanups,omitempty"` // undos of ended runs that are left
	State     *problem.Error       `json:"state,omitempty"`    // why the state directory cannot be written, so that no run continues
}

// List is a list that is never null in JSON.
type List[T any] []T

// MarshalJSON encodes nil as [].
func (l List[T]) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]T(l))
}

// WaitsDecision is the beginning of WaitsFor of a parked run; the reason follows.
const WaitsDecision = "a person: "

// Severities of a problem.
const (
	Act  = "act"  // needs action now
	Warn = "warn" // needs action later
)

// Reasons of problems.
const (
	Parked   = "parked"   // a run does nothing until a decision
	Failed   = "failed"   // the last run
	Failing  = "failing"  // a run fails, and continues trying
	Asks     = "asks"     // a run waits for approval
	Locked   = "locked"   // a run waits for a lock for too long
	Window   = "window"   // no window, or too narrow a one, before the certificate ends
	Expiring = "expiring" // a certificate that is served
	Broken   = "broken"   // a script
	Config   = "config"   // it was refused
	State    = "state"    // the state directory cannot be written
	Left     = "left"     // changes that could not be undone
)

// Problem is what needs a user's attention.
type Problem struct {
	Key      string `json:"key"` // the same as long as it is the same problem
	Reason   string `json:"reason"`
	Severity string `json:"severity"`
	Playbook string `json:"playbook,omitempty"`
	Node     string `json:"node,omitempty"`    // the first label of its name
	Subject  string `json:"subject,omitempty"` // of the certificate that expires
	Run      string `json:"run,omitempty"`
	What     string `json:"what"` // in a few words
	Text     string `json:"text"` // in one or two sentences
	Next     string `json:"next"` // the command that helps
}

// Title returns the problem in one line: severity, playbook, node and what it is.
func (p Problem) Title(state string) string {
	subject := p.Playbook
	if p.Node != "" {
		subject += ", " + p.Node
	}
	return fmt.Sprintf("[%s] %s: %s", strings.ToUpper(state), cmp.Or(subject, "moonseal"), p.What)
}

// PlaybookStatus is one playbook's line. What is not known is null.
type PlaybookStatus struct {
	Name    string         `json:"name"`
	Script  string         `json:"script"` // its file in the scripts folder
	Bundle  string         `json:"bundle"` // hash of all that it needs
	Error   *problem.Error `json:"error"`  // why the script as it is now does not run
	Paused  bool           `json:"paused,omitempty"`
	Gone    bool           `json:"gone,omitempty"`    // its script no longer exists
	Warning string         `json:"warning,omitempty"` // why its window may be too narrow
	NextRun *time.Time     `json:"next_run"`
	Served  List[Served]   `json:"served"` // what was seen last
	LastRun *LastRun       `json:"last_run"`
	Running *Running       `json:"running"`
}

// FirstEnd returns when the first of the certificates that the playbook's nodes serve ends;
// false if none is known.
func (p PlaybookStatus) FirstEnd() (time.Time, bool) {
	var first time.Time
	for _, c := range p.Served {
		if first.IsZero() || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first, !first.IsZero()
}

// Days returns how many complete days are left.
func Days(ends, now time.Time) int { return int(ends.Sub(now).Hours() / 24) }

// Served is a certificate as it was last seen on a handshake.
type Served struct {
	Subject  string    `json:"subject"` // the record's, such as "cucm01/tomcat"
	SHA256   string    `json:"sha256"`
	NotAfter time.Time `json:"not_after"`
	Issuer   string    `json:"issuer,omitempty"` // its name
	// SelfSigned is whether no CA has issued it.
	SelfSigned bool       `json:"self_signed,omitempty"`
	Installed  string     `json:"installed,omitempty"` // SHA-256 of the installed one, if it is another
	Seen       time.Time  `json:"seen"`
	Next       *time.Time `json:"next,omitempty"` // when it is to be renewed
}

// LastRun is the run that ended last.
type LastRun struct {
	ID     string         `json:"id"`
	Status journal.Status `json:"status"`
	Ended  time.Time      `json:"ended"`
	Error  *problem.Error `json:"error,omitempty"`
	Reason string         `json:"reason,omitempty"`
	Left   []string       `json:"left,omitempty"` // of a cancelled run: what it may have changed, or left half done
}

// Running is the unfinished run.
type Running struct {
	ID       string         `json:"id"`
	Status   journal.Status `json:"status"`
	Step     string         `json:"step"`      // "" before the first
	Since    time.Time      `json:"since"`     // since when it is in this step, or waits
	WaitsFor string         `json:"waits_for"` // "" while it works; see [WaitsDecision]
	Until    *time.Time     `json:"until,omitempty"`
	Error    *problem.Error `json:"error,omitempty"`   // of the last failed attempt
	Failing  *time.Time     `json:"failing,omitempty"` // since when it fails at this step
	Locks    []string       `json:"locks,omitempty"`   // that it holds
	Lock     *Lock          `json:"lock,omitempty"`    // that it waits for
}

// Lock is a lock that another run holds.
type Lock struct {
	Name     string    `json:"name"`
	Run      string    `json:"run"`      // the holder
	Playbook string    `json:"playbook"` // the holder's
	Since    time.Time `json:"since"`    // when it was acquired

	// Warning is why a run must not wait for it any longer: "for 5h0m0s".
	Warning string `json:"warning,omitempty"`
}

// MarshalJSON encodes what is not known as null.
func (p PlaybookStatus) MarshalJSON() ([]byte, error) {
	type plain PlaybookStatus
	return json.Marshal(struct {
		plain
		Script *string `json:"script"`
		Bundle *string `json:"bundle"`
	}{plain(p), orNull(p.Script), orNull(p.Bundle)})
}

// MarshalJSON encodes what is not known as null.
func (r Running) MarshalJSON() ([]byte, error) {
	type plain Running
	return json.Marshal(struct {
		plain
		Step     *string `json:"step"`
		WaitsFor *string `json:"waits_for"`
	}{plain(r), orNull(r.Step), orNull(r.WaitsFor)})
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// RunRequest requests a run.
type RunRequest struct {
	Playbook string `json:"playbook"`
	Force    bool   `json:"force,omitempty"`
}

// attrs returns what the daemon logs of a request.
func (r RunRequest) attrs() []slog.Attr {
	return []slog.Attr{slog.String("playbook", r.Playbook), slog.Bool("force", r.Force)}
}

func (d Decision) attrs() []slog.Attr {
	as := []string{d.As}
	for _, name := range slices.Sorted(maps.Keys(d.Calls)) {
		as = append(as, name+"="+d.Calls[name].As)
	}
	return []slog.Attr{slog.String("ticket", d.Ticket), slog.String("reason", d.Reason), slog.String("as", strings.TrimSpace(strings.Join(as, " ")))}
}

func (r ForgetRequest) attrs() []slog.Attr {
	return []slog.Attr{slog.String("playbook", r.Playbook), slog.String("ticket", r.Ticket), slog.String("reason", r.Reason)}
}

func (p PauseRequest) attrs() []slog.Attr {
	return []slog.Attr{slog.String("playbook", p.Playbook), slog.Bool("paused", p.Paused)}
}

// AlertReply is where a test alert has arrived.
type AlertReply struct {
	Services  int    `json:"services"`            // that accepted the message
	Heartbeat string `json:"heartbeat,omitempty"` // the secret whose URL answered
}

// SecretState is what is known of a secret; never its value.
type SecretState struct {
	Name  string         `json:"name"`
	Where string         `json:"where,omitempty"` // the source that has it
	Error *problem.Error `json:"error,omitempty"` // why it is not found
}

// RunReply is the run that was started, or that continues.
type RunReply struct {
	ID      string `json:"id"`
	Resumed bool   `json:"resumed,omitempty"` // it was unfinished

	// Broken is why the playbook runs as the last good version of its script.
	Broken *problem.Error `json:"broken,omitempty"`
}

// Decision is a decision about a run.
type Decision struct {
	Ticket string          `json:"ticket,omitempty"`
	Reason string          `json:"reason,omitempty"`
	As     string          `json:"as,omitempty"`     // of resume: "done", "again" or "look"; "" if no call is unclear
	Now    bool            `json:"now,omitempty"`    // of cancel: do not wait for the call under way
	Result json.RawMessage `json:"result,omitempty"` // of resume: what the call that is done returned
	// Calls are of resume if several calls are unclear: the outcome of each, by its name
	// such as "3.1". As and Result are for the others.
	Calls map[string]Verdict `json:"calls,omitempty"`
}

// Verdict is the outcome of one call.
type Verdict struct {
	As     string          `json:"as"`
	Result json.RawMessage `json:"result,omitempty"`
}

// PauseRequest pauses or unpauses one playbook, or all for "".
type PauseRequest struct {
	Playbook string `json:"playbook,omitempty"`
	Paused   bool   `json:"paused"`
}

// ForgetRequest names a playbook to forget, and why.
type ForgetRequest struct {
	Playbook string `json:"playbook"`
	Ticket   string `json:"ticket,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// Event is a line of a followed run: a record, or the end.
type Event struct {
	Record json.RawMessage `json:"record,omitempty"` // as journal.Encode returns it
	Run    *journal.Run    `json:"run,omitempty"`    // as it ended or stopped; the last line
}

// ReloadReply is what a reload changed.
type ReloadReply struct {
	Added    List[string]         `json:"added"`
	Changed  List[string]         `json:"changed"`
	Removed  List[string]         `json:"removed"`
	Problems List[*problem.Error] `json:"problems"`
	Config   List[string]         `json:"config"`            // settings that were changed
	Restart  []string             `json:"restart,omitempty"` // settings that changed and need a restart
}

// failure is an error on the wire.
type failure struct {
	Error *problem.Error `json:"error"`
}

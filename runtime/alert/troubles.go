package alert

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// Limits say when something becomes a problem.
type Limits struct {
	Expiring time.Duration // a certificate that is served for less than this
	Waiting  time.Duration // a run that fails for longer than this
}

// Soon is how long before a served certificate ends the alert becomes urgent.
const Soon = 7 * 24 * time.Hour

// Troubles returns what needs a user's attention, the most urgent first; never nil. For a
// playbook whose script is gone that is only its unfinished run.
func Troubles(s *api.Status, limits Limits, now time.Time) []api.Problem {
	out := daemonTroubles(s)
	for _, p := range s.Playbooks {
		out = append(out, playbookTroubles(p, limits, now)...)
	}
	slices.SortStableFunc(out, func(a, b api.Problem) int { return cmp.Compare(a.Severity, b.Severity) }) // act, warn
	return out
}

func daemonTroubles(s *api.Status) []api.Problem {
	out := []api.Problem{}
	if e := s.State; e != nil {
		out = append(out, api.Problem{
			Key: "state", Reason: api.State, Severity: api.Act, What: "cannot write to the state directory", Next: "moonseal doctor",
			Text: "cannot write to the state directory, and no run continues until that is possible: " + e.Error(),
		})
	}
	if s.Config != nil {
		out = append(out, api.Problem{
			Key: "config", Reason: api.Config, Severity: api.Warn, What: "config refused", Next: "moonseal reload",
			Text: fmt.Sprintf("the config is wrong, and the previous one stays in force: %s", s.Config),
		})
	}
	for _, e := range s.Scripts {
		out = append(out, broken(e, s.Playbooks))
	}
	if s.Cleanups > 0 {
		out = append(out, api.Problem{
			Key: "cleanup", Reason: api.Left, Severity: api.Warn, What: fmt.Sprintf("%d changes not undone", s.Cleanups), Next: "moonseal cleanup list",
			Text: fmt.Sprintf("%d changes of ended runs could not be undone", s.Cleanups),
		})
	}
	return out
}

func playbookTroubles(p api.PlaybookStatus, limits Limits, now time.Time) []api.Problem {
	var out []api.Problem
	left := daysLeft(p, now)
	if t, ok := runTrouble(p, limits, left, now); ok {
		out = append(out, t)
	}
	if r := p.Running; r != nil && r.Lock != nil && r.Lock.Warning != "" {
		out = append(out, heldUp(p, left))
	}
	if p.Gone {
		return out
	}
	if p.Warning != "" {
		out = append(out, api.Problem{
			Key: "window " + p.Name, Reason: api.Window, Severity: api.Warn, Playbook: p.Name, What: "window too narrow",
			Text: fmt.Sprintf("%s%s: %s", p.Name, left, p.Warning), Next: "moonseal run " + p.Name,
		})
	}
	for _, c := range p.Served {
		if !c.NotAfter.IsZero() && c.NotAfter.Sub(now) < limits.Expiring {
			out = append(out, expiring(p, c, left, now))
		}
	}
	return out
}

func expiring(p api.PlaybookStatus, c api.Served, left string, now time.Time) api.Problem {
	t := api.Problem{
		Key: "expiring " + p.Name + " " + c.Subject, Reason: api.Expiring, Severity: api.Warn, Playbook: p.Name, Node: nodeOf(c.Subject), Subject: c.Subject,
		What: daysOf(c.NotAfter, now) + " left", Next: "moonseal run " + p.Name,
		Text: fmt.Sprintf("%s: the certificate of %s ends on %s%s", p.Name, c.Subject, c.NotAfter.Format(time.DateOnly), left),
	}
	if c.NotAfter.Sub(now) < Soon {
		t.Severity = api.Act
	}
	if !c.NotAfter.After(now) {
		t.What = "expired"
	}
	return t
}

func broken(e *problem.Error, playbooks []api.PlaybookStatus) api.Problem {
	file, at, what, name := "the scripts folder", "", "is broken, and its last good version runs", ""
	if e.Place != nil {
		file = e.Place.File
		if e.Place.Line > 0 {
			at = fmt.Sprintf(":%d", e.Place.Line)
		}
	}
	for _, p := range playbooks {
		if p.Script != file || p.Error == nil {
			continue
		}
		name = p.Name
		if p.Bundle == "" {
			what = "is broken, and nothing of it runs"
		}
	}
	return api.Problem{
		Key: "broken " + file, Reason: api.Broken, Severity: api.Warn, Playbook: name, What: file + at + " is broken",
		Text: fmt.Sprintf("%s%s %s: %s", file, at, what, e), Next: "moonseal check",
	}
}

// runTrouble returns what is wrong with the playbook's runs.
func runTrouble(p api.PlaybookStatus, limits Limits, left string, now time.Time) (api.Problem, bool) {
	r := p.Running
	t := api.Problem{Playbook: p.Name, Node: node(p), Severity: api.Act}
	switch {
	case r == nil && p.LastRun != nil && p.LastRun.Status == journal.Failed && !p.Gone:
		why := p.LastRun.Reason
		if p.LastRun.Error != nil {
			why = p.LastRun.Error.Error()
		}
		t.Reason, t.Severity, t.Run, t.What = api.Failed, api.Warn, p.LastRun.ID, "failed"
		t.Text, t.Next = fmt.Sprintf("%s failed%s: %s", p.Name, left, why), "moonseal logs "+p.LastRun.ID
	case r == nil && p.LastRun != nil && len(p.LastRun.Left) > 0 && !p.Gone:
		t.Reason, t.Run, t.What = api.Left, p.LastRun.ID, "cancelled half-way"
		t.Text = fmt.Sprintf("%s was cancelled%s, and left: %s", p.Name, left, strings.Join(p.LastRun.Left, "; "))
		t.Next = "check the appliance, then moonseal run " + p.Name
	case r == nil:
		return t, false
	case r.Status == journal.Parked:
		t.Reason, t.Run, t.What = api.Parked, r.ID, "parked"
		t.Text = fmt.Sprintf("%s is parked%s: %s", p.Name, left, strings.TrimPrefix(r.WaitsFor, api.WaitsDecision))
		t.Next = "moonseal resume " + r.ID
	case strings.HasPrefix(r.WaitsFor, run.WaitApproval):
		t.Reason, t.Run, t.What = api.Asks, r.ID, "asks for approval"
		t.Text, t.Next = fmt.Sprintf("%s waits for %s%s", p.Name, r.WaitsFor, left), "moonseal approve "+r.ID+", or moonseal deny "+r.ID
	case r.Error != nil && r.Failing != nil && now.Sub(*r.Failing) > limits.Waiting:
		t.Reason, t.Severity, t.Run, t.What = api.Failing, api.Warn, r.ID, "failing"
		t.Text, t.Next = fmt.Sprintf("%s keeps failing%s: %s", p.Name, left, r.Error), "moonseal logs "+r.ID
	default:
		return t, false
	}
	key := t.Reason
	if key == api.Asks {
		key = "approval"
	}
	t.Key = key + " " + p.Name
	return t, true
}

// heldUp returns the problem of a lock that is held for too long: it names the run that
// waits and the one that holds it.
func heldUp(p api.PlaybookStatus, left string) api.Problem {
	l := p.Running.Lock
	return api.Problem{
		Key: "lock " + l.Name + " " + p.Name, Reason: api.Locked, Severity: api.Warn, Playbook: p.Name, Run: p.Running.ID, What: "waits for lock " + l.Name,
		Text: fmt.Sprintf("%s%s waits for lock %s %s: run %s of %s holds it since %s", p.Name, left, l.Name, l.Warning, l.Run, l.Playbook, l.Since.Format(time.RFC3339)),
		Next: "moonseal status, then moonseal unlock " + l.Run,
	}
}

// node returns the node of a playbook's trouble: the target of its error, or its only one;
// "" if that is not known.
func node(p api.PlaybookStatus) string {
	var e *problem.Error
	switch {
	case p.Running != nil:
		e = p.Running.Error
	case p.LastRun != nil:
		e = p.LastRun.Error
	}
	var nodes []string
	for _, c := range p.Served {
		nodes = append(nodes, nodeOf(c.Subject))
	}
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	if e != nil && slices.Contains(nodes, nodeOf(e.Target)) {
		return nodeOf(e.Target)
	}
	if len(nodes) == 1 {
		return nodes[0]
	}
	return ""
}

// nodeOf returns the first label of the host that a subject or target begins with.
func nodeOf(subject string) string {
	host, _, _ := strings.Cut(subject, "/")
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if net.ParseIP(host) != nil {
		return host
	}
	label, _, _ := strings.Cut(host, ".")
	return label
}

// daysLeft returns how long the playbook's first certificate to end is still valid.
func daysLeft(p api.PlaybookStatus, now time.Time) string {
	ends, ok := p.FirstEnd()
	if !ok {
		return ""
	}
	return fmt.Sprintf(" (%s left)", daysOf(ends, now))
}

func daysOf(ends, now time.Time) string {
	if n := api.Days(ends, now); n != 1 {
		return fmt.Sprintf("%d days", n)
	}
	return "1 day"
}

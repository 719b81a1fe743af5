package alert

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
)

// Limits say from when on something is a trouble.
type Limits struct {
	Expiring time.Duration // a certificate that is served for less than this
	Waiting  time.Duration // a run that fails, or waits for a person, for longer than this
}

// Troubles gives what is wrong, by key.
func Troubles(s *api.Status, limits Limits, now time.Time) []Trouble {
	var out []Trouble
	if s.Config != nil {
		out = append(out, Trouble{Key: "config", Text: fmt.Sprintf("the config is wrong, and the daemon goes on with the one before: %s", s.Config), Next: "moonseal reload"})
	}
	lame := map[string]bool{} // scripts that nothing runs of
	for _, p := range s.Playbooks {
		lame[p.Script] = p.Error != nil && p.Bundle == ""
	}
	if e := s.State; e != nil {
		out = append(out, Trouble{Key: "state", Text: "the state folder takes nothing, and no run goes on until it does: " + e.Error(), Next: "moonseal doctor"})
	}
	for _, e := range s.Problems {
		out = append(out, broken(e, lame))
	}
	for _, p := range s.Playbooks {
		left := daysLeft(p, now)
		if t, ok := runTrouble(p, limits, left, now); ok {
			out = append(out, t)
		}
		if r := p.Running; r != nil && r.Lock != nil && r.Lock.Warning != "" {
			out = append(out, heldUp(p.Name, r, left))
		}
		if p.Warning != "" {
			out = append(out, Trouble{Key: "window " + p.Name, Text: fmt.Sprintf("%s%s: %s", p.Name, left, p.Warning), Next: "moonseal run " + p.Name})
		}
		for _, c := range p.Served {
			if !c.NotAfter.IsZero() && c.NotAfter.Sub(now) < limits.Expiring {
				out = append(out, Trouble{
					Key: "expiring " + p.Name + " " + c.Subject, Next: "moonseal run " + p.Name,
					Text: fmt.Sprintf("%s: the certificate of %s ends on %s%s", p.Name, c.Subject, c.NotAfter.Format(time.DateOnly), left),
				})
			}
		}
	}
	if s.Cleanups > 0 {
		out = append(out, Trouble{Key: "cleanup", Text: fmt.Sprintf("%d changes of ended runs could not be undone", s.Cleanups), Next: "moonseal cleanup list"})
	}
	return out
}

func broken(e *problem.Error, lame map[string]bool) Trouble {
	file, at, what := "the scripts folder", "", "is broken, and its last good version goes on"
	if e.Place != nil {
		file = e.Place.File
		if e.Place.Line > 0 {
			at = fmt.Sprintf(":%d", e.Place.Line)
		}
		if lame[file] {
			what = "is broken, and nothing of it runs"
		}
	}
	return Trouble{Key: "broken " + file, Text: fmt.Sprintf("%s%s %s: %s", file, at, what, e), Next: "moonseal check"}
}

// runTrouble gives what is wrong with the playbook's runs.
func runTrouble(p api.PlaybookStatus, limits Limits, left string, now time.Time) (Trouble, bool) {
	r := p.Running
	switch {
	case r == nil && p.LastRun != nil && p.LastRun.Status == journal.Failed:
		why := cmp.Or(p.LastRun.Reason, "")
		if p.LastRun.Error != nil {
			why = p.LastRun.Error.Error()
		}
		return Trouble{Key: "failed " + p.Name, Text: fmt.Sprintf("%s failed%s: %s", p.Name, left, why), Next: "moonseal logs " + p.LastRun.ID}, true
	case r == nil:
		return Trouble{}, false
	case r.Status == journal.Parked:
		text := fmt.Sprintf("%s is parked%s: %s", p.Name, left, strings.TrimPrefix(r.WaitsFor, "a person: "))
		return Trouble{Key: "parked " + p.Name, Text: text, Next: "moonseal resume " + r.ID}, true
	case strings.HasPrefix(r.WaitsFor, "approval"):
		return Trouble{Key: "approval " + p.Name, Text: fmt.Sprintf("%s waits for %s%s", p.Name, r.WaitsFor, left), Next: "moonseal approve " + r.ID + ", or moonseal deny " + r.ID}, true
	case r.Error != nil && r.Failing != nil && now.Sub(*r.Failing) > limits.Waiting:
		return Trouble{Key: "failing " + p.Name, Text: fmt.Sprintf("%s goes on failing%s: %s", p.Name, left, r.Error), Next: "moonseal logs " + r.ID}, true
	}
	return Trouble{}, false
}

// heldUp names both the run that waits for a lock and the one that holds it.
func heldUp(playbook string, r *api.Running, left string) Trouble {
	l := r.Lock
	return Trouble{
		Key:  "lock " + l.Name + " " + playbook,
		Text: fmt.Sprintf("%s%s waits for lock %s %s: run %s of %s holds it since %s", playbook, left, l.Name, l.Warning, l.Run, l.Playbook, l.Since.Format(time.RFC3339)),
		Next: "moonseal status, then moonseal unlock " + l.Run,
	}
}

// daysLeft says how long the playbook's soonest certificate is still valid.
func daysLeft(p api.PlaybookStatus, now time.Time) string {
	var soonest time.Time
	for _, c := range p.Served {
		if soonest.IsZero() || c.NotAfter.Before(soonest) {
			soonest = c.NotAfter
		}
	}
	if soonest.IsZero() {
		return ""
	}
	return fmt.Sprintf(" (%d days left)", int(soonest.Sub(now).Hours()/24))
}

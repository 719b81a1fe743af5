package alert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/journal"
)

// Over returns how a problem that lasted for a while has ended. s is the status without it;
// decisions are those about its run.
func Over(s *api.Status, was api.Problem, decisions []journal.Decided, lasted time.Duration, now time.Time) string {
	if was.Playbook == "" || was.Reason == api.Broken {
		return overOfDaemon(was, lasted)
	}
	i := slices.IndexFunc(s.Playbooks, func(p api.PlaybookStatus) bool { return p.Name == was.Playbook })
	if i < 0 || s.Playbooks[i].Gone && s.Playbooks[i].Running == nil {
		return was.Playbook + " is no longer watched: its script was removed"
	}
	p := s.Playbooks[i]
	after := " after " + span(lasted)
	switch was.Reason {
	case api.Parked, api.Asks:
		if text := decided(was, decisions); text != "" {
			return text + after
		}
	case api.Failing, api.Failed:
		if r := p.Running; r != nil {
			return fmt.Sprintf("%s continues%s: run %s is at %s", p.Name, after, r.ID, cmp.Or(r.Step, "its start"))
		}
	case api.Locked:
		return fmt.Sprintf("%s no longer %s%s", p.Name, was.What, after)
	case api.Window:
		return p.Name + " has a window again before its certificate ends" + until(p, "", now)
	case api.Expiring:
		return was.Node + " serves a certificate" + until(p, was.Subject, now)
	}
	if l := p.LastRun; l != nil && p.Running == nil {
		return fmt.Sprintf("%s: run %s is %s since %s%s", p.Name, l.ID, l.Status, l.Ended.Format(time.RFC3339), until(p, "", now))
	}
	return fmt.Sprintf("%s is no longer %s%s", p.Name, was.What, after)
}

func overOfDaemon(was api.Problem, lasted time.Duration) string {
	after := " after " + span(lasted)
	switch was.Reason {
	case api.Config:
		return "the config is valid again, and in force," + after
	case api.State:
		return "the state directory can be written again" + after
	case api.Left:
		return "nothing of ended runs is left to undo" + after
	case api.Broken:
		return strings.TrimPrefix(was.Key, "broken ") + " loads again, or was removed," + after
	default: // of a version that kept no reason
		return "over" + after + ": " + was.Text
	}
}

// decided returns who has ended a run's wait; "" if no decision has.
func decided(was api.Problem, decisions []journal.Decided) string {
	does := map[string]string{
		journal.DecidedApprove: "continues: %s approved it", journal.DecidedDeny: "does not continue: %s denied it",
		journal.DecidedResume: "continues: %s resumed it", journal.DecidedCancel: "is cancelled by %s",
	}
	for _, d := range slices.Backward(decisions) {
		text, ok := does[d.What]
		if !ok {
			continue
		}
		text = was.Playbook + " " + fmt.Sprintf(text, d.By)
		if d.Ticket != "" {
			text += " (" + d.Ticket + ")"
		}
		return text
	}
	return ""
}

// until returns until when a subject's certificate is served, or for "" the first of a
// playbook's.
func until(p api.PlaybookStatus, subject string, now time.Time) string {
	ends, ok := p.FirstEnd()
	for _, c := range p.Served {
		if c.Subject == subject {
			ends = c.NotAfter
		}
	}
	if !ok {
		return ""
	}
	return fmt.Sprintf(", until %s, %s", ends.Format(time.DateOnly), daysOf(ends, now))
}

// span returns a duration in its largest unit.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	default:
		return fmt.Sprintf("%d d", d/day)
	}
}

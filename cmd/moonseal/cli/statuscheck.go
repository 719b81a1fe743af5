package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/alert"
	"moonseal/runtime/api"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
)

// Exit codes of status --check: those of monitors.
const (
	checkOK       = 0
	checkWarning  = 1
	checkCritical = 2
	checkUnknown  = 3
)

const checkFlag = "check"

// checks reports whether the command line has status --check, with any other arguments.
func (a *app) checks() bool {
	return slices.Contains(a.args, "status") && slices.Contains(a.args, "--"+checkFlag)
}

// unknown prints why a check has no result.
func (a *app) unknown(err error) int {
	_, _ = plain.Fprintf(a.stdout, "UNKNOWN: %s\n", problem.From(err))
	return checkUnknown
}

// checkStatus prints one line for a monitor.
func (a *app) checkStatus(ctx context.Context, asJSON bool) error {
	if asJSON {
		return &problem.Error{Kind: problem.Usage, Message: "--check and --json exclude each other"}
	}
	return a.with(ctx, reads, func(op operator) error {
		s, err := op.Status(ctx)
		if err != nil {
			return err
		}
		code, line := checkLine(s, time.Duration(op.Config().Alerts.Expiring), a.clock.Now())
		_, _ = plain.Fprintf(a.stdout, "%s\n", line)
		return ended(code, nil)
	})
}

// checkLine returns the state in one line, with the numbers that a monitor keeps after the bar.
func checkLine(s *api.Status, expiring time.Duration, now time.Time) (code int, line string) {
	word := "OK"
	needs := map[string]bool{} // playbooks, and the keys of other problems
	counts := map[string]int{}
	for _, p := range s.Problems {
		key := p.Playbook
		if key == "" {
			key = "\x00" + p.Key
		}
		needs[key] = true
		counts[p.Reason]++
		switch {
		case p.Severity == api.Act && p.Reason != api.Asks:
			code, word = checkCritical, "CRITICAL"
		case code == checkOK:
			code, word = checkWarning, "WARNING"
		}
	}
	var parts []string
	for _, reason := range []string{
		api.Parked, api.State, api.Failed, api.Failing, api.Broken, api.Asks, api.Expiring, api.Window, api.Locked, api.Config, api.Left,
	} {
		if n := counts[reason]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, reason))
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "nothing needs you")
	}
	line = word + ": " + strings.Join(parts, ", ")
	numbers := fmt.Sprintf(" | playbooks=%d need_you=%d", len(s.Playbooks), len(needs))
	if name, days, ok := firstToEnd(s, now); ok {
		line += fmt.Sprintf("; %s ends in %d d", name, days)
		numbers += fmt.Sprintf(" days_left=%d;%d;%d", days, api.Days(now.Add(expiring), now), api.Days(now.Add(alert.Soon), now))
	}
	return code, line + numbers
}

// firstToEnd returns the playbook whose certificate ends first, and in how many days.
func firstToEnd(s *api.Status, now time.Time) (name string, days int, ok bool) {
	var first time.Time
	for _, p := range s.Playbooks {
		if ends, known := p.FirstEnd(); known && !p.Gone && (!ok || ends.Before(first)) {
			name, first, ok = p.Name, ends, true
		}
	}
	return name, api.Days(first, now), ok
}

package cli

import (
	"fmt"
	"strings"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// interrupted leaves the terminal's last line as it is.
func (p *progress) interrupted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.current
	p.current = nil
	if s != nil && !p.json {
		p.line("  %-26s interrupted  %s%s", s.name, shortTime(p.clock.Since(s.since)), s.again())
	}
}

// waiting shows what a run waits for while --wait waits too.
func (p *progress) waiting(out *run.Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = nil
	p.showHeld()
	if p.json {
		writeEvent(p.out, event{Event: "waiting", Message: out.Reason, Until: &out.Until, Error: out.Error})
		return
	}
	p.line("  %-26s %s", "waiting", waitText(out))
}

// waitText returns what a run waits for, and until when if that is known.
func waitText(out *run.Outcome) string {
	if out.Until.IsZero() {
		return "for " + out.Reason
	}
	return fmt.Sprintf("until %s: %s", out.Until.Local().Format(time.DateTime), out.Reason)
}

// howToContinue returns how a waiting run continues.
func howToContinue(name, id string, out *run.Outcome) string {
	switch {
	case strings.HasPrefix(out.Reason, run.WaitApproval):
		return "moonseal approve " + id + " lets it continue, moonseal deny " + id + " ends it"
	case strings.HasPrefix(out.Reason, run.WaitLock):
		return "moonseal run " + name + " continues it once the lock is released"
	case out.Error != nil:
		return "moonseal run " + name + " continues it now"
	default:
		return "moonseal run " + name + " continues it then"
	}
}

// outcome shows how the run ended or stopped.
func (p *progress) outcome(name, id string, out *run.Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanedUp(p.clock.Now())
	p.current = nil
	if p.json {
		e := event{Event: "end", Run: id, Name: name, Status: string(out.Status), Message: out.Reason, Error: out.Error}
		if !out.Until.IsZero() {
			e.Until = &out.Until
		}
		writeEvent(p.out, e)
		return
	}
	if p.held != nil && (out.Error == nil || p.held.Error() != out.Error.Error()) {
		p.showHeld()
	}
	p.ending(name, id, out)
	if len(p.left) > 0 {
		_, _ = fmt.Fprintln(p.stderr, "hint: moonseal cleanup list shows what is left, moonseal cleanup retry tries again")
	}
}

func (p *progress) ending(name, id string, out *run.Outcome) {
	switch out.Status {
	case journal.Done:
		p.line("  %-26s done", "completed")
	case journal.Skipped:
		p.line("  %-26s %s", "skipped", out.Reason)
	case journal.Waiting:
		p.line("  %-26s %s", "waiting", waitText(out))
		p.explain(out.Error, howToContinue(name, id, out)+"; moonseal cancel "+id+" gives up and cleans up")
	case journal.Parked:
		p.line("  %-26s %s", "parked", out.Reason)
		p.explain(out.Error, "look at the appliance, then moonseal resume "+id+" continues it; moonseal cancel "+id+" ends it, with --retry to start over")
	default:
		p.line("  %s", out.Status)
		p.explain(out.Error, "moonseal logs "+id+" shows the whole run")
	}
}

// explain prints to stderr what went wrong and what to do.
func (p *progress) explain(e *problem.Error, next string) {
	if e != nil {
		printError(p.stderr, e)
	}
	_, _ = plain.Fprintf(p.stderr, "hint: %s\n", next)
}

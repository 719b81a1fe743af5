package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/run"
)

// waitsForLock reports whether a run can do nothing until another releases a lock.
func waitsForLock(r journal.Run) bool {
	return r.Status == journal.Waiting && strings.HasPrefix(r.WaitFor, run.WaitLock) && r.CancelAsked.IsZero()
}

func tenant(playbook string) string {
	folder, _, nested := strings.Cut(playbook, "/")
	if !nested {
		return ""
	}
	return folder
}

// showLocks adds which locks an unfinished run holds, and which one it waits for now:
// another run may hold it than when it started to wait.
func (r *statusReader) showLocks(shown *api.Running, v *journal.Overview, locks []journal.Lock) {
	u := v.Unfinished
	waits := waitsForLock(*u)
	if waits {
		shown.WaitsFor = control.WaitWorker
	}
	for _, l := range locks {
		switch {
		case l.Run == u.ID:
			shown.Locks = append(shown.Locks, l.Name)
		case waits && shown.Lock == nil && slices.Contains(u.Locks, l.Name):
			shown.Lock = &api.Lock{Name: l.Name, Run: l.Run, Playbook: l.Playbook, Since: l.Taken, Warning: r.heldUp(u, v.Records, l)}
			shown.WaitsFor = fmt.Sprintf("%s%s, held by run %s of %s", run.WaitLock, l.Name, l.Run, l.Playbook)
		}
	}
}

// heldUp returns why a run must not wait for a lock any longer; "" while it may.
func (r *statusReader) heldUp(u *journal.Run, records []journal.RecordedRow, l journal.Lock) string {
	now, since := r.clock.Now(), u.Updated
	if l.Taken.After(since) {
		since = l.Taken
	}
	patience := time.Duration(r.settings.config().LockPatience)
	if now.Sub(since) >= patience {
		return fmt.Sprintf("for %s", now.Sub(since).Round(time.Minute))
	}
	ends := firstEnd(records)
	if ends.IsZero() {
		return ""
	}
	if now.Add(patience).After(ends) {
		return "and its certificate ends at " + ends.Format(time.RFC3339)
	}
	return r.planner.lastWindow(u.Playbook, now, ends)
}

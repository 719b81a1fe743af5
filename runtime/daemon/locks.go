package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/api"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/queue"
	"moonseal/runtime/run"
	"moonseal/runtime/schedule"
)

// waitsForLock reports whether a run has nothing to do until another releases a lock.
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

// showLocks says which locks an unfinished run holds, and which one it waits for now:
// another run may have taken it since the run came to wait.
func (d *Daemon) showLocks(r *api.Running, v *journal.Overview, locks []journal.Lock) {
	u := v.Unfinished
	waits := waitsForLock(*u)
	if waits {
		r.WaitsFor = control.WaitWorker
	}
	for _, l := range locks {
		switch {
		case l.Run == u.ID:
			r.Locks = append(r.Locks, l.Name)
		case waits && r.Lock == nil && slices.Contains(u.Locks, l.Name):
			r.Lock = &api.Lock{Name: l.Name, Run: l.Run, Playbook: l.Playbook, Since: l.Taken, Warning: d.heldUp(u, v.Records, l)}
			r.WaitsFor = fmt.Sprintf("%s%s, held by run %s of %s", run.WaitLock, l.Name, l.Run, l.Playbook)
		}
	}
	if waits && r.Lock == nil {
		d.showAhead(r, v, locks)
	}
}

// showAhead says what keeps back a run whose locks are free: a run before it wants one
// of them too, and is kept back by a lock that is held.
func (d *Daemon) showAhead(r *api.Running, v *journal.Overview, locks []journal.Lock) {
	due := d.queue.Waiting()
	i := slices.IndexFunc(due, func(w queue.Waiting) bool { return w.Job.Run == r.ID })
	if i < 0 {
		return
	}
	name, first := due[i].Lock, queue.Job{}
	for lock := name; lock != ""; lock = due[i].Lock {
		i = slices.IndexFunc(due[:i], func(w queue.Waiting) bool { return slices.Contains(w.Job.Locks, lock) })
		if i < 0 {
			return // a run that works is about to take it
		}
		if first.Run == "" {
			first = due[i].Job
		}
		held := slices.IndexFunc(locks, func(l journal.Lock) bool { return l.Name == due[i].Lock && l.Run != due[i].Job.Run })
		if held >= 0 {
			l := locks[held]
			r.Lock = &api.Lock{Name: l.Name, Run: l.Run, Playbook: l.Playbook, Since: l.Taken, Warning: d.heldUp(v.Unfinished, v.Records, l)}
			r.WaitsFor = fmt.Sprintf("%s%s, for which run %s of %s goes first; lock %s is held by run %s of %s",
				run.WaitLock, name, first.Run, first.Playbook, l.Name, l.Run, l.Playbook)
			return
		}
	}
}

// heldUp says why a run must not wait for a lock any longer; "" while it may.
func (d *Daemon) heldUp(u *journal.Run, records []journal.RecordedRow, l journal.Lock) string {
	now, since := d.opt.Clock.Now(), u.Updated
	if l.Taken.After(since) {
		since = l.Taken
	}
	patience := time.Duration(d.config().LockPatience)
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
	return d.lastWindow(u.Playbook, now, ends)
}

// lastWindow says that a playbook's last window before an instant is open or over; ""
// if another one follows.
func (d *Daemon) lastWindow(playbook string, now, ends time.Time) string {
	book := d.reload.Current().Find(playbook)
	if book == nil || book.Window == nil {
		return ""
	}
	blackouts, err := schedule.ParseBlackouts(d.config().Blackouts)
	if err != nil {
		return ""
	}
	_, window, err := plan(&book.Playbook)
	if err != nil {
		return ""
	}
	window = window.Without(blackouts)
	opens, closes := window.Next(now)
	switch {
	case opens.IsZero() || !opens.Before(ends):
		return "and no window of it is left before its certificate ends at " + ends.Format(time.RFC3339)
	case !window.Open(now), closes.IsZero():
		return ""
	}
	if next, _ := window.Next(closes); next.IsZero() || !next.Before(ends) {
		return "and its last window before its certificate ends closes at " + closes.Format(time.RFC3339)
	}
	return ""
}

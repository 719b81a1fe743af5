package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"moonseal/runtime/problem"
)

// The decisions.
const (
	DecidedBegin   = "begin"   // a run was started by hand
	DecidedApprove = "approve" //
	DecidedDeny    = "deny"    //
	DecidedResume  = "resume"  // a parked run continues
	DecidedRetry   = "retry"   // a waiting run continues now
	DecidedCancel  = "cancel"  //
	DecidedCleanup = "cleanup" // what an ended run left is undone now
	DecidedForget  = "forget"  // what an ended run left is given up; or a playbook's runs are forgotten
	DecidedUnlock  = "unlock"  //
	DecidedPause   = "pause"   //
	DecidedUnpause = "unpause" //
	DecidedRestore = "restore" // the journal is a copy; the run was parked
)

// VerdictNow is the verdict of a cancel that does not wait for the call under way.
const VerdictNow = "now"

// Decided is a user's decision about a run, or about a playbook if Run is "". A run's
// process cannot write this type.
type Decided struct {
	Stamp
	What     string `json:"what"`
	Playbook string `json:"playbook,omitempty"` // filled in for a decision about a run; "" is all playbooks
	By       string `json:"by"`                 // the user behind the socket or sudo
	Ticket   string `json:"ticket,omitempty"`   // of a change-management system
	Reason   string `json:"reason,omitempty"`
	Verdict  string `json:"verdict,omitempty"` // of resume: done, again, look; of cancel: now
}

// Type of the record on the wire.
func (Decided) Type() string { return "decided" }

func (d Decided) apply(w *conn) error {
	if d.Run == "" {
		_, err := w.exec(`INSERT INTO decisions (at, what, playbook, by, ticket, reason, verdict) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			d.At.UnixNano(), d.What, d.Playbook, d.By, d.Ticket, d.Reason, d.Verdict)
		return err
	}
	err := w.one(d, `INSERT INTO decisions (at, what, run, playbook, by, ticket, reason, verdict)
		SELECT $1, $2, id, playbook, $4, $5, $6, $7 FROM runs WHERE id = $3`,
		d.At.UnixNano(), d.What, d.Run, d.By, d.Ticket, d.Reason, d.Verdict)
	line, ok := d.Logged()
	if err != nil || !ok {
		return err
	}
	return line.apply(w)
}

// Logged returns the decision as a line of its run's log, which is written together with
// it; false if it has none.
func (d Decided) Logged() (Logged, bool) {
	what := map[string]string{
		DecidedApprove: "approved", DecidedDeny: "denied", DecidedResume: "resumed", DecidedCancel: "cancel requested", DecidedUnlock: "locks released",
		DecidedCleanup: "clean-up requested", DecidedForget: "clean-up given up", DecidedRestore: "restored from a copy",
	}[d.What]
	if what == "" || d.Run == "" {
		return Logged{}, false
	}
	line := Logged{Stamp: d.Stamp, Level: "info", Message: strings.TrimSpace(what + " by " + d.By + " " + d.Verdict)}
	if d.Ticket+d.Reason == "" {
		return line, true
	}
	var err error
	line.Fields, err = json.Marshal(struct {
		Ticket string `json:"ticket,omitempty"`
		Reason string `json:"reason,omitempty"`
	}{d.Ticket, d.Reason})
	return line, err == nil
}

// Decisions returns the decisions about a run, all decisions for "", the oldest first.
func (j *Journal) Decisions(ctx context.Context, run string) ([]Decided, error) {
	if run == "" {
		return list(ctx, j, j.reads, scanDecided, decisionQuery+` ORDER BY seq`)
	}
	return list(ctx, j, j.reads, scanDecided, decidedQuery, run)
}

const decisionQuery = `SELECT at, what, run, playbook, by, ticket, reason, verdict FROM decisions`

func scanDecided(scan func(...any) error) (Decided, error) {
	var d Decided
	err := scan(at(&d.At), &d.What, word(&d.Run), &d.Playbook, &d.By, &d.Ticket, &d.Reason, &d.Verdict)
	return d, err
}

// DecideRun adopts a run for a decision about it, and writes what decide returns, in one
// transaction. If the run is no longer as read, or a process has adopted it since, it
// returns ErrStaleEpoch and changes nothing.
func (j *Journal) DecideRun(ctx context.Context, read Run, decide func(Stamp) ([]Record, error)) error {
	if j.w == nil {
		return closed()
	}
	stamp := Stamp{Run: read.ID, Epoch: read.Epoch + 1, At: j.clock.Now().UTC()}
	recs, err := decide(stamp)
	if err != nil {
		return err
	}
	return j.w.do(ctx, &request{fn: func(w *conn) error {
		if err := w.same(read); err != nil {
			return err
		}
		if _, err := w.adopt(read.ID); err != nil {
			return err
		}
		return w.applyAll(recs)
	}})
}

// same refuses a run that is no longer as it was read.
func (w *conn) same(read Run) error {
	k, err := w.remember(read.ID)
	if err != nil {
		return err
	}
	var status Status
	if err := w.row(`SELECT status FROM runs WHERE id = $1`, read.ID).Scan(&status); err != nil {
		return err
	}
	if k.epoch != read.Epoch || status != read.Status {
		return stale(read.ID)
	}
	return nil
}

func (w *conn) applyAll(recs []Record) error {
	for _, r := range recs {
		if err := r.apply(w); err != nil {
			return err
		}
	}
	return nil
}

// AskCancel records that a run must end. It does not reach the run's process: the one that
// works on it, or resumes it next, ends it. A second time changes nothing, and is not a
// decision unless its verdict is "now".
func (j *Journal) AskCancel(ctx context.Context, d Decided) error {
	if j.w == nil {
		return closed()
	}
	return j.w.do(ctx, &request{fn: func(w *conn) error {
		n, err := w.exec(`UPDATE runs SET cancel_at = $2 WHERE id = $1 AND ended_at IS NULL AND cancel_at IS NULL`, d.Run, d.At.UnixNano())
		if err != nil {
			return err
		}
		if n == 0 {
			if _, err := w.unended(d.Run); err != nil || d.Verdict != VerdictNow {
				return err
			}
		}
		return d.apply(w)
	}})
}

// Unlock releases the locks of a run that waits or is parked, and returns their names.
// A run that holds none is refused.
func (j *Journal) Unlock(ctx context.Context, d Decided) (names []string, err error) {
	err = j.decide(ctx, d, func(w *conn) error {
		status, err := w.unended(d.Run)
		if err != nil {
			return err
		}
		if err := w.row(`SELECT json_group_array(name) FROM (SELECT name FROM locks WHERE run = $1 ORDER BY name)`, d.Run).Scan(parsed(&names)); err != nil {
			return err
		}
		if len(names) == 0 {
			return &problem.Error{
				Kind: problem.Conflict, Code: problem.HoldsNone, Target: "run " + d.Run, Message: "it holds no lock", Work: problem.NotDone, Cause: ErrMisuse,
				Hint: "moonseal status names each lock that a run waits for, and the run that holds it",
			}
		}
		switch status {
		case Waiting, Parked:
			return w.releaseLocks(d.Run)
		default:
			return &problem.Error{
				Kind: problem.Conflict, Code: problem.RunWorking, Target: "run " + d.Run, Work: problem.NotDone, Cause: ErrMisuse,
				Message: "only a run that waits or is parked can be unlocked; it is " + string(status),
				Hint:    "moonseal cancel " + d.Run + " ends it, and releases its locks",
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return names, nil
}

// ForgetPlaybook forgets a playbook that has no unfinished run: overviews leave it out
// until it runs again, and its last run is kept no longer than others.
func (j *Journal) ForgetPlaybook(ctx context.Context, d Decided) error {
	return j.decide(ctx, d, func(w *conn) error {
		var runs int
		var open sql.NullString
		if err := w.row(`SELECT count(*), min(CASE WHEN ended_at IS NULL THEN id END) FROM runs WHERE playbook = $1`, d.Playbook).Scan(&runs, &open); err != nil {
			return err
		}
		switch {
		case runs == 0:
			return &problem.Error{
				Kind: problem.Usage, Code: problem.NoPlaybook, Message: fmt.Sprintf("no playbook %q has ever run", d.Playbook), Work: problem.NotDone, Cause: ErrMisuse,
				Hint: "moonseal status lists the playbooks",
			}
		case open.Valid:
			return &problem.Error{
				Kind: problem.Conflict, Code: problem.RunUnended, Target: d.Playbook, Message: "its run " + open.String + " has not ended", Work: problem.NotDone, Cause: ErrMisuse,
				Hint: "moonseal cancel " + open.String + " ends it",
			}
		}
		for _, table := range []string{"paused", "schedules", "playbooks"} {
			if _, err := w.exec(`DELETE FROM `+table+` WHERE playbook = $1`, d.Playbook); err != nil {
				return err
			}
		}
		return nil
	})
}

// Decide writes a decision that changes nothing by itself.
func (j *Journal) Decide(ctx context.Context, d Decided) error {
	return j.decide(ctx, d, func(*conn) error { return nil })
}

// decide writes a decision together with the change that follows from it.
func (j *Journal) decide(ctx context.Context, d Decided, change func(*conn) error) error {
	if j.w == nil {
		return closed()
	}
	return j.w.do(ctx, &request{fn: func(w *conn) error {
		if err := change(w); err != nil {
			return err
		}
		return d.apply(w)
	}})
}

// unended returns the status of a run, and refuses one that does not exist or has ended.
func (w *conn) unended(run string) (status Status, err error) {
	var ended sql.NullInt64
	if err := w.row(`SELECT status, ended_at FROM runs WHERE id = $1`, run).Scan(&status, &ended); err != nil {
		return "", noRunOr(run, err)
	}
	if ended.Valid {
		return "", Ended(Run{ID: run, Status: status})
	}
	return status, nil
}

// Ended returns the error of what only an unfinished run can do.
func Ended(r Run) error {
	e := &problem.Error{
		Kind: problem.Conflict, Code: problem.RunEnded, Target: "run " + r.ID, Message: "it has ended already: " + string(r.Status),
		Work: problem.NotDone, Cause: ErrMisuse,
	}
	if r.Playbook != "" {
		e.Hint = "moonseal run " + r.Playbook + " starts a new one"
	}
	return e
}

// Paused holds since when each playbook starts no runs by schedule; "" is for all.
type Paused map[string]time.Time

// Has reports whether a playbook is paused, by name or with all others.
func (p Paused) Has(playbook string) bool {
	_, all := p[""]
	_, one := p[playbook]
	return all || one
}

// Paused returns what is paused.
func (j *Journal) Paused(ctx context.Context) (Paused, error) {
	type row struct {
		playbook string
		since    time.Time
	}
	rows, err := list(ctx, j, j.reads, func(scan func(...any) error) (row, error) {
		var r row
		err := scan(&r.playbook, at(&r.since))
		return r, err
	}, `SELECT playbook, since FROM paused`)
	out := make(Paused, len(rows))
	for _, r := range rows {
		out[r.playbook] = r.since
	}
	return out, err
}

// Pause pauses d.Playbook, or all playbooks for "", or unpauses them, as d.What says.
func (j *Journal) Pause(ctx context.Context, d Decided) error {
	return j.decide(ctx, d, func(w *conn) error {
		query := `INSERT INTO paused (playbook, since) VALUES ($1, $2) ON CONFLICT (playbook) DO NOTHING`
		args := []any{d.Playbook, d.At.UnixNano()}
		if d.What == DecidedUnpause {
			query, args = `DELETE FROM paused WHERE playbook = $1`, args[:1]
		}
		_, err := w.exec(query, args...)
		return err
	})
}

// Scheduled is a playbook's schedule as text, and when it took effect.
type Scheduled struct {
	Schedule string    `json:"schedule"`
	Since    time.Time `json:"since"`
}

// Schedules returns the schedules that SetSchedules wrote, by playbook.
func (j *Journal) Schedules(ctx context.Context) (map[string]Scheduled, error) {
	type row struct {
		playbook string
		Scheduled
	}
	rows, err := list(ctx, j, j.reads, func(scan func(...any) error) (row, error) {
		var r row
		err := scan(&r.playbook, &r.Schedule, at(&r.Since))
		return r, err
	}, `SELECT playbook, schedule, since FROM schedules`)
	out := make(map[string]Scheduled, len(rows))
	for _, r := range rows {
		out[r.playbook] = r.Scheduled
	}
	return out, err
}

// SetSchedules persists when playbooks' schedules took effect, and drops those of playbooks
// that are gone, in one transaction.
func (j *Journal) SetSchedules(ctx context.Context, set map[string]Scheduled, gone []string) error {
	if j.w == nil {
		return closed()
	}
	if len(set)+len(gone) == 0 {
		return nil
	}
	return j.w.do(ctx, &request{fn: func(w *conn) error { return w.setSchedules(set, gone) }})
}

func (w *conn) setSchedules(set map[string]Scheduled, gone []string) error {
	for playbook, s := range set {
		_, err := w.exec(`INSERT INTO schedules (playbook, schedule, since) VALUES ($1, $2, $3)
			ON CONFLICT (playbook) DO UPDATE SET schedule = excluded.schedule, since = excluded.since`, playbook, s.Schedule, s.Since.UnixNano())
		if err != nil {
			return err
		}
	}
	for _, playbook := range gone {
		if _, err := w.exec(`DELETE FROM schedules WHERE playbook = $1`, playbook); err != nil {
			return err
		}
	}
	return nil
}

// Inherited is what older versions kept in files beside the journal.
type Inherited struct {
	Paused    map[string]bool      // playbooks; "" for all
	Cancelled map[string]bool      // runs that must end
	Schedules map[string]Scheduled // by playbook
}

// Inherit imports what older versions kept beside the journal, in one transaction.
func (j *Journal) Inherit(ctx context.Context, in Inherited) error {
	if j.w == nil {
		return closed()
	}
	now := j.clock.Now().UnixNano()
	return j.w.do(ctx, &request{fn: func(w *conn) error {
		for playbook, is := range in.Paused {
			if !is {
				continue
			}
			if _, err := w.exec(`INSERT INTO paused (playbook, since) VALUES ($1, $2) ON CONFLICT (playbook) DO NOTHING`, playbook, now); err != nil {
				return err
			}
		}
		for run, is := range in.Cancelled {
			if !is {
				continue
			}
			if _, err := w.exec(`UPDATE runs SET cancel_at = $2 WHERE id = $1 AND ended_at IS NULL AND cancel_at IS NULL`, run, now); err != nil {
				return err
			}
		}
		return w.setSchedules(in.Schedules, nil)
	}})
}

package daemon

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/alert"
	"moonseal/runtime/api"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/queue"
	"moonseal/runtime/reload"
	"moonseal/runtime/run"
	"moonseal/runtime/schedule"
)

// Records implements [api.Daemon].
func (d *Daemon) Records() api.Records { return d.journal }

// Secret implements [api.Daemon].
func (d *Daemon) Secret(ctx context.Context, name string) api.SecretState {
	return d.settings.now().Secret(ctx, name)
}

// statusReader assembles the status from the journal, the scripts, the schedule and the
// state directory.
type statusReader struct {
	journal  *journal.Journal
	scripts  *reload.Reloader
	schedule *schedule.Scheduler
	planner  *planner
	settings *settings
	storage  *storage
	clock    clockwork.Clock
	version  string
	since    time.Time // the daemon's start
}

// Status implements [api.Daemon].
func (d *Daemon) Status(ctx context.Context) (*api.Status, error) { return d.status.read(ctx) }

func (r *statusReader) read(ctx context.Context) (*api.Status, error) {
	views, err := r.journal.Overviews(ctx)
	if err != nil {
		return nil, err
	}
	undos, err := r.journal.Undos(ctx, journal.UndoPending)
	if err != nil {
		return nil, err
	}
	paused, err := r.journal.Paused(ctx)
	if err != nil {
		return nil, err
	}
	locks, err := r.journal.Locks(ctx)
	if err != nil {
		return nil, err
	}
	snapshot := r.scripts.Current()
	s := &api.Status{
		Version: r.version, Since: r.since, Paused: paused.Has(""), Scripts: snapshot.Problems,
		Config: r.settings.refusal(), State: r.storage.trouble.Load(),
	}
	for _, u := range undos {
		if u.Error != nil {
			s.Cleanups++
		}
	}
	names := map[string]bool{}
	for _, p := range snapshot.Playbooks {
		names[p.Name] = true
	}
	broken := map[string]unloadable{}
	for _, u := range unloadables(snapshot) {
		names[u.name], broken[u.name] = true, u
	}
	gone := map[string]bool{}
	for name := range views {
		gone[name] = !names[name] // until it is forgotten
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		p := r.playbook(snapshot, name, views[name])
		p.Paused, p.Gone = paused.Has(name), gone[name]
		if p.Running != nil {
			r.showLocks(p.Running, views[name], locks)
		}
		if u, is := broken[name]; is {
			p.Script, p.Error = u.file, u.error
		}
		s.Playbooks = append(s.Playbooks, p)
	}
	s.Problems = alert.Troubles(s, r.limits(), r.clock.Now())
	return s, nil
}

func (r *statusReader) limits() alert.Limits {
	a := r.settings.config().Alerts
	return alert.Limits{Expiring: time.Duration(a.Expiring), Waiting: time.Duration(a.Waiting)}
}

func (r *statusReader) playbook(snapshot *reload.Snapshot, name string, v *journal.Overview) api.PlaybookStatus {
	p := api.PlaybookStatus{Name: name, Warning: r.planner.warning(name)}
	if book := snapshot.Find(name); book != nil {
		p.Script, p.Bundle, p.Error = book.File, book.Hash, brokenScript(snapshot, name)
		if next := r.schedule.Next(name); !next.IsZero() {
			p.NextRun = &next
		}
	}
	if v == nil {
		return p
	}
	p.Served = servedOf(v.Records)
	if l := v.Last; l != nil {
		p.LastRun = &api.LastRun{ID: l.ID, Status: l.Status, Ended: l.Ended, Error: l.Error, Reason: l.Reason, Left: l.Left}
	}
	if u := v.Unfinished; u != nil {
		p.Running = runningOf(u, v)
	}
	return p
}

func runningOf(u *journal.Run, v *journal.Overview) *api.Running {
	r := &api.Running{ID: u.ID, Status: u.Status, Step: v.Step, Since: v.StepSince, Error: u.Error}
	if r.Since.IsZero() {
		r.Since = u.Created
	}
	if !u.FailingSince.IsZero() {
		r.Failing = &u.FailingSince
	}
	switch u.Status {
	case journal.Waiting:
		r.WaitsFor, r.Since = u.WaitFor, u.Updated
		if !u.WakeAt.IsZero() && u.WaitFor != control.WaitWorker {
			r.Until = &u.WakeAt
		}
	case journal.Parked:
		r.WaitsFor, r.Since = api.WaitsDecision+u.Reason, u.Updated
	case journal.Created:
		r.WaitsFor = control.WaitWorker
	default: // it waits for nothing
	}
	return r
}

// found is what a script recorded about one subject.
type found struct {
	Subject  string
	SHA256   string // served
	NotAfter time.Time
	// Installed is the fingerprint of what is installed.
	Installed  string
	Issuer     string
	SelfSigned bool
	Next       *time.Time
}

// seen decodes a record that ctx:record wrote.
func seen(rec journal.RecordedRow) found {
	type certificate struct {
		SHA256     string  `json:"sha256"`
		NotAfter   float64 `json:"not_after"`
		Issuer     string  `json:"issuer"`
		SelfSigned bool    `json:"self_signed"`
	}
	var r struct {
		Subject   string       `json:"subject"`
		Installed *certificate `json:"installed"`
		Served    *certificate `json:"served"`
		Next      float64      `json:"next"`
	}
	if err := json.Unmarshal(rec.Data, &r); err != nil {
		return found{} // a script may record other things than certificates
	}
	f := found{Subject: r.Subject}
	if r.Installed != nil {
		f.Installed = r.Installed.SHA256
		f.NotAfter = fromUnix(r.Installed.NotAfter)
	}
	if r.Served != nil {
		f.SHA256, f.NotAfter = r.Served.SHA256, fromUnix(r.Served.NotAfter)
		f.Issuer, f.SelfSigned = r.Served.Issuer, r.Served.SelfSigned
	}
	if r.Next > 0 {
		at := fromUnix(r.Next)
		f.Next = &at
	}
	return f
}

func fromUnix(seconds float64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(seconds * 1e6)).UTC()
}

// servedOf returns what each subject served last, in the order of the records.
func servedOf(records []journal.RecordedRow) []api.Served {
	var out []api.Served
	for _, rec := range records {
		f := seen(rec)
		if f.SHA256 == "" {
			continue
		}
		s := api.Served{Subject: f.Subject, SHA256: f.SHA256, NotAfter: f.NotAfter, Issuer: f.Issuer, SelfSigned: f.SelfSigned, Seen: rec.At, Next: f.Next}
		if f.Installed != f.SHA256 {
			s.Installed = f.Installed
		}
		i := slices.IndexFunc(out, func(o api.Served) bool { return o.Subject == s.Subject })
		if i < 0 {
			out = append(out, s)
			continue
		}
		out[i] = s
	}
	return out
}

// outcomeLine returns level and arguments of the log line of a run that ended or stopped.
func outcomeLine(j queue.Job, out *run.Outcome) (slog.Level, []any) {
	args := []any{"run", j.Run, "playbook", j.Playbook}
	if out.Reason != "" {
		args = append(args, "reason", out.Reason)
	}
	if !out.Until.IsZero() {
		args = append(args, "until", out.Until.Format(time.RFC3339))
	}
	if out.Error != nil {
		args = append(args, "error", out.Error.Error())
		if out.Error.Hint != "" {
			args = append(args, "hint", out.Error.Hint)
		}
	}
	switch {
	case out.Status == journal.Failed || out.Status == journal.Parked:
		return slog.LevelError, args
	case out.Error != nil && out.Error.Kind != problem.Script:
		return slog.LevelWarn, args
	default:
		return slog.LevelInfo, args
	}
}

package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"moonseal/runtime/alert"
	"moonseal/runtime/bundle"
	"moonseal/runtime/config"
	"moonseal/runtime/control"
	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
	"moonseal/runtime/schedule"
	"moonseal/runtime/worker"
)

// setClock is a clock that can be set, as a person or NTP does: timers continue as
// if nothing were.
type setClock struct {
	*clockwork.FakeClock

	ahead atomic.Int64
}

func (c *setClock) set(by time.Duration) { c.ahead.Add(int64(by)) }

func (c *setClock) Now() time.Time {
	return c.FakeClock.Now().Add(time.Duration(c.ahead.Load()))
}

func (c *setClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }
func (c *setClock) Until(t time.Time) time.Duration { return t.Sub(c.Now()) }

// patience bounds everything that a test waits for.
const patience = 30 * time.Second

// script is what a file of the scripts folder holds here, as JSON: loading and
// running are the tests' own.
type script struct {
	Schedule any      `json:"schedule,omitempty"`
	Window   any      `json:"window,omitempty"`
	Locks    []string `json:"locks,omitempty"`
	Does     string   `json:"does,omitempty"` // see fakeExecutor.Resume
	Next     string   `json:"next,omitempty"` // it asks for a moment this much later, once
	Ends     string   `json:"ends,omitempty"` // each of its runs records a certificate that ends this much later
}

// call is one time that the executor took a run up.
type call struct {
	run, playbook, mode string
	at                  time.Time
	changed             bool // the outside world
}

// fakeExecutor runs runs as a child would: it writes the records that the
// child's work would, and obeys its context.
type fakeExecutor struct {
	clock   clockwork.Clock
	journal *journal.Journal
	observe func(journal.Record)

	mu      sync.Mutex
	calls   []call
	active  map[string]bool   // runs
	holds   map[string]string // locks, and the run that has made a disruptive change under them
	errors  []string
	changed chan struct{}            // closed at the next change of what is above
	gates   map[string]chan struct{} // by playbook: its runs wait until it is closed
	linger  chan struct{}            // not nil: what has stopped ends when it is closed
	loadErr error
	taken   bool // the next run is adopted by another process as soon as it is resumed
}

func newFakeExecutor(clock clockwork.Clock) *fakeExecutor {
	return &fakeExecutor{clock: clock, active: map[string]bool{}, holds: map[string]string{}, changed: make(chan struct{}), gates: map[string]chan struct{}{}}
}

func (*fakeExecutor) Drain() {}

func (*fakeExecutor) Hurry(string) {}

func (e *fakeExecutor) update(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
	close(e.changed)
	e.changed = make(chan struct{})
}

// hold makes the playbook's runs wait, half-way, until the function is called.
func (e *fakeExecutor) hold(playbook string) (release func()) {
	gate := make(chan struct{})
	e.update(func() { e.gates[playbook] = gate })
	return sync.OnceFunc(func() {
		e.update(func() { delete(e.gates, playbook) })
		close(gate)
	})
}

// await waits until what is true of the executor.
func (e *fakeExecutor) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	late := time.After(patience)
	for {
		e.mu.Lock()
		ok, changed := is(), e.changed
		e.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("it never happens: %s", what)
		}
	}
}

func (e *fakeExecutor) Load(_ context.Context, job worker.Job) (*worker.Loaded, error) {
	if e.loadErr != nil {
		return nil, e.loadErr
	}
	out := &worker.Loaded{}
	for _, file := range slices.Sorted(maps.Keys(job.Files)) {
		s, err := parseScript(job.Files[file])
		if err != nil {
			out.Problems = append(out.Problems, &problem.Error{Kind: problem.Script, Message: err.Error(), Place: &problem.Place{File: file, Line: 1}})
			continue
		}
		sum := sha256.Sum256([]byte(file + "\n" + job.Files[file]))
		out.Playbooks = append(out.Playbooks, &bundle.Playbook{
			Name: strings.TrimSuffix(file, ".lua"), File: file, Line: 1, Hash: hex.EncodeToString(sum[:]), Needs: []string{file},
			Schedule: s.Schedule, Window: s.Window, Locks: s.Locks,
		})
	}
	return out, nil
}

func parseScript(text string) (script, error) {
	var s script
	err := json.Unmarshal([]byte(text), &s)
	return s, err
}

// Resume resumes a run. What its script does is:
//
//	""         it changes something, within its window, and is done
//	"approve"  it waits for approval first
//	"park"     it makes a call whose outcome cannot be known
//	"wait"     it waits for a week
//	"retry"    it waits for an hour after its change, and then makes another one
//	"fail"     it fails
//
// With locks the change is a disruptive one; "park" makes another one when it was resumed.
func (e *fakeExecutor) Resume(ctx context.Context, job worker.Job, id string) (out *run.Outcome, err error) {
	h, s, err := e.take(ctx, id)
	if err != nil {
		return nil, err
	}
	name := h.Run.Playbook
	c := call{run: id, playbook: name, mode: string(job.Mode), at: e.clock.Now()}
	var gate chan struct{}
	e.update(func() {
		if e.active["run "+id] {
			e.errors = append(e.errors, fmt.Sprintf("run %s of %s is worked on twice at once", id, name))
		}
		e.active["run "+id] = true
		gate = e.gates[name]
	})
	defer e.update(func() {
		delete(e.active, "run "+id)
		e.calls = append(e.calls, c)
	})
	cancelled := !h.Run.CancelAsked.IsZero()
	if cancelled {
		c.mode = string(run.Cancel)
	}
	if err := e.recordEnd(h, s); err != nil {
		return nil, err
	}
	if s.Does == "" && s.Window == nil && !cancelled {
		if out, err := e.disrupt(h, s, disruptStep); out != nil || err != nil {
			return out, err
		}
	}
	if gate != nil && !cancelled {
		select {
		case <-gate:
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), run.ErrCancelled) {
				return nil, context.Cause(ctx)
			}
			cancelled = true
		}
	}
	if cancelled {
		return e.end(h, journal.Cancelled)
	}
	out, err = e.do(h, s, &c)
	var linger chan struct{}
	e.update(func() { linger = e.linger })
	if linger != nil {
		<-linger
	}
	return out, err
}

// take adopts the run and returns it with its script.
func (e *fakeExecutor) take(ctx context.Context, id string) (*journal.History, script, error) {
	r, err := e.journal.Run(ctx, id)
	if err != nil {
		return nil, script{}, err
	}
	sources, err := e.journal.Sources(ctx, r.Bundle)
	if err != nil || len(sources) != 1 {
		return nil, script{}, fmt.Errorf("%d sources: %w", len(sources), err)
	}
	s, err := parseScript(string(sources[0].Body))
	if err != nil {
		return nil, s, err
	}
	if _, err := e.journal.Adopt(ctx, id); err != nil {
		return nil, s, err
	}
	h, err := e.journal.History(ctx, id)
	if err != nil {
		return nil, s, err
	}
	taken := false
	e.update(func() { taken, e.taken = e.taken, false })
	if taken {
		if _, err := e.journal.Adopt(ctx, id); err != nil {
			return nil, s, err
		}
	}
	return h, s, e.write(h, journal.RunResumed{Stamp: e.stamp(h)})
}

func (e *fakeExecutor) do(h *journal.History, s script, c *call) (*run.Outcome, error) {
	open := len(h.Steps) > 0 && h.Steps[0].State == journal.StepRunning
	started := journal.StepStarted{Stamp: e.stamp(h), Kind: "step", Name: "changing", Attempt: 1}
	switch s.Does {
	case "approve":
		switch {
		case len(h.Steps) > 0 && h.Steps[0].State == journal.StepIsFailed:
			return e.end(h, journal.Failed)
		case len(h.Steps) == 0:
			started.Kind, started.Name, started.Key = "approve", "approve", "go?"
			return e.wait(h, run.WaitApproval+": go?", time.Time{}, started)
		case open:
			return e.wait(h, run.WaitApproval+": go?", time.Time{})
		}
	case "park":
		if out, err := e.disrupt(h, s, disruptStep); out != nil || err != nil {
			return out, err
		}
		if !slices.ContainsFunc(h.Steps, func(s journal.Step) bool { return s.Step == 0 }) {
			mark := journal.EffectMarked{Stamp: e.stamp(h), Fn: "cucm.Node:upload", Args: json.RawMessage("{}")}
			reason := "nobody can tell"
			return &run.Outcome{Status: journal.Parked, Reason: reason}, e.write(h, started, mark, journal.RunParked{Stamp: e.stamp(h), Reason: reason})
		}
		if out, err := e.disrupt(h, s, disruptStep+1); out != nil || err != nil {
			return out, err
		}
	case "retry":
		first := !disrupted(h, disruptStep)
		if out, err := e.disrupt(h, s, disruptStep); out != nil || err != nil {
			return out, err
		}
		if first {
			return e.wait(h, "retry of changing", e.clock.Now().Add(time.Hour))
		}
		if out, err := e.disrupt(h, s, disruptStep+1); out != nil || err != nil {
			return out, err
		}
	case "wait":
		if len(h.Steps) == 0 {
			return e.wait(h, "poll", e.clock.Now().Add(7*24*time.Hour), started)
		}
	case "fail":
		return e.end(h, journal.Failed)
	}
	if s.Window != nil {
		w, err := schedule.ParseWindow(s.Window)
		if err != nil {
			return nil, err
		}
		if !w.Open(e.clock.Now()) {
			opens, _ := w.Next(e.clock.Now())
			return e.wait(h, "window", opens)
		}
	}
	if out, err := e.disrupt(h, s, disruptStep); out != nil || err != nil {
		return out, err
	}
	c.changed = true
	return e.endAsking(h, s)
}

// disruptStep is the step in which a script with locks makes its first disruptive
// change; the next step is that of its second one.
const disruptStep = 7

// disrupt marks a change for which a script needs its locks, unless that was done; if
// another run holds one of them the run waits.
func (e *fakeExecutor) disrupt(h *journal.History, s script, step int) (*run.Outcome, error) {
	if len(s.Locks) == 0 || disrupted(h, step) {
		return nil, nil
	}
	started := journal.StepStarted{Stamp: e.stamp(h), Step: step, Kind: "step", Name: "disrupting", Attempt: 1}
	err := e.write(h, started, journal.EffectMarked{Stamp: e.stamp(h), Step: step, Fn: "f", Disruptive: true})
	if problem.HasCode(err, problem.LockHeld) {
		held := problem.From(err)
		return e.wait(h, held.Target+", "+held.Message, time.Time{})
	}
	if err != nil {
		return nil, err
	}
	h.Effects = append(h.Effects, journal.Effect{Step: step})
	e.update(func() {
		for _, lock := range h.Run.Locks {
			if by := e.holds[lock]; by != "" && by != h.Run.ID {
				e.errors = append(e.errors, fmt.Sprintf("lock %s is held by %s and by %s", lock, by, h.Run.ID))
			}
			e.holds[lock] = h.Run.ID
		}
	})
	return nil, e.write(h, journal.EffectDone{Stamp: e.stamp(h), Step: step}, journal.StepDone{Stamp: e.stamp(h), Step: step})
}

func disrupted(h *journal.History, step int) bool {
	return slices.ContainsFunc(h.Effects, func(f journal.Effect) bool { return f.Step == step })
}

// recordEnd records when the script's certificate ends, once in a run.
func (e *fakeExecutor) recordEnd(h *journal.History, s script) error {
	if s.Ends == "" || len(h.Records) > 0 {
		return nil
	}
	after, err := time.ParseDuration(s.Ends)
	if err != nil {
		return err
	}
	data := fmt.Sprintf(`{"subject": "x", "served": {"sha256": "s", "not_after": %d}}`, e.clock.Now().Add(after).Unix())
	return e.write(h, journal.Recorded{Stamp: e.stamp(h), Data: json.RawMessage(data)})
}

func (e *fakeExecutor) endAsking(h *journal.History, s script) (*run.Outcome, error) {
	if s.Next != "" && !h.Run.Force {
		after, err := time.ParseDuration(s.Next)
		if err != nil {
			return nil, err
		}
		data := fmt.Sprintf(`{"subject": "x", "next": %d}`, e.clock.Now().Add(after).Unix())
		if err := e.write(h, journal.Recorded{Stamp: e.stamp(h), Data: json.RawMessage(data)}); err != nil {
			return nil, err
		}
	}
	return e.end(h, journal.Done)
}

func (e *fakeExecutor) wait(h *journal.History, what string, until time.Time, before ...journal.Record) (*run.Outcome, error) {
	rec := journal.RunWaiting{Stamp: e.stamp(h), For: what, Until: until.UTC()}
	if until.IsZero() {
		rec.Until = time.Time{}
	}
	return &run.Outcome{Status: journal.Waiting, Reason: what, Until: rec.Until}, e.write(h, append(before, rec)...)
}

func (e *fakeExecutor) end(h *journal.History, s journal.Status) (*run.Outcome, error) {
	var recs []journal.Record
	if h.Run.Outcome == "" {
		recs = append(recs, journal.RunEnding{Stamp: e.stamp(h), Outcome: s})
	} else {
		s = h.Run.Outcome
	}
	e.update(func() {
		maps.DeleteFunc(e.holds, func(_, by string) bool { return by == h.Run.ID })
	})
	return &run.Outcome{Status: s}, e.write(h, append(recs, journal.RunEnded{Stamp: e.stamp(h)})...)
}

func (e *fakeExecutor) stamp(h *journal.History) journal.Stamp {
	return journal.Stamp{Run: h.Run.ID, Epoch: h.Run.Epoch, At: e.clock.Now().UTC()}
}

func (e *fakeExecutor) write(_ *journal.History, recs ...journal.Record) error {
	if err := e.journal.Write(context.Background(), recs...); err != nil {
		return err
	}
	for _, r := range recs {
		e.observe(r)
	}
	return nil
}

// line is a line of the daemon's log.
type line struct {
	message string
	args    map[string]string
}

// lines collects the daemon's log.
type lines struct {
	mu  sync.Mutex
	all []line
}

func (*lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler     { return l }
func (l *lines) WithGroup(string) slog.Handler          { return l }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	out := line{message: r.Message, args: map[string]string{"level": r.Level.String()}}
	r.Attrs(func(a slog.Attr) bool {
		out.args[a.Key] = a.Value.String()
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, out)
	return nil
}

// of returns the lines with the message.
func (l *lines) of(message string) []line {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []line
	for _, e := range l.all {
		if e.message == message {
			out = append(out, e)
		}
	}
	return out
}

// house is a state directory, a scripts folder, and the daemon that lives there.
type house struct {
	t      *testing.T
	clock  *setClock
	cfg    *config.Config
	exec   *fakeExecutor
	log    *lines
	daemon *Daemon
	stop   func() // ends Serve, and waits for it
	send   alert.Send
	load   func() (*config.Config, error) // nil: cfg
	// makeParts makes the daemon's parts; nil: of exec and send.
	makeParts func(*config.Config, *journal.Journal, *control.Control, func(journal.Record)) (Parts, error)

	mu       sync.Mutex
	notified []string
}

func newHouse(t *testing.T, at time.Time) *house {
	t.Helper()
	clock := &setClock{FakeClock: clockwork.NewFakeClockAt(at)}
	h := &house{t: t, clock: clock, exec: newFakeExecutor(clock), log: &lines{}}
	dir := t.TempDir()
	h.cfg = &config.Config{
		Scripts: filepath.Join(dir, "scripts"), State: filepath.Join(dir, "state"), Concurrency: 8, StopTimeout: config.Duration(time.Millisecond),
		LockPatience: config.Duration(4 * time.Hour),
	}
	h.check(os.MkdirAll(h.cfg.Scripts, 0o700))
	return h
}

func (h *house) check(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) options() Options {
	load, parts := h.load, h.makeParts
	if load == nil {
		load = func() (*config.Config, error) { return h.cfg, nil }
	}
	if parts == nil {
		parts = h.parts
	}
	return Options{
		Config: h.cfg, LoadConfig: load, Parts: parts,
		Clock: h.clock, Log: slog.New(h.log), Version: "test",
		Notify: func(state string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.notified = append(h.notified, state)
		},
	}
}

func (h *house) parts(_ *config.Config, j *journal.Journal, _ *control.Control, observe func(journal.Record)) (Parts, error) {
	h.exec.journal, h.exec.observe = j, observe
	return Parts{Executor: h.exec, Send: h.send}, nil
}

// start opens the daemon and lets it serve.
func (h *house) start() {
	h.t.Helper()
	ready := make(chan struct{})
	opt := h.options()
	notify := opt.Notify
	opt.Notify = func(state string) {
		notify(state)
		if strings.HasPrefix(state, "READY=1") {
			select {
			case <-ready:
			default:
				close(ready)
			}
		}
	}
	d, err := Open(h.t.Context(), opt)
	h.check(err)
	// The name of a socket is short; a test's folder has a long one.
	l, err := (&net.ListenConfig{}).Listen(h.t.Context(), "unix", "")
	h.check(err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- d.Serve(ctx, l) }()
	h.daemon = d
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			h.t.Error(err)
		}
	})
	h.t.Cleanup(h.stop)
	select {
	case <-ready:
	case <-time.After(patience):
		h.t.Fatal("the daemon does not get ready")
	}
}

func (h *house) script(name string, s script) {
	h.t.Helper()
	text, err := json.Marshal(s)
	h.check(err)
	h.file(name+".lua", string(text))
}

func (h *house) file(name, text string) {
	h.t.Helper()
	path := filepath.Join(h.cfg.Scripts, name)
	h.check(os.MkdirAll(filepath.Dir(path), 0o700)) // a tenant's
	h.check(os.WriteFile(path, []byte(text), 0o600))
}

func (h *house) reload() {
	h.t.Helper()
	_, err := h.daemon.Reload(h.t.Context())
	h.check(err)
}

// idle waits until nothing is worked on and nothing is due.
func (h *house) idle() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	if err := h.daemon.queue.Idle(ctx); err != nil {
		h.t.Fatalf("not idle: %v; running %v, waiting %v", err, h.daemon.queue.Running(), h.daemon.queue.Waiting())
	}
}

// runs returns all runs, the oldest first.
func (h *house) runs() []journal.Run {
	h.t.Helper()
	runs, err := h.daemon.journal.Runs(h.t.Context(), journal.Filter{})
	h.check(err)
	slices.Reverse(runs)
	return runs
}

// sound checks that nothing was worked on twice at once.
func (h *house) sound() {
	h.t.Helper()
	h.exec.mu.Lock()
	defer h.exec.mu.Unlock()
	for _, e := range h.exec.errors {
		h.t.Error(e)
	}
}

// passes lets time pass, from one thing that happens to the next.
func (h *house) passes(d time.Duration) {
	h.t.Helper()
	for end := h.clock.Now().Add(d); h.clock.Now().Before(end); {
		h.next(end)
		h.settle()
	}
}

// next lets time pass until the next run is due or a waiting one continues, or
// until end, and waits until what is due was enqueued.
func (h *house) next(end time.Time) {
	h.t.Helper()
	var moments []time.Time
	for _, p := range h.daemon.reload.Current().Playbooks {
		if at := h.daemon.schedule.Next(p.Name); !at.IsZero() {
			moments = append(moments, at)
		}
	}
	next := end
	for _, at := range moments {
		if at.Before(next) {
			next = at
		}
	}
	for _, w := range h.daemon.queue.Waiting() {
		if w.Lock == "" && w.At.Before(next) {
			next = w.At
		}
	}
	want := h.dues()
	for _, at := range moments {
		if !at.After(next) {
			want++
		}
	}
	h.advance(next)
	h.due(want)
}

func (h *house) advance(to time.Time) {
	if by := to.Sub(h.clock.Now()); by > 0 {
		h.clock.Advance(by)
	}
}

// dues counts what the scheduler has enqueued so far.
func (h *house) dues() int {
	return len(h.log.of("run started")) + len(h.log.of("run skipped: the last one is unfinished"))
}

// due waits until so much was enqueued.
func (h *house) due(n int) {
	h.t.Helper()
	late := time.Now().Add(patience)
	for h.dues() < n {
		if time.Now().After(late) {
			h.t.Fatalf("at %s: %d runs were due, want %d", h.clock.Now(), h.dues(), n)
		}
		h.nudge()
	}
}

// settle waits until nothing is worked on and nothing is due.
func (h *house) settle() {
	h.t.Helper()
	late := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		err := h.daemon.queue.Idle(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(late) {
			h.t.Fatalf("not idle: running %v, waiting %v", h.daemon.queue.Running(), h.daemon.queue.Waiting())
		}
		h.nudge()
	}
}

// nudge lets a little time pass for timers that were set just after an advance.
func (h *house) nudge() {
	h.clock.Advance(time.Millisecond)
	timer := time.NewTimer(time.Millisecond)
	<-timer.C
}

// drifts lets time pass in small steps, until it is so, for d at most.
func (h *house) drifts(d time.Duration, so func() bool) {
	h.t.Helper()
	late := time.Now().Add(patience)
	end := h.clock.Now().Add(d)
	for !so() {
		if !h.clock.Now().Before(end) && time.Now().After(late) {
			h.t.Fatalf("it does not happen; it is %s", h.clock.Now())
		}
		switch now := h.clock.Now(); {
		case now.Before(end):
			h.clock.Advance(5 * time.Minute)
		case now.Before(end.Add(spread)): // what was noticed at the end only is caught up
			h.clock.Advance(time.Second)
		}
		h.nudge()
	}
}

// spread is over how long the scheduler spreads what it catches up, and a little more.
const spread = 2 * time.Minute

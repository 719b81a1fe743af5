package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// progress shows a run while it goes on. On a terminal the step that runs is a
// line that is written again and again; into a pipe there is a line for each
// thing that happened; with --json that line is JSON.
type progress struct {
	app  *app
	w    io.Writer
	json bool
	live bool
	min  slog.Level // of the log lines that are shown

	mu       sync.Mutex
	steps    map[int]*shownStep
	current  *shownStep
	cleaning bool
	ticking  sync.WaitGroup
	stop     chan struct{}
}

type shownStep struct {
	name    string
	attempt int
	since   time.Time
}

const tick = 100 * time.Millisecond

func (a *app) newProgress(asJSON bool, level slog.Level) *progress {
	p := &progress{app: a, w: a.stdout, json: asJSON, min: level, steps: map[int]*shownStep{}, stop: make(chan struct{})}
	if f, ok := a.stdout.(*os.File); ok && !asJSON && term.IsTerminal(int(f.Fd())) {
		p.live = true
		p.ticking.Go(p.redraw)
	}
	return p
}

func (p *progress) close() {
	close(p.stop)
	p.ticking.Wait()
}

func (p *progress) redraw() {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.mu.Lock()
			p.draw()
			p.mu.Unlock()
		case <-p.stop:
			return
		}
	}
}

// draw writes the step that runs as the terminal's last line.
func (p *progress) draw() {
	if p.live && p.current != nil {
		s := p.current
		_, _ = fmt.Fprintf(p.w, "\r\x1b[K  %-26s … %s", s.name, s.state(p.app.clock.Since(s.since)))
	}
}

func (s *shownStep) state(since time.Duration) string {
	text := since.Round(tick).String()
	if s.attempt > 1 {
		text += fmt.Sprintf("  attempt %d", s.attempt)
	}
	return text
}

// line writes a finished line.
func (p *progress) line(format string, args ...any) {
	clear := ""
	if p.live {
		clear = "\r\x1b[K"
	}
	_, _ = fmt.Fprintf(p.w, clear+format+"\n", args...)
	p.draw()
}

type event struct {
	Event   string          `json:"event"`
	Run     string          `json:"run,omitempty"`
	Name    string          `json:"playbook,omitempty"`
	Step    string          `json:"step,omitempty"`
	Status  string          `json:"status,omitempty"`
	Attempt int             `json:"attempt,omitempty"`
	Seconds float64         `json:"seconds,omitempty"`
	Level   string          `json:"level,omitempty"`
	Message string          `json:"message,omitempty"`
	Fields  json.RawMessage `json:"fields,omitempty"`
	Until   *time.Time      `json:"until,omitempty"`
	Error   *problem.Error  `json:"error,omitempty"`
}

func (p *progress) begin(playbook, id string, resumed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	verb := "run"
	if resumed {
		verb = "going on with run"
	}
	if p.json {
		_ = writeJSON(p.w, event{Event: "begin", Run: id, Name: playbook, Status: map[bool]string{true: "resumed", false: "new"}[resumed]})
		return
	}
	p.line("%s: %s %s", playbook, verb, id)
}

// record shows a record that the journal has.
func (p *progress) record(rec journal.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch r := rec.(type) {
	case journal.StepStarted:
		s := p.steps[r.Step]
		if s == nil {
			s = &shownStep{name: r.Name, since: r.At}
			if r.Key != "" && r.Kind != "sleep" {
				s.name += "[" + r.Key + "]"
			}
			p.steps[r.Step] = s
		}
		s.attempt = r.Attempt
		p.current = s
		p.draw()
	case journal.StepDone:
		p.ended(r.Step, "done", r.At, nil)
	case journal.StepFailed:
		p.failed(r)
	case journal.UndoDone:
		p.cleanUp("")
	case journal.UndoFailed:
		p.cleanUp(r.Error.Error())
	case journal.RunEnding:
		p.current = nil
		if r.Outcome != journal.Skipped {
			p.cleanUp("")
		}
	case journal.Logged:
		p.logged(r)
	}
}

func (p *progress) ended(n int, status string, at time.Time, e *problem.Error) {
	s := p.steps[n]
	if s == nil {
		return
	}
	took := at.Sub(s.since)
	p.current = nil
	if p.json {
		_ = writeJSON(p.w, event{Event: "step", Step: s.name, Status: status, Attempt: s.attempt, Seconds: took.Seconds(), Error: e})
		return
	}
	attempt := ""
	if s.attempt > 1 {
		attempt = fmt.Sprintf("  (attempt %d)", s.attempt)
	}
	p.line("  %-26s %s  %s%s", s.name, status, shortTime(took), attempt)
}

func shortTime(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func (p *progress) failed(r journal.StepFailed) {
	status := "failed"
	if !r.Final {
		status = "retrying"
	}
	current := p.current
	p.ended(r.Step, status, r.At, r.Error)
	if !r.Final {
		p.current = current
	}
	if !p.json {
		p.line("    %s", r.Error)
		p.draw()
	}
}

// cleanUp shows the status cleaning_up, once, and each undo that failed.
func (p *progress) cleanUp(failed string) {
	if !p.cleaning {
		p.cleaning = true
		if p.json {
			_ = writeJSON(p.w, event{Event: "step", Step: "cleaning_up", Status: "done"})
		} else {
			p.line("  %-26s done", "cleaning_up")
		}
	}
	if failed != "" && !p.json {
		p.line("    clean-up failed, and is kept: %s", failed)
	}
}

func (p *progress) logged(r journal.Logged) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(r.Level)); err != nil || level < p.min || strings.Contains(string(r.Fields), `"`+run.EventKey+`":`) {
		return // what the other records tell is shown already
	}
	if p.json {
		_ = writeJSON(p.w, event{Event: "log", Step: r.Step, Level: r.Level, Message: r.Message, Fields: r.Fields})
		return
	}
	p.line("    %s: %s%s", r.Level, r.Message, fieldText(r.Fields))
}

// fieldText gives a log line's fields as key=value.
func fieldText(raw json.RawMessage) string {
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	if _, err := dec.Token(); err != nil {
		return ""
	}
	var b strings.Builder
	for dec.More() {
		key, err := dec.Token()
		var value any
		if err != nil || dec.Decode(&value) != nil {
			break
		}
		fmt.Fprintf(&b, "  %v=%v", key, value)
	}
	return b.String()
}

func (p *progress) waiting(out *run.Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.json {
		_ = writeJSON(p.w, event{Event: "waiting", Message: out.Reason, Until: &out.Until, Error: out.Error})
		return
	}
	p.line("  waiting until %s: %s", out.Until.Local().Format(time.DateTime), out.Reason)
}

// outcome says how the run ended or stopped.
func (p *progress) outcome(name, id string, out *run.Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = nil
	if p.json {
		e := event{Event: "end", Run: id, Name: name, Status: string(out.Status), Message: out.Reason, Error: out.Error}
		if !out.Until.IsZero() {
			e.Until = &out.Until
		}
		_ = writeJSON(p.w, e)
		return
	}
	switch out.Status {
	case journal.Done:
		p.line("  %-26s done", "completed")
	case journal.Skipped:
		p.line("  %-26s %s", "skipped", out.Reason)
	case journal.Waiting:
		p.line("  %-26s until %s: %s", "waiting", out.Until.Local().Format(time.DateTime), out.Reason)
		p.explain(out.Error, "moonseal run "+name+" goes on at once; moonseal cancel "+id+" gives up and cleans up")
	case journal.Parked:
		p.line("  %-26s %s", "parked", out.Reason)
		p.explain(out.Error, "look at the appliance, then moonseal cancel "+id+", or with --retry to start anew")
	default:
		p.line("  %-26s", out.Status)
		p.explain(out.Error, "moonseal logs "+id+" shows the whole run")
	}
}

// explain says on stderr what went wrong and what to do.
func (p *progress) explain(e *problem.Error, next string) {
	if e != nil {
		p.app.printError(e)
	}
	_, _ = fmt.Fprintf(p.app.stderr, "hint: %s\n", next)
}

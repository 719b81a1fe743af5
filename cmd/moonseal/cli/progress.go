package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/term"

	"moonseal/runtime/journal"
	"moonseal/runtime/plain"
	"moonseal/runtime/problem"
	"moonseal/runtime/run"
)

// progress shows a run while it is under way. On a terminal the running step is a line
// that is redrawn; into a pipe there is a line for each thing that happened; with --json
// that line is JSON.
type progress struct {
	out    *outbox // text is escaped before it gets there
	stderr io.Writer
	clock  clockwork.Clock
	file   *os.File // what out leads to, if that is a terminal
	json   bool
	live   bool
	min    slog.Level // of the log lines that are shown

	mu       sync.Mutex
	steps    map[int]*shownStep
	current  *shownStep
	held     *problem.Error // what the last attempt failed with, not yet shown
	cleaning *shownStep     // the clean-up that is under way
	left     map[int]*problem.Error
	ticking  sync.WaitGroup
	stop     chan struct{}
}

type shownStep struct {
	name    string
	attempt int
	since   time.Time
}

const tick = 100 * time.Millisecond

// eraseLine moves to the start of the terminal's line and erases it.
const eraseLine = "\r\x1b[K"

func (a *app) newProgress(asJSON bool, level slog.Level) *progress {
	raw := plain.Raw(a.stdout)
	p := &progress{
		out: newOutbox(raw, leftOut(asJSON)), stderr: a.stderr, clock: a.clock, json: asJSON, min: level,
		steps: map[int]*shownStep{}, left: map[int]*problem.Error{}, stop: make(chan struct{}),
	}
	if f, ok := raw.(*os.File); ok && !asJSON && term.IsTerminal(int(f.Fd())) {
		p.live, p.file = true, f
		p.ticking.Go(p.redraw)
	}
	return p
}

// leftOut returns what reports left-out lines, in the form of the others.
func leftOut(asJSON bool) func(io.Writer, int) {
	return func(w io.Writer, lines int) {
		text := fmt.Sprintf("%d lines left out: the reader was too slow", lines)
		if asJSON {
			writeEvent(w, event{Event: "left_out", Message: text})
			return
		}
		_, _ = fmt.Fprintln(w, "… "+text)
	}
}

// close returns once all is written: it comes after all that a reader must not hold up.
func (p *progress) close() {
	close(p.stop)
	p.ticking.Wait()
	p.out.close()
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

// draw writes the step that runs as the terminal's last line, cut to its width: a
// line that wraps could not be written over.
func (p *progress) draw() {
	if !p.live || p.current == nil {
		return
	}
	s := p.current
	text := fmt.Sprintf("  %-26s … %s%s", plain.Line(s.name), shortTime(p.clock.Since(s.since)), s.again())
	if width, _, err := term.GetSize(int(p.file.Fd())); err == nil && width > 0 {
		text = string([]rune(text)[:min(len([]rune(text)), width-1)])
	}
	_, _ = io.WriteString(p.out, eraseLine+text)
}

// again returns the attempt, from the second on.
func (s *shownStep) again() string {
	if s.attempt < 2 {
		return ""
	}
	return fmt.Sprintf("  (attempt %d)", s.attempt)
}

// shortTime returns a duration in seconds, or rounded to seconds if it is long.
func shortTime(d time.Duration) string {
	if d < 100*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// line writes a finished line.
func (p *progress) line(format string, args ...any) {
	var b strings.Builder
	if p.live {
		b.WriteString(eraseLine)
	}
	_, _ = plain.Fprintf(&b, format+"\n", args...)
	_, _ = io.WriteString(p.out, b.String())
	p.draw()
}

func (p *progress) begin(playbook, id string, resumed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	verb, status := "run", "new"
	if resumed {
		verb, status = "continuing run", "resumed"
	}
	if p.json {
		writeEvent(p.out, event{Event: "begin", Run: id, Name: playbook, Status: status})
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
		p.started(r)
	case journal.StepDone:
		p.done(r)
	case journal.StepFailed:
		p.failed(r)
	case journal.UndoDone:
		delete(p.left, r.N)
		p.cleanUp(r.At)
	case journal.UndoFailed:
		p.left[r.N] = r.Error
		p.cleanUp(r.At)
	case journal.RunEnding:
		p.current = nil
	case journal.Logged:
		p.logged(r)
	}
}

func (p *progress) started(r journal.StepStarted) {
	p.cleanedUp(r.At)
	p.showHeld()
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
}

func (p *progress) done(r journal.StepDone) {
	if s := p.steps[r.Step]; s != nil {
		p.current = nil
		p.show(s, event{Status: "done"}, r.At)
	}
}

// show shows the state of a step at an instant; with e.Until it is attempted again then.
func (p *progress) show(s *shownStep, e event, at time.Time) {
	took := at.Sub(s.since)
	if p.json {
		e.Event, e.Step, e.Attempt, e.Seconds = "step", s.name, s.attempt, took.Seconds()
		writeEvent(p.out, e)
		return
	}
	again := ""
	if e.Until != nil {
		e.Status, again = "failed", "  again in "+shortTime(e.Until.Sub(at))
	}
	p.line("  %-26s %s  %s%s%s", s.name, e.Status, shortTime(took), s.again(), again)
}

// failed shows an attempt that failed. Its error is shown when the run continues;
// if the run ends with it, the outcome shows it.
func (p *progress) failed(r journal.StepFailed) {
	s := p.steps[r.Step]
	if s == nil {
		return
	}
	p.current, p.held = nil, r.Error
	if r.Final || r.NextAt.Sub(r.At) >= run.InProcess {
		p.show(s, event{Status: "failed", Error: r.Error}, r.At)
		return
	}
	p.show(s, event{Status: "retrying", Until: &r.NextAt, Error: r.Error}, r.At)
	p.showHeld()
	p.current = s
	p.draw()
}

func (p *progress) showHeld() {
	if p.held != nil && !p.json {
		p.line("    %s", p.held)
	}
	p.held = nil
}

// cleanUp notes that the clean-up has been under way since at.
func (p *progress) cleanUp(at time.Time) {
	if p.cleaning == nil {
		p.cleaning = &shownStep{name: "cleaning_up", since: at}
	}
	p.current = p.cleaning
	p.draw()
}

// cleanedUp shows how the clean-up that was under way has ended.
func (p *progress) cleanedUp(at time.Time) {
	if p.cleaning == nil {
		return
	}
	s := p.cleaning
	p.cleaning, p.current = nil, nil
	if len(p.left) == 0 {
		p.show(s, event{Status: "done"}, at)
		return
	}
	for _, n := range slices.Sorted(maps.Keys(p.left)) {
		p.show(s, event{Status: "failed", Error: p.left[n]}, at)
		if !p.json {
			p.line("    %s", p.left[n])
		}
	}
}

func (p *progress) logged(r journal.Logged) {
	var fields map[string]any
	_ = json.Unmarshal(r.Fields, &fields)
	if fields[run.EventKey] == run.EventCleanUp {
		p.cleanUp(r.At)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(r.Level)); err != nil || level < p.min || fields[run.EventKey] != nil {
		return // the other records show it already
	}
	if p.json {
		writeEvent(p.out, event{Event: "log", Step: r.Step, Level: r.Level, Message: r.Message, Fields: r.Fields})
		return
	}
	p.line("    %s: %s%s", r.Level, r.Message, fieldText(r.Fields))
}

// fieldText returns a log line's fields as key=value.
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
		if key != run.EventKey {
			fmt.Fprintf(&b, "  %v=%v", key, value)
		}
	}
	return b.String()
}

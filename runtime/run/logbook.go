package run

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// EventKey marks, in the journal, the log lines that repeat what the journal's other
// records have: for readers, not for those who follow the records.
const EventKey = journal.EventField

// The values of EventKey.
const (
	EventStep    = "step"     // what became of a step or of a call
	EventCleanUp = "clean-up" // what became of the clean-up
	EventRun     = "run"      // how the run ended
)

// What a run's log holds at most of lines by scripts and modules. The engine's own lines
// do not count: there are as many as there are records.
const (
	MostLogLines = 10_000
	MostLogBytes = 8 << 20
)

// mostLine bounds a line's message, and its fields, in bytes.
const mostLine = 8 << 10

// logbook is the run's log. A line is redacted, tagged with run and step, bounded, and
// journaled; then it is passed on to the daemon's log and to the renewal.logs of the hosts
// that the run works on.
type logbook struct {
	rec      *recorder
	redactor *secret.Redactor
	step     func() string // the label of the step that runs, "" outside of one
	renewals *renewalLog

	engine *slog.Logger // what the engine logs
	script *slog.Logger // what scripts and modules log: bounded

	about    *step      // the step that the lines are about, if not the one that runs
	buffered *[]logLine // takes the lines that go with a record; see commitStep
	used     journal.LogSize
	dropped  int // lines, by this process
}

func newLogbook(rec *recorder, opt *Options, m *marks, step func() string) *logbook {
	b := &logbook{rec: rec, redactor: opt.Redactor, step: step, used: opt.History.LogSize}
	next := opt.Logger.Handler()
	b.engine = slog.New(opt.Redactor.Handler(&logHandler{book: b, next: next}))
	b.script = slog.New(opt.Redactor.Handler(&logHandler{book: b, next: next, bounded: true}))
	b.renewals = &renewalLog{account: opt.Account, marks: m, log: b.engine}
	return b
}

// logHandler is the way of a line into a logbook. It sees lines that are redacted already.
type logHandler struct {
	book    *logbook
	next    slog.Handler
	attrs   []slog.Attr
	bounded bool // the lines are a script's or a module's, not the engine's
}

// Enabled implements [slog.Handler].
func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelDebug }

// Handle implements [slog.Handler].
func (h *logHandler) Handle(ctx context.Context, rec slog.Record) error {
	line, err := h.line(rec)
	if err != nil {
		return err
	}
	b := h.book
	if b.buffered != nil {
		*b.buffered = append(*b.buffered, line)
		return nil
	}
	if h.bounded && !b.admit(line.entry) {
		return nil
	}
	// Past the recorder: a full history has room for the log, which has bounds of its own.
	if err := b.rec.journal.WriteLazy(context.WithoutCancel(ctx), line.entry); err != nil {
		return err
	}
	return line.pass(ctx)
}

func (h *logHandler) line(rec slog.Record) (logLine, error) {
	fields := map[string]any{}
	for _, a := range h.attrs {
		fields[a.Key] = plainAttr(a.Value)
	}
	rec.Attrs(func(a slog.Attr) bool {
		fields[a.Key] = plainAttr(a.Value)
		return true
	})
	entry := journal.Logged{
		Stamp: h.book.rec.stamp(), Level: strings.ToLower(rec.Level.String()), Step: h.book.label(),
		Message: cut(rec.Message),
	}
	if len(fields) > 0 {
		raw, err := json.Marshal(fields)
		if err != nil {
			return logLine{}, err
		}
		entry.Fields = raw
		if h.bounded {
			entry.Fields = scriptFields(raw)
		}
	}
	return logLine{h: h, rec: rec, entry: entry}, nil
}

// WithAttrs implements [slog.Handler].
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *h
	out.next, out.attrs = h.next.WithAttrs(attrs), append(slices.Clip(h.attrs), attrs...)
	return &out
}

// WithGroup implements [slog.Handler].
func (h *logHandler) WithGroup(name string) slog.Handler {
	out := *h
	out.next = h.next.WithGroup(name)
	return &out
}

// logLine is a line that is, or will be, in the journal.
type logLine struct {
	h     *logHandler
	rec   slog.Record
	entry journal.Logged
}

// pass hands the line to what listens beside the journal.
func (l logLine) pass(ctx context.Context) error {
	l.h.book.renewals.line(l.entry)
	if !l.h.next.Enabled(ctx, l.rec.Level) {
		return nil
	}
	rec := l.rec.Clone()
	rec.Message = l.entry.Message
	rec.AddAttrs(slog.String("run", l.entry.Run))
	if l.entry.Step != "" {
		rec.AddAttrs(slog.String("step", l.entry.Step))
	}
	return l.h.next.Handle(ctx, rec)
}

func (b *logbook) label() string {
	if b.about != nil {
		return b.about.label()
	}
	return b.step()
}

// logStep logs what became of a step.
func (b *logbook) logStep(s *step, level slog.Level, what string, args ...any) {
	b.about = s
	b.engine.Log(context.Background(), level, what, append([]any{EventKey, EventStep}, args...)...)
	b.about = nil
}

// commitStep journals how a step ended and, in the same commit, the log line about it.
func (b *logbook) commitStep(ctx context.Context, s *step, rec journal.Record, level slog.Level, what string, args ...any) error {
	var lines []logLine
	b.buffered = &lines
	b.logStep(s, level, what, args...)
	b.buffered = nil
	recs := []journal.Record{rec}
	for _, l := range lines {
		recs = append(recs, l.entry)
	}
	if err := b.rec.write(ctx, recs...); err != nil {
		return err
	}
	for _, l := range lines {
		_ = l.pass(ctx) // as slog itself does: a listener's trouble is not the run's
	}
	return nil
}

// admit reports whether the log has room for a script's line.
func (b *logbook) admit(line journal.Logged) bool {
	size := int64(len(line.Message) + len(line.Fields))
	if b.used.Lines >= MostLogLines || b.used.Bytes+size > MostLogBytes {
		b.dropped++
		return false
	}
	b.used.Lines++
	b.used.Bytes += size
	return true
}

// logDropped logs how many lines this process has dropped.
func (b *logbook) logDropped() {
	if n := b.dropped; n > 0 {
		b.dropped = 0
		b.engine.Warn(fmt.Sprintf("%d lines dropped", n), "reason", fmt.Sprintf("a run's log has at most %d lines and %d MiB", MostLogLines, MostLogBytes>>20))
	}
}

// longestAsked is how long a peer may ask to be left alone: it may be mistaken, or hostile.
const longestAsked = 24 * time.Hour

// redacted returns an error as it may be logged and journaled: without secrets, with
// texts of a line's length at most, and with a wait that is believable.
func (b *logbook) redacted(err error) *problem.Error {
	e := shortened(b.redactor.Problem(problem.From(err)))
	if most := b.rec.clock.Now().Add(longestAsked); e.RetryAfter.After(most) {
		e.RetryAfter = most
	}
	return e
}

// masked returns a module's error as a script may see it: a peer may have sent back what
// it was sent.
func (b *logbook) masked(err error) error {
	if isControl(err) {
		return err
	}
	return b.redacted(err)
}

func plainAttr(v slog.Value) any {
	v = v.Resolve()
	switch v.Kind() {
	case slog.KindGroup:
		group := map[string]any{}
		for _, a := range v.Group() {
			group[a.Key] = plainAttr(a.Value)
		}
		return group
	case slog.KindBool, slog.KindFloat64, slog.KindInt64, slog.KindUint64:
		return v.Any()
	default:
		return cut(v.String())
	}
}

// scriptFields bounds the fields of a script's line. None of them can pass for the engine's.
func scriptFields(raw json.RawMessage) json.RawMessage {
	raw = bytes.ReplaceAll(raw, []byte(`"`+EventKey+`":`), []byte(`"event":`))
	if len(raw) <= mostLine {
		return raw
	}
	short, err := json.Marshal(map[string]string{"fields": cut(string(raw))})
	if err != nil {
		return nil
	}
	return short
}

func cut(text string) string {
	if len(text) <= mostLine {
		return text
	}
	return fmt.Sprintf("%s… %d bytes more", strings.ToValidUTF8(text[:mostLine], ""), len(text)-mostLine)
}

// shorten cuts a text, unless it is one that was cut.
func shorten(text string) string {
	const suffix = 64
	if len(text) <= mostLine+suffix {
		return text
	}
	return cut(text)
}

// shortened returns e with its texts cut to what a log line may have.
func shortened(e *problem.Error) *problem.Error {
	if e == nil {
		return nil
	}
	out := *e
	for _, text := range []*string{&out.Message, &out.Server, &out.Hint, &out.Target, &out.Tracking, &out.Key, &out.Call} {
		*text = shorten(*text)
	}
	return &out
}

package run

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"

	"moonseal/runtime/journal"
)

// logHandler tags a run's log lines with run and step, and journals them beside
// giving them to the next handler. It sees lines that are redacted already.
type logHandler struct {
	run    *Run
	next   slog.Handler
	attrs  []slog.Attr
	script bool // the lines are a script's or a module's, not the engine's: they are bounded
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelDebug }

func (h *logHandler) Handle(ctx context.Context, rec slog.Record) error {
	fields := map[string]any{}
	add := func(a slog.Attr) bool {
		fields[a.Key] = plainAttr(a.Value)
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	rec.Attrs(add)
	line := journal.Logged{Stamp: h.run.stamp(), Level: strings.ToLower(rec.Level.String()), Step: h.run.label(), Message: cut(rec.Message)}
	if len(fields) > 0 {
		raw, err := json.Marshal(fields)
		if err != nil {
			return err
		}
		line.Fields = raw
		if h.script {
			line.Fields = scriptFields(raw)
		}
	}
	said := logLine{h: h, rec: rec, line: line}
	if h.run.buffered != nil {
		*h.run.buffered = append(*h.run.buffered, said)
		return nil
	}
	if h.script && !h.run.room.take(line) {
		return nil
	}
	if err := h.run.opt.Journal.WriteLazy(context.WithoutCancel(ctx), line); err != nil {
		return err
	}
	return said.pass(ctx)
}

// logLine is a line that is, or will be, in the journal.
type logLine struct {
	h    *logHandler
	rec  slog.Record
	line journal.Logged
}

// pass returns the line to those who listen beside the journal.
func (s logLine) pass(ctx context.Context) error {
	s.h.run.renewalLog(s.line)
	if !s.h.next.Enabled(ctx, s.rec.Level) {
		return nil
	}
	rec := s.rec.Clone()
	rec.Message = s.line.Message
	rec.AddAttrs(slog.String("run", s.line.Run))
	if s.line.Step != "" {
		rec.AddAttrs(slog.String("step", s.line.Step))
	}
	return s.h.next.Handle(ctx, rec)
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

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *h
	out.next, out.attrs = h.next.WithAttrs(attrs), append(slices.Clip(h.attrs), attrs...)
	return &out
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	out := *h
	out.next = h.next.WithGroup(name)
	return &out
}

// EventKey marks, in the journal, the log lines that tell what the journal's
// other records tell too: for readers, not for those who follow the records.
const EventKey = journal.EventField

// The values of EventKey.
const (
	EventStep    = "step"     // what became of a step or of a call
	EventCleanUp = "clean-up" // what became of the clean-up
	EventRun     = "run"      // how the run ended
)

// Warn writes into the run's log why it does less than it should.
func (r *Run) Warn(message string, why error) { r.logger.Warn(message, "error", why.Error()) }

// commitStep journals how a step ended and, in the same commit, the log line that
// tells of it.
func (r *Run) commitStep(ctx context.Context, s *step, rec journal.Record, level slog.Level, what string, args ...any) error {
	var lines []logLine
	r.buffered = &lines
	r.logStep(s, level, what, args...)
	r.buffered = nil
	recs := []journal.Record{rec}
	for _, l := range lines {
		recs = append(recs, l.line)
	}
	if err := r.write(ctx, recs...); err != nil {
		return err
	}
	for _, l := range lines {
		_ = l.pass(ctx) // as slog itself does: a listener's trouble is not the run's
	}
	return nil
}

// logStep logs what became of a step.
func (r *Run) logStep(s *step, level slog.Level, what string, args ...any) {
	current := r.current
	r.current = s
	r.logger.Log(context.Background(), level, what, append([]any{EventKey, EventStep}, args...)...)
	r.current = current
}

// label names the step that runs, "" outside of one.
func (r *Run) label() string {
	if r.current == nil {
		return ""
	}
	return r.current.label()
}

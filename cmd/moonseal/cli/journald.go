package cli

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
)

// journald writes lines as journald reads them from a service's stderr: each
// starts with its syslog level (sd-daemon(3)), and has no time.
type journald struct {
	mu   *sync.Mutex
	w    io.Writer
	buf  *bytes.Buffer
	text slog.Handler
}

func newJournald(w io.Writer, opts *slog.HandlerOptions, form func(io.Writer, *slog.HandlerOptions) slog.Handler) *journald {
	o := *opts
	o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}
	buf := &bytes.Buffer{}
	return &journald{mu: &sync.Mutex{}, w: w, buf: buf, text: form(buf, &o)}
}

func (j *journald) Enabled(ctx context.Context, l slog.Level) bool { return j.text.Enabled(ctx, l) }

func (j *journald) Handle(ctx context.Context, r slog.Record) error {
	prefix := "<6>"
	switch {
	case r.Level >= slog.LevelError:
		prefix = "<3>"
	case r.Level >= slog.LevelWarn:
		prefix = "<4>"
	case r.Level < slog.LevelInfo:
		prefix = "<7>"
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf.Reset()
	j.buf.WriteString(prefix)
	if err := j.text.Handle(ctx, r); err != nil {
		return err
	}
	_, err := j.w.Write(j.buf.Bytes())
	return err
}

func (j *journald) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *j
	out.text = j.text.WithAttrs(attrs)
	return &out
}

func (j *journald) WithGroup(name string) slog.Handler {
	out := *j
	out.text = j.text.WithGroup(name)
	return &out
}

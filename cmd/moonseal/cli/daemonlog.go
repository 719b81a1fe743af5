package cli

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"

	"moonseal/runtime/config"
	"moonseal/runtime/plain"
)

// liveLog is a log handler whose level and format can change while it is used.
type liveLog struct {
	current *atomic.Pointer[slog.Handler]
	with    []func(slog.Handler) slog.Handler // what loggers have added since
}

func newLiveLog() *liveLog { return &liveLog{current: &atomic.Pointer[slog.Handler]{}} }

// use makes h what lines go to from now on.
func (l *liveLog) use(h slog.Handler) { l.current.Store(&h) }

func (l *liveLog) handler() slog.Handler {
	h := *l.current.Load()
	for _, with := range l.with {
		h = with(h)
	}
	return h
}

// Enabled implements [slog.Handler].
func (l *liveLog) Enabled(ctx context.Context, level slog.Level) bool {
	return (*l.current.Load()).Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (l *liveLog) Handle(ctx context.Context, r slog.Record) error { return l.handler().Handle(ctx, r) }

// WithAttrs implements [slog.Handler].
func (l *liveLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return l.and(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (l *liveLog) WithGroup(name string) slog.Handler {
	return l.and(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (l *liveLog) and(with func(slog.Handler) slog.Handler) slog.Handler {
	return &liveLog{l.current, append(slices.Clip(l.with), with)}
}

// logHandler returns the handler of the daemon's log: under systemd with journald's
// levels and without the time, which journald adds.
func (w *wiring) logHandler() slog.Handler {
	opts := &slog.HandlerOptions{Level: w.cfg.Log.Level}
	form := func(out io.Writer, opts *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(out, opts) }
	if w.cfg.Log.Format == config.LogJSON {
		form = func(out io.Writer, opts *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(out, opts) }
	}
	raw := plain.Raw(w.stderr) // both forms escape by themselves
	if w.getenv("JOURNAL_STREAM") == "" {
		return form(raw, opts)
	}
	return newJournald(raw, opts, form)
}

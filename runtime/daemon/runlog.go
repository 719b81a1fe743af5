package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"

	"moonseal/runtime/journal"
	"moonseal/runtime/run"
)

// observe passes a record to the followers of its run and, if it is a log line, to the
// daemon's log.
func (d *Daemon) observe(rec journal.Record) {
	d.hub.publish(rec)
	if line, ok := rec.(journal.Logged); ok {
		logLine(d.log, line)
	}
}

// logLine writes a line of a run into the daemon's log. The outcome of a run is left out:
// the daemon logs it itself. The end of a step, good or bad, is debug here.
func logLine(log *slog.Logger, line journal.Logged) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(line.Level)); err != nil {
		return
	}
	ctx := context.Background()
	quiet := !log.Enabled(ctx, slog.LevelDebug)
	if !log.Enabled(ctx, level) || quiet && level <= slog.LevelInfo && bytes.Contains(line.Fields, []byte(`"`+run.EventKey+`":`)) {
		return // decided without decoding the line: there is one for each step
	}
	var fields map[string]any
	dec := json.NewDecoder(bytes.NewReader(line.Fields))
	dec.UseNumber()         // 1000000 is not 1e+06
	_ = dec.Decode(&fields) // a line may have none
	switch event := fields[run.EventKey]; {
	case event == run.EventRun:
		return
	case event == run.EventStep && level != slog.LevelWarn, event != nil && level == slog.LevelInfo:
		level = slog.LevelDebug
	}
	delete(fields, run.EventKey)
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("run", line.Run)}
	if line.Step != "" {
		attrs = append(attrs, slog.String("step", line.Step))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		attrs = append(attrs, slog.Any(name, fields[name]))
	}
	log.LogAttrs(ctx, level, line.Message, attrs...)
}

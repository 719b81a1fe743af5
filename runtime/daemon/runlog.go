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

// observe tells those who follow a run, and the daemon's log, of a record.
func (d *Daemon) observe(rec journal.Record) {
	d.hub.publish(rec)
	if line, ok := rec.(journal.Logged); ok {
		d.logged(line)
	}
}

// logged writes a line of a run into the daemon's log. How a run ended, and of
// what, the daemon says itself; that a step has ended, well or not, is debug here.
func (d *Daemon) logged(line journal.Logged) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(line.Level)); err != nil {
		return
	}
	ctx := context.Background()
	quiet := !d.log.Enabled(ctx, slog.LevelDebug)
	if !d.log.Enabled(ctx, level) || quiet && level <= slog.LevelInfo && bytes.Contains(line.Fields, []byte(`"`+run.EventKey+`":`)) {
		return // known without a look at what it says: there is one for each step
	}
	var fields map[string]any
	dec := json.NewDecoder(bytes.NewReader(line.Fields))
	dec.UseNumber()         // 1000000 is not 1e+06
	_ = dec.Decode(&fields) // none where there are none
	switch event := fields[run.EventKey]; {
	case event == run.EventRun:
		return
	case event == run.EventStep && level != slog.LevelWarn, event != nil && level == slog.LevelInfo:
		level = slog.LevelDebug
	}
	delete(fields, run.EventKey)
	if !d.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("run", line.Run)}
	if line.Step != "" {
		attrs = append(attrs, slog.String("step", line.Step))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		attrs = append(attrs, slog.Any(name, fields[name]))
	}
	d.log.LogAttrs(ctx, level, line.Message, attrs...)
}

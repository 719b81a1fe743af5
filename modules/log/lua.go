// Package log is the module with which scripts write log lines.
package log

import (
	"log/slog"

	"moonseal/runtime/bind"
)

type args struct {
	Message string         `lua:"message" doc:"the text"`
	Fields  map[string]any `lua:"fields,optional" doc:"what belongs to it, by key"`
}

// Module describes the module to the engine.
func Module() *bind.Module {
	level := func(name string, l slog.Level, doc, example string) *bind.Func {
		return &bind.Func{Name: name, Doc: doc, Example: example, Impl: bind.Free(func(c *bind.Call, a *args) error {
			return write(c, l, a)
		})}
	}
	return &bind.Module{
		Name: "log",
		Doc: "Writes log lines. They go to the daemon's log, to the run's (`moonseal logs RUN`) and to the `renewal.log` of the host that the run works on, " +
			"tagged with run and step. Known secrets are masked. A line that was written before a crash is not written again when the run resumes.",
		Functions: []*bind.Func{
			level("debug", slog.LevelDebug, "Logs detail for troubleshooting.", `log.debug("asked the nameservers", { servers = 2 })`),
			level("info", slog.LevelInfo, "Logs what happened.", `log.info("certificate is due", { days_left = 12 })`),
			level("warn", slog.LevelWarn, "Logs what needs attention soon.", `log.warn "the appliance's clock is slow"`),
			level("error", slog.LevelError, "Logs what went wrong.", `log.error("gave up", { host = "cucm01" })`),
		},
	}
}

func write(c *bind.Call, l slog.Level, a *args) error {
	c.Log.LogAttrs(c.Context, l, a.Message, bind.Attrs(a.Fields)...)
	return nil
}

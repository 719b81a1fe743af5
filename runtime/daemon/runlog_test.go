package daemon

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"moonseal/runtime/journal"
	"moonseal/runtime/queue"
	"moonseal/runtime/run"
)

// What runs log is in the daemon's log too, with run and step.
func TestRunsLogToTheDaemonsLog(t *testing.T) {
	h := newHouse(t, time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	h.start()
	say := func(level, message, fields string) {
		h.exec.observe(journal.Logged{Stamp: journal.Stamp{Run: "r1"}, Level: level, Step: "uploading", Message: message, Fields: json.RawMessage(fields)})
	}
	say("warn", "the clock is slow", `{"host":"cucm01","by":3000000}`)
	say("info", "a step is done", `{"_event":"step"}`)
	say("warn", "retrying", `{"_event":"step","attempt":2}`)
	say("error", "failed", `{"_event":"step"}`)
	say("error", "clean-up failed; it is kept", `{"_event":"clean-up"}`)
	say("info", "run done", `{"_event":"run"}`)
	say("error", "the run's process died", ``)

	for message, want := range map[string]map[string]string{
		"the clock is slow":           {"level": "WARN", "run": "r1", "step": "uploading", "host": "cucm01", "by": "3000000"},
		"a step is done":              {"level": "DEBUG", "run": "r1"}, // many, and status shows them
		"retrying":                    {"level": "WARN", "attempt": "2"},
		"failed":                      {"level": "DEBUG"}, // the daemon logs that the run has failed, and why
		"clean-up failed; it is kept": {"level": "ERROR"},
		"the run's process died":      {"level": "ERROR", "run": "r1"},
	} {
		lines := h.log.of(message)
		if len(lines) != 1 {
			t.Fatalf("%q was logged %d times", message, len(lines))
		}
		for key, value := range want {
			if got := lines[0].args[key]; got != value {
				t.Errorf("%q: %s is %q, want %q", message, key, got, value)
			}
		}
		if _, ok := lines[0].args["_event"]; ok {
			t.Errorf("%q shows what is for readers of the journal", message)
		}
	}
	if lines := h.log.of("run done"); len(lines) > 0 {
		t.Errorf("the daemon logs it itself: %v", lines)
	}
}

// The log names the runs that a stop has interrupted, and that they continue.
func TestStopLogsWhatContinues(t *testing.T) {
	h := newHouse(t, time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	h.start()
	stopping, stop := context.WithCancel(t.Context())
	stop()
	h.daemon.runs.after(stopping, queue.Job{Run: "r1", Playbook: "dfw"}, &run.Outcome{Status: run.Replaying})
	h.daemon.runs.stopped(stopping, queue.Job{Run: "r2", Playbook: "lab"}, context.Canceled)
	lines := h.log.of("run interrupted; it continues at the next start")
	if len(lines) != 2 || lines[0].args["run"] != "r1" || lines[0].args["playbook"] != "dfw" || lines[1].args["run"] != "r2" || lines[1].args["level"] != "INFO" {
		t.Errorf("logged: %v", lines)
	}
	if lines := h.log.of("run replaying"); len(lines) > 0 {
		t.Error("it logs what only the engine understands")
	}
}

package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"moonseal/runtime/journal"
	"moonseal/runtime/run"
)

// Bounds of the log of one run, beyond those that its process enforces itself: only a
// process under foreign control reaches them.
const (
	mostLogLine  = 128 << 10 // bytes of a line: the engine's has several fields, and what is not UTF-8 grows on its way
	mostLogLines = run.MostLogLines + 1000
	mostLogBytes = run.MostLogBytes + 1<<20
	// Of the lines that repeat what other records say.
	mostEventLines = 250_000
	mostEventBytes = 32 << 20
)

// logRoom is the size of a run's log, and how many lines were dropped.
type logRoom struct {
	used    journal.LogSize
	dropped int
}

// add counts a line. It reports whether there is room for it.
func (l *logRoom) add(line journal.Logged) bool {
	size := int64(len(line.Level) + len(line.Step) + len(line.Message) + len(line.Fields))
	lines, used, mostLines, most := &l.used.Lines, &l.used.Bytes, mostLogLines, int64(mostLogBytes)
	if bytes.Contains(line.Fields, []byte(`"`+journal.EventField+`":`)) {
		lines, used, mostLines, most = &l.used.EventLines, &l.used.EventBytes, mostEventLines, mostEventBytes
	}
	if size > mostLogLine || *lines >= mostLines || *used+size > most {
		l.dropped++
		return false
	}
	*lines++
	*used += size
	return true
}

// fitting returns recs without the lines for which the run's log has no room.
func (l *logRoom) fitting(recs []journal.Record) []journal.Record {
	return slices.DeleteFunc(recs, func(r journal.Record) bool {
		line, ok := r.(journal.Logged)
		return ok && !l.add(line)
	})
}

// logDropped logs, once for the child, how many of its lines were dropped. If the run was
// adopted since, the write is refused.
func (s *session) logDropped(ctx context.Context) {
	n := s.logs.dropped
	if n == 0 {
		return
	}
	s.logs.dropped = 0
	reason := fmt.Sprintf("a run's log has at most %d lines and %d MiB, and a line at most %d KiB; the process exceeded that",
		mostLogLines, mostLogBytes>>20, mostLogLine>>10)
	fields, err := json.Marshal(map[string]string{"reason": reason})
	if err != nil {
		return
	}
	stamp := journal.Stamp{Run: s.run, Epoch: s.epoch, At: s.parent.Clock.Now().UTC()}
	line := journal.Logged{Stamp: stamp, Level: "warn", Message: fmt.Sprintf("%d lines dropped", n), Fields: fields}
	_ = s.parent.write(context.WithoutCancel(ctx), line)
}

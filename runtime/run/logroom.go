package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"moonseal/runtime/journal"
)

// Bounds of a run's log. The engine's own lines do not count: there are as many as there
// are records.
const (
	mostLine  = 8 << 10 // bytes of a line's message, and of its fields
	mostLines = MostLogLines
	mostBytes = MostLogBytes
)

// What a run's log holds at most of lines by scripts and modules.
const (
	MostLogLines = 10_000
	MostLogBytes = 8 << 20
)

// logRoom is what a run's log has of lines by scripts and modules.
type logRoom struct {
	used    journal.LogSize
	dropped int // lines, of this process
}

// take reports whether there is room for a line.
func (l *logRoom) take(line journal.Logged) bool {
	size := int64(len(line.Message) + len(line.Fields))
	if l.used.Lines >= mostLines || l.used.Bytes+size > mostBytes {
		l.dropped++
		return false
	}
	l.used.Lines++
	l.used.Bytes += size
	return true
}

// logDropped says how many lines this process has dropped.
func (r *Run) logDropped() {
	if n := r.room.dropped; n > 0 {
		r.room.dropped = 0
		r.logger.Warn(fmt.Sprintf("%d lines dropped", n), "reason", fmt.Sprintf("a run's log has at most %d lines and %d MiB", mostLines, mostBytes>>20))
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
